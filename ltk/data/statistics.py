"""Figures and pictures of class counts."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ltk.data.limits import GroupRule
from ltk.data.longtail import FEW, MANY, MEDIUM, assign_groups
from ltk.files import write_atomically

GROUP_NAMES = {MANY: "many", MEDIUM: "medium", FEW: "few"}
_EIGHTHS = " ▏▎▍▌▋▊▉█"


def gini(counts_K: npt.ArrayLike) -> float:
    """Return the Gini coefficient of class counts: 0 all equal, towards 1 all in one class."""
    counts = np.sort(np.asarray(counts_K, dtype=np.float64))
    rank = np.arange(1, len(counts) + 1)
    return float(2 * (rank * counts).sum() / (len(counts) * counts.sum()) - (len(counts) + 1) / len(counts))


@dataclass(frozen=True)
class GroupSummary:
    """Many, medium or few.

    Attributes:
        name: of the group.
        classes: how many.
        train: training images.
        test: test images.
        smallest: training images of its smallest class; None when it is empty.
        largest: as ``smallest``.
    """

    name: str
    classes: int
    train: int
    test: int
    smallest: int | None
    largest: int | None


def summarise_groups(train_K: npt.ArrayLike, test_K: npt.ArrayLike, groups: GroupRule) -> list[GroupSummary]:
    """Return many, medium and few, in this order."""
    train, test = np.asarray(train_K), np.asarray(test_K)
    group_K = assign_groups(train, groups)
    summaries = []
    for group, name in GROUP_NAMES.items():
        own = train[group_K == group]
        smallest, largest = (int(own.min()), int(own.max())) if len(own) else (None, None)
        tested = int(test[group_K == group].sum())
        summaries.append(GroupSummary(name, len(own), int(own.sum()), tested, smallest, largest))
    return summaries


def draw_bar(value: float, largest: float, width: int = 40) -> str:
    """Return a bar of block characters; anything above zero shows."""
    eighths = round(value / largest * width * 8) if largest else 0
    eighths = max(eighths, 1) if value > 0 else 0
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()


def draw_histogram(counts_K: Sequence[int], names: Sequence[str], *, rows: int = 20) -> list[tuple[str, str, str]]:
    """Return (classes, images per class, bar) from the largest class to the smallest.

    With more classes than rows, a row stands for neighbours in this order and shows their mean.
    """
    order = np.argsort(-np.asarray(counts_K), kind="stable")
    lines = []
    largest = float(max(counts_K))
    for own in np.array_split(order, min(rows, len(order))):
        counts = np.asarray(counts_K)[own]
        label = names[own[0]] if len(own) == 1 else f"{names[own[0]]} ... {names[own[-1]]} ({len(own)})"
        span = str(counts[0]) if counts[0] == counts[-1] else f"{counts[0]}-{counts[-1]}"
        lines.append((label, span, draw_bar(float(counts.mean()), largest)))
    return lines


@contextlib.contextmanager
def tolerate_missing_glyphs() -> Iterator[None]:
    """Let matplotlib draw letters that its fonts lack as boxes, without a warning for each."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+ .*missing from", UserWarning)
        yield


@tolerate_missing_glyphs()
def plot_counts(train_K: Sequence[int], test_K: Sequence[int], groups: GroupRule, path: Path, title: str) -> None:
    """Write a picture of the class counts, training above and test below, from the largest class to the smallest."""
    from matplotlib.figure import Figure

    order = np.argsort(-np.asarray(train_K), kind="stable")
    group_K = assign_groups(train_K, groups)[order]
    colours = np.array(["#4477aa", "#ddaa33", "#bb5566"])[group_K]
    figure = Figure(figsize=(9, 5), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.bar(np.arange(len(order)), np.asarray(train_K)[order], color=colours, width=1.0)
    upper.set_title(title, parse_math=False)
    upper.set(ylabel="training images", yscale="log", ylim=(0.7, None))
    for group, name in GROUP_NAMES.items():
        upper.bar(0, 0, color=["#4477aa", "#ddaa33", "#bb5566"][group], label=f"{name} ({(group_K == group).sum()})")
    upper.legend(title="classes")
    lower.bar(np.arange(len(order)), np.asarray(test_K)[order], color="#888888", width=1.0)
    lower.set(xlabel="class, from the largest to the smallest", ylabel="test images")
    data = io.BytesIO()
    figure.savefig(data, format=path.suffix.lower().removeprefix("."), dpi=120)
    write_atomically(path, data.getvalue())
