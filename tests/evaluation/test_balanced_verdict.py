"""Where classes have unlike numbers of test images, balanced accuracy has a verdict of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import sem, t, ttest_1samp

from ltk.evaluation.compare import compare_entries
from ltk.evaluation.groups import create_groups
from ltk.evaluation.logits import SavedLogits
from ltk.evaluation.outcomes import assess
from ltk.evaluation.paired import class_weights, compare_seeds
from ltk.evaluation.recipes import Entry, create_entry

CreateSaved = Callable[..., SavedLogits]
COUNTS = (40, 20, 10, 5)  # test images of each class


def cut(saved: SavedLogits) -> SavedLogits:
    """Keep fewer test images of the rarer classes."""
    rows = np.concatenate([np.flatnonzero(saved.target_N == k)[:n] for k, n in enumerate(COUNTS)])
    return replace(saved, logits_NK=saved.logits_NK[rows], target_N=saved.target_N[rows], index_N=np.arange(len(rows)))


def enter(name: str, saved: SavedLogits, **card: Any) -> Entry:
    groups = create_groups(saved.class_counts, saved.groups)
    return create_entry(name, {"method": name, "width": 16, **card}, saved, assess(saved), groups)


def test_every_class_weighs_the_same() -> None:
    target_N = np.array([0, 0, 0, 2, 2, 5])
    weight_N = class_weights(target_N)
    assert weight_N.mean() == pytest.approx(1)
    assert [weight_N[target_N == k].sum() for k in (0, 2, 5)] == pytest.approx([2, 2, 2])


def test_the_difference_is_that_of_balanced_accuracy(create_saved: CreateSaved) -> None:
    ce, other = (cut(create_saved(bias=bias, noise_seed=3)) for bias in (0.8, 0.0))
    groups = create_groups(ce.class_counts, ce.groups)
    entries = [enter("ce", ce), enter("la", other)]
    verdicts = {verdict.group: verdict for verdict in compare_entries(entries, groups).verdicts}
    assert list(verdicts) == ["all", "balanced", "few"]
    difference = verdicts["balanced"].difference
    assert difference is not None
    first, second = (entry.summary["all"].balanced for entry in entries)
    assert first is not None
    assert second is not None
    assert difference.value == pytest.approx(second - first)
    assert difference.images == sum(COUNTS)
    assert str(verdicts["balanced"]).startswith("la helps on balanced accuracy, against ce: +")


def test_the_test_is_a_t_test_of_weighted_differences() -> None:
    generator = np.random.default_rng(0)
    first_N, second_N = generator.random(75) < 0.7, generator.random(75) < 0.5
    weight_N = class_weights(np.repeat(np.arange(4), COUNTS))
    found = compare_seeds([first_N], [second_N], weight_N)
    difference_N = (first_N.astype(float) - second_N) * weight_N
    error = sem([*difference_N, 1, -1])  # as if two more images had been seen, one for either side
    half = error * t.ppf(0.975, 76)
    assert found is not None
    assert found.p_value == pytest.approx(2 * t.sf(abs(difference_N.mean()) / error, 76))
    assert found.interval == pytest.approx((difference_N.mean() - half, difference_N.mean() + half))
    plain = ttest_1samp(difference_N, 0)
    assert found.p_value == pytest.approx(plain.pvalue, abs=0.02)
    assert found.interval == pytest.approx(tuple(plain.confidence_interval(0.95)), abs=0.01)


def test_equal_weights_change_nothing_for_several_seeds() -> None:
    generator = np.random.default_rng(1)
    first, second = ([generator.random(60) < p for _ in range(3)] for p in (0.6, 0.5))
    assert compare_seeds(first, second, np.ones(60)) == compare_seeds(first, second)


def test_false_alarms_are_as_rare_as_promised() -> None:
    """Two models equally good in every class, 12 classes with 80 images to 1: at most 5% say otherwise."""
    generator = np.random.default_rng(2)
    target_N = np.repeat(np.arange(12), [80, 51, 33, 21, 14, 9, 6, 4, 2, 2, 2, 1])
    weight_N, share_N = class_weights(target_N), generator.uniform(0.1, 0.9, 12)[target_N]

    def answers() -> NDArray[np.bool_]:
        right_N: NDArray[np.bool_] = generator.random(len(target_N)) < share_N
        return right_N

    found = [compare_seeds([answers()], [answers()], weight_N) for _ in range(600)]
    assert np.mean([difference is not None and difference.p_value < 0.05 for difference in found]) < 0.065


def test_equally_many_images_of_each_class_need_no_second_verdict(create_saved: CreateSaved) -> None:
    saved = create_saved()
    groups = create_groups(saved.class_counts, saved.groups)
    verdicts = compare_entries([enter("ce", saved), enter("la", create_saved(bias=0))], groups).verdicts
    assert [verdict.group for verdict in verdicts] == ["all", "few"]
