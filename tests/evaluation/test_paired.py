from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binomtest, ttest_ind

from ltk.evaluation.metrics import wilson_interval
from ltk.evaluation.paired import accuracy_interval, compare_pair, compare_seeds, mcnemar_mid_p

Correct = NDArray[np.bool_]


def answers(both: int, first: int, second: int, neither: int) -> tuple[Correct, Correct]:
    """Return whether two classifiers are right, for these numbers of images."""
    sizes = (both, first, second, neither)
    return np.repeat([True, True, False, False], sizes), np.repeat([True, False, True, False], sizes)


@given(st.integers(0, 60), st.integers(0, 60))
def test_mid_p_lies_half_a_term_below_the_exact_test(first: int, second: int) -> None:
    mid_p = mcnemar_mid_p(first, second)
    assert mid_p == pytest.approx(mcnemar_mid_p(second, first))
    if first == second:
        assert mid_p == pytest.approx(1.0)
    else:
        exact = binomtest(first, first + second).pvalue
        assert mid_p == pytest.approx(exact - _term(min(first, second), first + second), abs=1e-9)


def _term(k: int, n: int) -> float:
    return float(binomtest(k, n, 0.5, alternative="less").pvalue) - (
        float(binomtest(k - 1, n, 0.5, alternative="less").pvalue) if k else 0.0
    )


def test_a_published_example() -> None:
    # Fagerland et al. 2013, table 2: 1 and 7 discordant pairs, mid-p 0.039, exact 0.070.
    assert mcnemar_mid_p(1, 7) == pytest.approx(0.0391, abs=1e-4)


def test_compare_pair() -> None:
    first, second = answers(60, 25, 5, 10)
    difference = compare_pair(first, second)
    assert difference is not None
    assert difference.value == pytest.approx(0.20)
    assert difference.images == 100
    assert difference.verdict == "helps"
    low, high = difference.interval  # Bonett and Price: 26/102 - 6/102 -+ 1.96 sqrt(...)
    centre, spread = 20 / 102, np.sqrt((32 / 102 - (20 / 102) ** 2) / 102)
    assert (low, high) == pytest.approx((centre - 1.959964 * spread, centre + 1.959964 * spread))
    reverse = compare_pair(second, first)
    assert reverse is not None
    assert reverse.verdict == "hurts"
    assert compare_pair(first[:0], second[:0]) is None


def test_equal_answers_are_not_distinguishable() -> None:
    first, _ = answers(50, 0, 0, 50)
    difference = compare_pair(first, first)
    assert difference is not None
    assert (difference.value, difference.p_value, difference.verdict) == (0.0, 1.0, "is not distinguishable")


def test_the_test_keeps_its_level() -> None:
    rng = np.random.default_rng(0)
    rejected = 0
    for _ in range(600):
        hard_N = rng.random(200)
        first, second = (rng.random(200) < hard_N for _ in range(2))
        difference = compare_pair(first, second)
        rejected += difference is not None and difference.p_value < 0.05
    assert rejected / 600 < 0.075


def test_seeds_of_one_image_difficulty_agree_with_welch() -> None:
    rng = np.random.default_rng(1)
    # With very many images their variance vanishes and what is left is Welch's test over seeds.
    shares = ([0.70, 0.72, 0.71], [0.64, 0.66, 0.68])
    first, second = ([np.arange(200_000) < p * 200_000 for p in side] for side in shares)
    for side in (first, second):
        for row in side:
            rng.shuffle(row)
    difference = compare_seeds(first, second)
    assert difference is not None
    assert difference.value == pytest.approx(0.05)
    assert difference.p_value == pytest.approx(float(ttest_ind(*shares, equal_var=False).pvalue), rel=0.05)


def test_seeds_widen_the_interval() -> None:
    first, second = answers(60, 25, 5, 10)
    other = np.roll(first, 17)
    single, several = compare_pair(first, second), compare_seeds([first, other], [second])
    assert single is not None
    assert several is not None
    assert several.test.startswith("paired t")
    assert single.test == "McNemar mid-p"
    assert compare_seeds([first], [second]) == single
    assert compare_seeds([first[:0], first[:0]], [second[:0]]) is None


@pytest.mark.parametrize("images", [1, 2, 3])
def test_a_handful_of_images_proves_nothing(images: int) -> None:
    right = np.ones(images, dtype=bool)
    for first, second in (([right], [~right]), ([right, right], [~right, ~right]), ([right] * 3, [~right])):
        for difference in (compare_seeds(first, second), compare_seeds(first, second, np.ones(images))):
            assert difference is not None
            assert difference.value == 1
            assert difference.verdict == "is not distinguishable"
            assert difference.interval[0] < 0
            assert difference.interval[1] == 1


def test_an_interval_stays_in_range() -> None:
    generator = np.random.default_rng(3)
    for _ in range(100):
        sides = list(generator.random((4, 2)) < 0.5)
        difference = compare_seeds(sides[:2], sides[2:])
        assert difference is not None
        low, high = difference.interval
        assert -1 <= low <= difference.value <= high <= 1


@pytest.mark.parametrize("weighted", [False, True])
def test_small_groups_over_seeds_keep_the_level(weighted: bool) -> None:
    generator = np.random.default_rng(4)
    for images in (2, 3, 5, 10):
        found = []
        for _ in range(400):
            sides = list(generator.random((4, images)) < 0.5)
            found.append(compare_seeds(sides[:3], sides[3:], np.ones(images) if weighted else None))
        rejected = [difference is not None and difference.verdict != "is not distinguishable" for difference in found]
        assert np.mean(rejected) <= 0.05


@pytest.mark.parametrize(
    ("first", "second", "images"),
    [(5, 0, 500), (7, 1, 500), (9, 2, 500), (12, 4, 500), (24, 12, 500), (28, 15, 500), (46, 29, 100)],
)
def test_a_verdict_does_not_contradict_its_interval(first: int, second: int, images: int) -> None:
    difference = compare_pair(*answers(images - first - second, first, second, 0))
    assert difference is not None
    holds_zero = difference.interval[0] <= 0 <= difference.interval[1]
    assert holds_zero != (difference.p_value >= 0.05)  # they disagree: neither alone gives a verdict
    assert difference.verdict == "is not distinguishable"


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 400))
def test_helps_and_hurts_need_a_small_p_value_and_an_interval_without_zero(first: int, second: int, both: int) -> None:
    difference = compare_pair(*answers(both, first, second, 1))
    assert difference is not None
    low, high = difference.interval
    agreed = difference.p_value < 0.05 and not low <= 0 <= high
    expected = ("helps" if first > second else "hurts") if agreed else "is not distinguishable"
    assert difference.verdict == expected


def test_seeds_that_never_differ() -> None:
    first, _ = answers(50, 0, 0, 50)
    difference = compare_seeds([first, first], [first, first])
    assert difference is not None
    assert (difference.value, difference.p_value) == (0.0, 1.0)


def test_one_seed_has_the_interval_of_its_images() -> None:
    first, _ = answers(60, 25, 5, 10)
    assert accuracy_interval([first]) == wilson_interval(85, 100)
    assert accuracy_interval([first[:0]]) is None
    right = np.ones(50, dtype=bool)
    assert accuracy_interval([right, right]) == wilson_interval(50, 50)


def test_seeds_and_images_widen_the_interval_of_an_accuracy() -> None:
    chance = np.random.default_rng(0)
    alike = [chance.random(2000) < 0.6 for _ in range(3)]
    apart = [chance.random(2000) < share for share in (0.5, 0.6, 0.7)]
    (low, high), (wide_low, wide_high) = accuracy_interval(alike) or (0, 0), accuracy_interval(apart) or (0, 0)
    assert low < 0.6 < high
    assert high - low < 0.1 < 0.3 < wide_high - wide_low


def test_the_interval_of_an_accuracy_holds_the_truth_as_often_as_it_says() -> None:
    """Recipes whose seeds and images both vary: 200 studies of 4 seeds and 100 images."""
    chance, held = np.random.default_rng(1), 0
    for _ in range(200):
        ease_N, skill_S1 = chance.normal(0, 0.1, 100), chance.normal(0, 0.05, (4, 1))
        interval = accuracy_interval(list(chance.random((4, 100)) < 0.6 + ease_N + skill_S1))
        assert interval is not None
        held += interval[0] < 0.6 < interval[1]
    assert held >= 190
