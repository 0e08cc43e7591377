"""The table at the top of an evaluation: all, many, medium and few, with counts and intervals."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ltk.evaluation.groups import Groups
from ltk.evaluation.logits import SavedLogits
from ltk.evaluation.metrics import (
    IntArray,
    class_totals,
    group_accuracies,
    target_ranks,
    wilson_interval,
)


@dataclass(frozen=True, slots=True)
class SummaryRow:
    """One group of classes; accuracies are fractions, None where there is no test image.

    Attributes:
        group: "all" or the name of the group.
        classes: how many classes it has.
        images: test images.
        train_images: training images.
        top1: share of test images classified correctly.
        interval: 95% interval of ``top1`` (Wilson).
        balanced: mean of the per-class accuracies.
        top5: share of test images whose class is among the five likeliest; None with five classes or fewer.
    """

    group: str
    classes: int
    images: int
    train_images: int
    top1: float | None
    interval: tuple[float, float] | None
    balanced: float | None
    top5: float | None


@dataclass(frozen=True, slots=True)
class Summary:
    """Accuracy over all classes and over each group.

    Attributes:
        rows: "all" first, then the groups.
        rule: how the groups were made.
    """

    rows: tuple[SummaryRow, ...]
    rule: str

    def __getitem__(self, group: str) -> SummaryRow:
        return next(row for row in self.rows if row.group == group)

    def as_dict(self) -> dict[str, dict[str, Any]]:
        """Return the rows by group, for JSON."""
        return {row.group: {key: value for key, value in asdict(row).items() if key != "group"} for row in self.rows}


def rank_targets(saved: SavedLogits) -> IntArray:
    """Return how many classes stand before the right one for each image, chunk by chunk."""
    return np.concatenate([target_ranks(saved.logits_NK[rows], saved.target_N[rows]) for rows in saved.chunks()])


def summarise(saved: SavedLogits, groups: Groups) -> Summary:
    """Return accuracy by group, computed from the saved logits.

    Args:
        saved: logits and labels of one split.
        groups: groups of the classes, from the *training* counts.
    """
    return summarise_ranks(rank_targets(saved), saved, groups)


def summarise_ranks(rank_N: IntArray, saved: SavedLogits, groups: Groups) -> Summary:
    """Return accuracy by group when the ranks of the right classes are already known.

    Args:
        rank_N: how many classes stand before the right one, for each image.
        saved: labels, class counts and names.
        groups: groups of the classes.
    """
    correct_K, total_K = class_totals(rank_N < 1, saved.target_N, saved.num_classes)
    top1 = group_accuracies(correct_K, total_K, groups.group_K, groups.names)
    in_five_K, _ = class_totals(rank_N < 5, saved.target_N, saved.num_classes)
    top5 = group_accuracies(in_five_K, total_K, groups.group_K, groups.names)
    counts_K = np.asarray(saved.class_counts)
    rows = [
        SummaryRow(
            group=name,
            classes=accuracy.classes,
            images=int(accuracy.images),
            train_images=int(counts_K[groups.mask(name)].sum()),
            top1=accuracy.top1,
            interval=wilson_interval(accuracy.correct, accuracy.images),
            balanced=accuracy.balanced,
            top5=top5[name].top1 if saved.num_classes > 5 else None,
        )
        for name, accuracy in top1.items()
    ]
    return Summary(tuple(rows), groups.rule)
