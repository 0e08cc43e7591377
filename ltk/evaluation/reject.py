"""When a model should rather not answer: one confidence limit, or one per class learnt on validation images."""

from __future__ import annotations

import numpy as np

from ltk.evaluation.metrics import BoolArray, FloatArray, IntArray
from ltk.evaluation.outcomes import Outcome

_FEWEST = 5  # answers a class needs for a limit of its own


def confidence_limits(outcome: Outcome, num_classes: int, precision: float) -> FloatArray:
    """Return the lowest confidence from which on answers of each class are right often enough.

    Answers of equal confidence are accepted or refused together. A class answered fewer than five times takes the limit
    of all answers together.

    Args:
        outcome: answers on validation images.
        num_classes: K.
        precision: share of the accepted answers that should be right, in (0, 1].

    Returns:
        limit_K; infinity where no limit reaches the precision.
    """
    limit_K = np.full(num_classes, _limit(outcome.confidence_N, outcome.is_correct, precision))
    for k in np.flatnonzero(np.bincount(_known(outcome.predicted_N), minlength=num_classes) >= _FEWEST):
        own_N = outcome.predicted_N == k
        limit_K[k] = _limit(outcome.confidence_N[own_N], outcome.is_correct[own_N], precision)
    return limit_K


def _known(predicted_N: IntArray) -> IntArray:
    return predicted_N[predicted_N >= 0]


def _limit(confidence_N: FloatArray, correct_N: BoolArray, precision: float) -> float:
    order = np.argsort(-confidence_N, kind="stable")
    is_last_of_tie = np.diff(confidence_N[order], append=-np.inf) != 0
    reached = is_last_of_tie & (np.cumsum(correct_N[order]) / np.arange(1, len(order) + 1) >= precision)
    return float(confidence_N[order[np.flatnonzero(reached)[-1]]]) if reached.any() else float("inf")
