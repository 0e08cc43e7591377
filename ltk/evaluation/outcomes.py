"""What a (corrected) model does with each image: its answer, its confidence, the place of the right class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ltk.evaluation.logits import SavedLogits
from ltk.evaluation.metrics import BoolArray, FloatArray, IntArray, predict_classes, target_ranks
from ltk.evaluation.posthoc import Adjustment, log_sum_exp, no_adjustment


@dataclass(frozen=True, slots=True)
class Outcome:
    """One entry per image.

    Attributes:
        predicted_N: the answer.
        rank_N: how many classes stand before the right one; 0 is a right answer.
        confidence_N: probability of the answer.
        nll_N: minus the log-probability of the right class.
    """

    predicted_N: IntArray
    rank_N: IntArray
    confidence_N: FloatArray
    nll_N: FloatArray

    @property
    def is_correct(self) -> BoolArray:
        """Whether each answer is right, one entry per image."""
        return np.asarray(self.rank_N == 0)


def assess(saved: SavedLogits, adjustment: Adjustment | None = None) -> Outcome:
    """Return what the corrected model answers, a chunk of rows at a time.

    Args:
        saved: logits and labels.
        adjustment: a correction of the logits; none when left out.
    """
    chosen = adjustment or no_adjustment(saved.num_classes)
    parts = [_assess_rows(saved.logits_NK[rows], saved.target_N[rows], chosen) for rows in saved.chunks()]
    predicted, rank, confidence, nll = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Outcome(predicted, rank, confidence, nll)


def _assess_rows(
    logits_BK: FloatArray, target_B: IntArray, adjustment: Adjustment
) -> tuple[IntArray, IntArray, FloatArray, FloatArray]:
    scores_BK = adjustment.scores(logits_BK)
    decisions_BK = adjustment.decisions(scores_BK)
    predicted_B = predict_classes(decisions_BK)
    confidence_B = answer_confidence(scores_BK, predicted_B)
    own_B = np.take_along_axis(scores_BK, target_B[:, None], axis=1)[:, 0]
    return predicted_B, target_ranks(decisions_BK, target_B), confidence_B, log_sum_exp(scores_BK) - own_B


def answer_confidence(scores_BK: FloatArray, predicted_B: IntArray) -> FloatArray:
    """Return the probability of each answer, in float64: in float32 all of high confidence are 1, and alike.

    Args:
        scores_BK: adjusted logits.
        predicted_B: the answers; -1 stands where a score is nan, and so does the confidence.
    """
    chosen_B = np.take_along_axis(scores_BK, predicted_B[:, None], axis=1)[:, 0]
    return np.asarray(np.exp(chosen_B - log_sum_exp(scores_BK)))
