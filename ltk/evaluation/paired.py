"""Is one classifier better than another on the same images? Paired tests and intervals of the difference.

Sources: McNemar 1947 with the mid-p correction (Fagerland, Lydersen, Laake 2013); adjusted Wald interval of a paired
difference (Bonett, Price 2012); degrees of freedom after Welch-Satterthwaite.

A verdict of "helps" or "hurts" needs both: a p-value below 0.05 and a 95% interval that leaves out 0. McNemar's test
and the interval of Bonett and Price are no inversions of each other: near the limit one may speak without the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binom, norm, t

from ltk.evaluation.metrics import BoolArray, FloatArray, IntArray, wilson_interval

LEVEL = 0.05


@dataclass(frozen=True, slots=True)
class Difference:
    """How much more accurate one side is than the other.

    Attributes:
        value: accuracy of the first minus accuracy of the second, in [-1, 1].
        interval: 95% interval of it.
        p_value: of the hypothesis that there is no difference.
        images: test images compared.
        test: name of the test.
    """

    value: float
    interval: tuple[float, float]
    p_value: float
    images: int
    test: str

    @property
    def verdict(self) -> str:
        """Return "helps", "hurts" or "is not distinguishable"; p-value and interval must agree."""
        low, high = self.interval
        if self.p_value >= LEVEL or low <= 0 <= high:
            return "is not distinguishable"
        return "helps" if self.value > 0 else "hurts"


def mcnemar_mid_p(only_first: int, only_second: int) -> float:
    """Return the two-sided mid-p of McNemar's test.

    Args:
        only_first: images that only the first classifier gets right.
        only_second: images that only the second one gets right.
    """
    discordant = only_first + only_second
    if discordant == 0:
        return 1.0
    smaller = min(only_first, only_second)
    exact = 2 * binom.cdf(smaller, discordant, 0.5)
    return float(min(1.0, exact - binom.pmf(smaller, discordant, 0.5)))


def compare_pair(first_N: BoolArray, second_N: BoolArray) -> Difference | None:
    """Compare two classifiers on the same images, or return None without images.

    Args:
        first_N: whether the first one is right.
        second_N: whether the second one is right.
    """
    images = len(first_N)
    if not images:
        return None
    gained, lost = int((first_N & ~second_N).sum()), int((second_N & ~first_N).sum())
    share_gained, share_lost = (gained + 1) / (images + 2), (lost + 1) / (images + 2)
    centre = share_gained - share_lost
    half = norm.ppf(1 - LEVEL / 2) * np.sqrt((share_gained + share_lost - centre**2) / (images + 2))
    interval = (float(max(-1, centre - half)), float(min(1, centre + half)))
    return Difference((gained - lost) / images, interval, mcnemar_mid_p(gained, lost), images, "McNemar mid-p")


def compare_seeds(
    first_SN: Sequence[BoolArray], second_SN: Sequence[BoolArray], weight_N: FloatArray | None = None
) -> Difference | None:
    """Compare two recipes, each trained from several seeds, on the same images; one seed each is ``compare_pair``.

    The variance of the difference is that of the images (paired, of accuracies averaged over seeds) plus that of the
    seeds of each side that has two or more. That of the images is taken as if two more had been seen, one right for
    either side alone, as in the interval of Bonett and Price: a few images that all agree prove nothing.

    Returns:
        None without images.

    Args:
        first_SN: whether the first recipe is right, one array per seed.
        second_SN: the same of the second recipe.
        weight_N: what an image counts, 1 on average; ``class_weights`` makes the difference that of balanced accuracy.
    """
    if weight_N is None and len(first_SN) == len(second_SN) == 1:
        return compare_pair(first_SN[0], second_SN[0])
    weight = 1.0 if weight_N is None else weight_N
    first, second = np.asarray(first_SN, np.float64) * weight, np.asarray(second_SN, np.float64) * weight
    images = first.shape[1]
    if not images:
        return None
    difference_N = first.mean(axis=0) - second.mean(axis=0)
    error, freedom = _standard_error(np.append(difference_N, (1, -1)), first, second)
    value = float(difference_N.mean())
    half = error * float(t.ppf(1 - LEVEL / 2, freedom))
    p_value = float(2 * t.sf(abs(value) / error, freedom))
    interval = (max(-1.0, value - half), min(1.0, value + half))
    return Difference(value, interval, p_value, images, "paired t over seeds and images")


def accuracy_interval(correct_SN: Sequence[BoolArray]) -> tuple[float, float] | None:
    """Return the 95% interval of the accuracy of one recipe, trained from one or several seeds; None without images.

    With one seed it is Wilson's, of the images alone; else that of the mean over seeds, whose variance is that of the
    images plus that of the seeds, as in ``compare_seeds``, but not narrower than Wilson's.

    Args:
        correct_SN: whether the recipe is right, one array per seed.
    """
    correct = np.asarray(correct_SN, np.float64)
    seeds, images = correct.shape
    of_images = wilson_interval(float(correct.sum()) / seeds, images)
    if of_images is None or seeds == 1 or images < 2:
        return of_images
    mean_N = correct.mean(axis=0)
    error, freedom = _standard_error(mean_N, correct)
    value, half = float(mean_N.mean()), error * float(t.ppf(1 - LEVEL / 2, freedom))
    return min(of_images[0], max(0.0, value - half)), max(of_images[1], min(1.0, value + half))


def class_weights(target_N: IntArray) -> FloatArray:
    """Return weight_N, 1 on average, with which every class that has images counts alike."""
    _, class_N, count_K = np.unique(target_N, return_inverse=True, return_counts=True)
    weight_N: FloatArray = len(target_N) / (len(count_K) * count_K[class_N])
    return weight_N


def _standard_error(value_N: FloatArray, *sides_SN: FloatArray) -> tuple[float, float]:
    """Return the standard error of a mean over images, made of sides with seeds, and its degrees of freedom."""
    parts = [(float(value_N.var(ddof=1)) / len(value_N), len(value_N) - 1)]
    parts += [(_seed_variance(side_SN), len(side_SN) - 1) for side_SN in sides_SN if len(side_SN) > 1]
    variance = sum(part for part, _ in parts)
    freedom = variance**2 / sum(part**2 / df for part, df in parts) if variance else 1.0
    return variance**0.5, freedom


def _seed_variance(correct_SN: FloatArray) -> float:
    return float(correct_SN.mean(axis=1).var(ddof=1) / len(correct_SN))
