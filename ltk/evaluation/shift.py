"""Accuracy on long-tailed test sets, from the logits of a balanced one.

Forward: the test classes follow the order of the training classes, by a factor r; backward: the reverse. The published
protocols draw a smaller test set (LADE, Hong et al. 2021; SADE, Zhang et al. 2022); weighing the classes instead uses
every image and has no sampling noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ltk.errors import UsageError
from ltk.evaluation.logits import SavedLogits
from ltk.evaluation.metrics import FloatArray, IntArray, class_accuracies, class_totals
from ltk.evaluation.outcomes import assess
from ltk.evaluation.posthoc import Adjustment, change_prior

RATIOS = (50, 25, 10, 5, 2)


@dataclass(frozen=True, slots=True)
class ShiftRow:
    """One test distribution.

    Attributes:
        name: such as "forward 50", "uniform", "backward 10".
        top1: accuracy of the model as it is.
        top1_known: accuracy once it is told the test distribution.
    """

    name: str
    top1: float
    top1_known: float


def shifted_prior(class_counts_K: ArrayLike, ratio: float, *, backward: bool = False) -> FloatArray:
    """Return the long-tailed test prior_K: ``ratio ** (-rank / (K - 1))``, normalised.

    Args:
        class_counts_K: training images, which give the ranks (most frequent 0, ties by class index).
        ratio: largest share / smallest share, at least 1.
        backward: give the rarest training class the largest share.
    """
    counts_K = np.asarray(class_counts_K)
    classes = len(counts_K)
    rank_K = np.empty(classes, dtype=np.int64)
    rank_K[np.argsort(-counts_K, kind="stable")] = np.arange(classes)
    if backward:
        rank_K = classes - 1 - rank_K
    prior_K = float(ratio) ** (-rank_K / max(1, classes - 1))
    return prior_K / prior_K.sum()


def shifted_accuracy(correct_K: ArrayLike, total_K: ArrayLike, prior_K: FloatArray) -> float:
    """Return accuracy with the classes weighing as ``prior_K``; classes without test images are left out.

    Raises:
        UsageError: no class with a share has test images.
    """
    accuracy_K = class_accuracies(correct_K, total_K)
    tested_K = ~np.isnan(accuracy_K)
    weight = float(prior_K[tested_K].sum())
    if weight <= 0:
        raise UsageError("no class of the shifted test has test images")
    return float((accuracy_K[tested_K] * prior_K[tested_K]).sum() / weight)


def evaluate_shifts(saved: SavedLogits, adjustment: Adjustment, predicted_N: IntArray) -> list[ShiftRow]:
    """Return accuracy from forward 50 through uniform to backward 50.

    Args:
        saved: logits and labels, every class tested.
        adjustment: correction of the logits.
        predicted_N: answers of the corrected model.
    """
    plain_K, total_K = class_totals(predicted_N == saved.target_N, saved.target_N, saved.num_classes)
    counts = saved.class_counts
    tests = [(f"forward {r}", shifted_prior(counts, r)) for r in RATIOS]
    tests.append(("uniform", shifted_prior(counts, 1)))
    tests += [(f"backward {r}", shifted_prior(counts, r, backward=True)) for r in reversed(RATIOS)]
    rows = []
    for name, prior_K in tests:
        told = assess(saved, change_prior(adjustment, prior_K, name))
        told_K, _ = class_totals(told.is_correct, saved.target_N, saved.num_classes)
        plain = shifted_accuracy(plain_K, total_K, prior_K)
        rows.append(ShiftRow(name, plain, shifted_accuracy(told_K, total_K, prior_K)))
    return rows
