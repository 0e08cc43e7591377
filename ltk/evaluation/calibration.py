"""Do probabilities mean what they say? Calibration errors, the reliability diagram, the temperature.

Sources: Guo et al. "On calibration of modern neural networks", 2017 (ECE, temperature); Nixon et al. "Measuring
calibration in deep learning", 2019 (class-wise ECE).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar

from ltk.evaluation.logits import SavedLogits
from ltk.evaluation.metrics import BoolArray, FloatArray, IntArray, class_accuracies, class_totals
from ltk.evaluation.posthoc import Adjustment, log_sum_exp

NUM_BINS = 15
_TEMPERATURES = (0.05, 20.0)
_STEP = 1.01  # of the search, beside a bound


@dataclass(frozen=True, slots=True)
class Reliability:
    """Confidence against accuracy in bins of equal width.

    Attributes:
        edges: borders of the bins, one more than bins.
        images: how many images fall into each bin.
        confidence: mean confidence in each bin, nan when empty.
        accuracy: share of right answers in each bin, nan when empty.
    """

    edges: FloatArray
    images: IntArray
    confidence: FloatArray
    accuracy: FloatArray

    @property
    def ece(self) -> float:
        """Expected calibration error: mean gap, weighted by images."""
        gap = np.where(self.images > 0, np.abs(self.confidence - self.accuracy), 0.0)
        return float((gap * self.images).sum() / max(1, self.images.sum()))


def bin_index(probability: FloatArray, bins: int = NUM_BINS) -> IntArray:
    """Return the bin of each probability; bin i holds (i/bins, (i+1)/bins], and 0 falls into the first."""
    return np.clip(np.ceil(probability * bins).astype(np.int64) - 1, 0, bins - 1)


def reliability(confidence_N: FloatArray, correct_N: BoolArray, bins: int = NUM_BINS) -> Reliability:
    """Sort answers into bins of confidence.

    Args:
        confidence_N: probability of each answer.
        correct_N: whether it is right.
        bins: how many of equal width.
    """
    place_N = bin_index(confidence_N, bins)
    confidence_sum, images = class_totals(confidence_N, place_N, bins)
    correct_sum, _ = class_totals(correct_N, place_N, bins)
    confidence, accuracy = class_accuracies(confidence_sum, images), class_accuracies(correct_sum, images)
    return Reliability(np.linspace(0, 1, bins + 1), images.astype(np.int64), confidence, accuracy)


def classwise_ece(saved: SavedLogits, adjustment: Adjustment, bins: int = NUM_BINS) -> float:
    """Return the mean over classes of the calibration error of "this image belongs to the class".

    Args:
        saved: logits and labels.
        adjustment: correction of the logits.
        bins: how many of equal width.
    """
    classes = saved.num_classes
    gap_F = np.zeros(classes * bins)  # sum of probability - sum of truth, by class and bin
    for rows in saved.chunks():
        probability_BK = adjustment.probabilities(saved.logits_NK[rows])
        place_BK = bin_index(probability_BK, bins) + np.arange(classes) * bins
        gap_F += np.bincount(place_BK.ravel(), weights=probability_BK.ravel(), minlength=gap_F.size)
        own_B = np.take_along_axis(place_BK, saved.target_N[rows, None], axis=1)[:, 0]
        gap_F -= np.bincount(own_B, minlength=gap_F.size)
    return float(np.abs(gap_F).sum() / (len(saved.target_N) * classes))


def fit_temperature(saved: SavedLogits, adjustment: Adjustment) -> float:
    """Return the temperature of least cross-entropy on a validation split, every class weighing the same.

    Args:
        saved: validation logits and labels.
        adjustment: correction the temperature follows.

    Returns:
        a temperature in [0.05, 20].
    """
    counts_K = np.bincount(saved.target_N, minlength=saved.num_classes)
    weight_N = 1.0 / counts_K[saved.target_N]

    def loss(log_temperature: float) -> float:
        factor = float(np.exp(-log_temperature))
        total = 0.0
        for rows in saved.chunks():
            scores_BK = adjustment.scores(saved.logits_NK[rows]) * np.float32(factor)
            own_B = np.take_along_axis(scores_BK, saved.target_N[rows, None], axis=1)[:, 0]
            total += float(((log_sum_exp(scores_BK) - own_B) * weight_N[rows]).sum())
        return total

    low, high = np.log(_TEMPERATURES)
    return float(np.exp(minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-3}).x))


def is_at_bound(temperature: float) -> bool:
    """Return whether a fitted temperature is as low or as high as the search goes."""
    low, high = _TEMPERATURES
    return not low * _STEP < temperature < high / _STEP
