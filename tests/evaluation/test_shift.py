from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from ltk.errors import UsageError
from ltk.evaluation import shift
from ltk.evaluation.logits import SavedLogits
from ltk.evaluation.outcomes import assess
from ltk.evaluation.posthoc import no_adjustment

CreateSaved = Callable[..., SavedLogits]


def test_shifted_priors() -> None:
    forward = shift.shifted_prior((10, 1000, 100), 50)
    np.testing.assert_allclose(forward[[1, 2, 0]] / forward[1], [1, 50**-0.5, 1 / 50])
    backward = shift.shifted_prior((10, 1000, 100), 50, backward=True)
    np.testing.assert_allclose(backward[[0, 2, 1]], forward[[1, 2, 0]])
    np.testing.assert_allclose(shift.shifted_prior((3, 2, 1), 1), 1 / 3)
    assert forward.sum() == pytest.approx(1)


def test_reweighting_is_the_mean_over_resampled_test_sets(create_saved: CreateSaved) -> None:
    saved = create_saved(per_class=200)
    correct_N = assess(saved).is_correct
    prior_K = shift.shifted_prior(saved.class_counts, 10)
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(300):
        kept = [rng.choice(np.flatnonzero(saved.target_N == k), round(200 * prior_K[k])) for k in range(4)]
        drawn.append(correct_N[np.concatenate(kept)].mean())
    correct_K = [correct_N[saved.target_N == k].sum() for k in range(4)]
    assert shift.shifted_accuracy(correct_K, [200] * 4, prior_K) == pytest.approx(np.mean(drawn), abs=0.01)


def test_being_told_the_shares_helps_a_model_of_the_training_shares(create_saved: CreateSaved) -> None:
    saved = create_saved(per_class=300, bias=1.0)
    adjustment = no_adjustment(4, saved.class_counts)
    rows = {row.name: row for row in shift.evaluate_shifts(saved, adjustment, assess(saved).predicted_N)}
    order = list(rows)
    assert (order[0], order[5], order[-1]) == ("forward 50", "uniform", "backward 50")
    assert rows["forward 50"].top1 > rows["uniform"].top1 > rows["backward 50"].top1
    assert rows["backward 50"].top1_known > rows["backward 50"].top1 + 0.1
    assert rows["uniform"].top1 == pytest.approx(assess(saved).is_correct.mean())


def test_classes_without_test_images_are_left_out() -> None:
    prior_K = np.array([0.5, 0.25, 0.25])
    assert shift.shifted_accuracy([1, 0, 2], [2, 0, 2], prior_K) == pytest.approx((0.5 * 0.5 + 0.25) / 0.75)
    with pytest.raises(UsageError):
        shift.shifted_accuracy([0], [0], np.ones(1))
