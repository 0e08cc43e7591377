"""The pictures of a report, as matplotlib figures that know nothing of files or HTML."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy.sparse import csr_array

from ltk.data.statistics import tolerate_missing_glyphs
from ltk.evaluation.assessment import ClassRow
from ltk.evaluation.calibration import Reliability
from ltk.evaluation.summary import Summary
from ltk.evaluation.tune import TuningCurve

COLOURS = ("#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951", "#ff8ab7", "#a463f2", "#97bbf5", "#9c6b4e")
_GREY, _LIGHT = "#59636e", "#d9dee3"
_WIDTH, _HEIGHT = 5.2, 3.0  # inches; 374 units wide, so that a phone shows it one to one
_MOST_NAMES = 24  # classes that can be named along an axis
_MOST_DOTS = 200  # classes that get a dot each
_STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": _GREY,
    "axes.labelcolor": _GREY,
    "xtick.color": _GREY,
    "ytick.color": _GREY,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "svg.fonttype": "none",
    "svg.hashsalt": "ltk",
    "figure.dpi": 72,
}
_UNREFERENCED = re.compile(r' id="[^"]*_\d+"|<metadata>.*?</metadata>', re.DOTALL)


_styled = mpl.rc_context(_STYLE)  # a context manager that decorates


def _create(height: float = _HEIGHT) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    return figure, figure.add_subplot()


@_styled
@tolerate_missing_glyphs()
def render_svg(figure: Figure) -> str:
    """Return a figure as an ``<svg>`` element that can stand in a page beside others."""
    text = io.StringIO()
    figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    svg = text.getvalue()
    return _UNREFERENCED.sub("", svg[svg.index("<svg") :])


@_styled
@tolerate_missing_glyphs()
def render_png(figure: Figure, dots_per_inch: int = 200) -> bytes:
    """Return a figure as a PNG file."""
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=dots_per_inch, facecolor="white")
    return data.getvalue()


@_styled
def draw_classes(classes: Sequence[ClassRow]) -> Figure:
    """Draw training images per class (grey, logarithmic) with accuracy over them (dots), most frequent first.

    Beyond 200 classes a dot is the mean of neighbouring classes.
    """
    rows = sorted(classes, key=lambda row: -row.n_train)
    figure, axes = _create()
    edges = np.arange(len(rows) + 1) - 0.5
    axes.stairs([max(row.n_train, 0.5) for row in rows], edges, fill=True, color=_LIGHT, baseline=0.5)
    axes.set_yscale("log")
    axes.set_ylabel("training images (grey)")
    _name_classes(axes, [row.name for row in rows], "classes, most frequent first")
    above = axes.twinx()
    above.spines["right"].set_visible(True)
    if len(rows) > _MOST_DOTS:
        above.plot(*_mean_accuracies(rows), "o", color=COLOURS[0], markersize=3)
    else:
        _draw_accuracies(above, rows)
    above.set_ylim(0, 103)
    above.set_ylabel("accuracy in % (dots)")
    return figure


def _draw_accuracies(axes: Axes, rows: Sequence[ClassRow]) -> None:
    for i, row in enumerate(rows):
        if row.accuracy is None or row.interval is None:
            continue
        low, high = row.interval
        axes.plot([i, i], [100 * low, 100 * high], color=COLOURS[0], linewidth=0.8)
        axes.plot([i], [100 * row.accuracy], "o", color=COLOURS[0], markersize=3.5 if len(rows) <= 50 else 2)


def _mean_accuracies(rows: Sequence[ClassRow]) -> tuple[list[float], list[float]]:
    """Mean place and mean accuracy, in percent, of 60 stretches of neighbouring classes."""
    places, means = [], []
    for part in np.array_split(np.arange(len(rows)), 60):
        known = [100 * accuracy for i in part if (accuracy := rows[i].accuracy) is not None]
        if known:
            places.append(float(part.mean()))
            means.append(float(np.mean(known)))
    return places, means


@_styled
def draw_groups(summaries: Mapping[str, Summary]) -> Figure:
    """Draw accuracy by group with 95% intervals, one colour per model."""
    figure, axes = _create()
    width = 0.8 / len(summaries)
    groups = [row.group for row in next(iter(summaries.values())).rows]
    for i, (name, summary) in enumerate(summaries.items()):
        for g, row in enumerate(summary.rows):
            if row.top1 is None or row.interval is None:
                continue
            low, high = (100 * abs(edge - row.top1) for edge in row.interval)
            x = g + (i - (len(summaries) - 1) / 2) * width
            label = name if g == 0 else None
            axes.bar(x, 100 * row.top1, 0.92 * width, color=COLOURS[i % len(COLOURS)], label=label)
            axes.errorbar(x, 100 * row.top1, yerr=[[low], [high]], color="#1f2328", elinewidth=1, capsize=2)
    axes.set_xticks(range(len(groups)), [f"{group}\n{_size(summaries, group)}" for group in groups])
    axes.set_ylim(0, 103)
    axes.set_ylabel("top-1 in %")
    if len(summaries) > 1:
        figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure


def _size(summaries: Mapping[str, Summary], group: str) -> str:
    row = next(iter(summaries.values()))[group]
    return f"{row.classes} classes\n{row.images:,} images"


@_styled
def draw_confusion(matrix_KK: csr_array, names: Sequence[str]) -> Figure:
    """Draw the confusion matrix, each row a share of its class; for up to a few hundred classes."""
    counts = matrix_KK.toarray().astype(float)
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    figure, axes = _create(height=4.2)
    image = axes.imshow(100 * shares, cmap="Blues", vmin=0, vmax=100, interpolation="nearest")
    figure.colorbar(image, ax=axes, shrink=0.8, label="% of the true class")
    if len(names) <= _MOST_NAMES:
        short = [_shorten(name) for name in names]
        axes.set_xticks(range(len(names)), short, rotation=90)
        axes.set_yticks(range(len(names)), short)
    axes.set_xlabel("answer")
    axes.set_ylabel("true class")
    return figure


@_styled
def draw_reliability(table: Reliability) -> Figure:
    """Draw accuracy against confidence; the diagonal is perfect calibration."""
    figure, axes = _create()
    filled = table.images > 0
    centres = (table.edges[:-1] + table.edges[1:]) / 2
    width = 0.94 * (table.edges[1] - table.edges[0])
    axes.plot([0, 100], [0, 100], color=_GREY, linewidth=1, linestyle="--", label="perfectly calibrated")
    axes.bar(100 * centres[filled], 100 * table.accuracy[filled], 100 * width, color=COLOURS[0], alpha=0.85)
    share = table.images / max(1, table.images.sum())
    axes.bar(100 * centres, 100 * share, 50 * width, color=COLOURS[1], label="share of the images")
    axes.set_xlim(0, 100)
    axes.set_ylim(0, 103)
    axes.set_xlabel("confidence in %")
    axes.set_ylabel("accuracy in %")
    axes.legend(loc="upper left")
    return figure


@_styled
def draw_tuning(curves: Sequence[TuningCurve]) -> Figure:
    """Draw balanced accuracy against the strength of each correction, the chosen value marked."""
    figure, axes = _create()
    for i, curve in enumerate(curves):
        mark = " (oracle)" if curve.split == "test" else ""
        scores = [100 * score for score in curve.balanced]
        axes.plot(curve.values, scores, color=COLOURS[i % len(COLOURS)], label=f"{curve.adjust} on {curve.split}{mark}")
        axes.plot([curve.chosen], [scores[curve.values.index(curve.chosen)]], "o", color=COLOURS[i % len(COLOURS)])
    axes.set_xlabel("tau")
    axes.set_ylabel("balanced accuracy in %")
    axes.legend()
    return figure


@_styled
def draw_training(records: Sequence[Mapping[str, Any]]) -> Figure | None:
    """Draw loss and accuracy by epoch; None when nothing was recorded."""
    if not records:
        return None
    figure, axes = _create()
    losses = [(r["epoch"] + 1, r["loss"]) for r in records if "loss" in r]
    if losses:
        _plot_course(axes, losses, color=_GREY, linewidth=1, label="loss")
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_ylabel("training loss (grey)")
    above = axes.twinx()
    above.spines["right"].set_visible(True)
    split = next((name for name in ("val", "test") if any(name in r for r in records)), "test")
    for i, key in enumerate(("top1", "many", "medium", "few")):
        points = [(r["epoch"] + 1, 100 * r[split][key]) for r in records if r.get(split, {}).get(key) is not None]
        if points:
            label = "all" if key == "top1" else key
            _plot_course(above, points, color=COLOURS[i], linewidth=1.2, label=label)
    above.set_ylim(0, 103)
    above.set_ylabel(f"accuracy on {split} in %")
    figure.legend(*above.get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return figure


def _plot_course(axes: Axes, points: Sequence[tuple[float, float]], **style: Any) -> None:
    """Draw a line, or a dot where there is one point: a line of one is not seen."""
    axes.plot(*zip(*points, strict=True), marker="o" if len(points) == 1 else None, markersize=4, **style)


def _name_classes(axes: Axes, names: Sequence[str], fallback: str) -> None:
    if len(names) <= _MOST_NAMES:
        rotation = 90 if max(map(len, names)) > 3 else 0
        axes.set_xticks(range(len(names)), [_shorten(name) for name in names], rotation=rotation)
    else:
        axes.set_xlabel(fallback)


def _shorten(name: str) -> str:
    text = name if len(name) <= 14 else name[:13] + "…"
    return text.replace("$", r"\$")
