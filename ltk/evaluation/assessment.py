"""Everything one model's outcomes say, gathered once for the JSON output, the tables and the report."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ltk.evaluation.calibration import Reliability, classwise_ece, reliability
from ltk.evaluation.confusion import Confusion, confusion_matrix, top_confusions
from ltk.evaluation.groups import Groups
from ltk.evaluation.logits import SavedLogits
from ltk.evaluation.metrics import (
    FloatArray,
    balanced_interval,
    class_accuracies,
    class_totals,
    geometric_mean,
    macro_f1,
    wilson_interval,
    worst_classes,
)
from ltk.evaluation.outcomes import Outcome
from ltk.evaluation.posthoc import Adjustment
from ltk.evaluation.summary import Summary, summarise_ranks

SHOWN_CONFUSIONS = 20


@dataclass(frozen=True, slots=True)
class ClassRow:
    """One class; accuracy and interval are fractions, None without test images.

    Attributes:
        index: of the class.
        name: of the class.
        group: its group.
        n_train: training images.
        n_test: test images.
        correct: test images classified correctly.
        accuracy: correct / n_test.
        interval: 95% interval (Wilson).
    """

    index: int
    name: str
    group: str
    n_train: int
    n_test: int
    correct: int
    accuracy: float | None
    interval: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class Assessment:
    """The figures of one model on one split.

    Attributes:
        summary: accuracy over all classes and by group.
        classes: one row per class.
        worst: rows of the worst classes, worst first.
        worst_accuracy: mean accuracy of these, None without any.
        macro_f1: mean F1 over the classes.
        geometric_mean: of the per-class accuracies.
        balanced_interval: 95% interval of balanced accuracy over all classes.
        confusions: the most frequent mistakes.
        reliability: confidence against accuracy; its ``ece`` is the calibration error.
        classwise_ece: calibration error averaged over classes, None where it was not asked for.
        nll: mean minus log-probability of the right class.
        adjustment: what was done to the logits, in words.
    """

    summary: Summary
    classes: tuple[ClassRow, ...]
    worst: tuple[ClassRow, ...]
    worst_accuracy: float | None
    macro_f1: float
    geometric_mean: float | None
    balanced_interval: tuple[float, float] | None
    confusions: tuple[Confusion, ...]
    reliability: Reliability
    classwise_ece: float | None
    nll: float
    adjustment: str

    def as_dict(self) -> dict[str, Any]:
        """Return the figures as JSON-able values."""
        return {
            "splits": self.summary.as_dict(),
            "groups": self.summary.rule,
            "adjustment": self.adjustment,
            "macro_f1": self.macro_f1,
            "geometric_mean": self.geometric_mean,
            "balanced_interval": self.balanced_interval,
            "worst": {"classes": [row.name for row in self.worst], "accuracy": self.worst_accuracy},
            "calibration": {"ece": self.reliability.ece, "classwise_ece": self.classwise_ece, "nll": self.nll},
            "confusions": [asdict(pair) for pair in self.confusions],
            "per_class": [asdict(row) for row in self.classes],
        }


def create_assessment(
    saved: SavedLogits,
    outcome: Outcome,
    groups: Groups,
    adjustment: Adjustment,
    *,
    worst: int = 5,
    with_classwise: bool = False,
) -> Assessment:
    """Compute all figures from the outcomes.

    Args:
        saved: labels, names and counts (and logits, for the class-wise calibration error).
        outcome: what the corrected model answers.
        groups: groups of the classes.
        adjustment: the correction behind ``outcome``.
        worst: how many of the worst classes to name.
        with_classwise: compute the class-wise calibration error too, another pass over the logits.
    """
    correct_K, total_K = class_totals(outcome.is_correct, saved.target_N, saved.num_classes)
    rows = _class_rows(saved, groups, correct_K, total_K)
    last = worst_classes(correct_K, total_K, worst)
    matrix_KK = confusion_matrix(outcome.predicted_N, saved.target_N, saved.num_classes)
    return Assessment(
        summary=summarise_ranks(outcome.rank_N, saved, groups),
        classes=rows,
        worst=tuple(rows[i] for i in last),
        worst_accuracy=float(class_accuracies(correct_K, total_K)[last].mean()) if len(last) else None,
        macro_f1=macro_f1(outcome.predicted_N, saved.target_N, saved.num_classes),
        geometric_mean=geometric_mean(correct_K, total_K),
        balanced_interval=balanced_interval(correct_K, total_K),
        confusions=tuple(top_confusions(matrix_KK, total_K.astype(np.int64), SHOWN_CONFUSIONS)),
        reliability=reliability(outcome.confidence_N, outcome.is_correct),
        classwise_ece=classwise_ece(saved, adjustment) if with_classwise else None,
        nll=float(outcome.nll_N.mean()),
        adjustment=adjustment.label,
    )


def _class_rows(saved: SavedLogits, groups: Groups, correct_K: FloatArray, total_K: FloatArray) -> tuple[ClassRow, ...]:
    return tuple(
        ClassRow(
            index=k,
            name=name,
            group=groups.names[groups.group_K[k]],
            n_train=saved.class_counts[k],
            n_test=int(total_K[k]),
            correct=int(correct_K[k]),
            accuracy=float(correct_K[k] / total_K[k]) if total_K[k] else None,
            interval=wilson_interval(correct_K[k], total_K[k]),
        )
        for k, name in enumerate(saved.class_names)
    )
