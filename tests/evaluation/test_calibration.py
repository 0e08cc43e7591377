from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn.metrics import log_loss
from torchmetrics.functional.classification import multiclass_calibration_error

from ltk.evaluation import calibration
from ltk.evaluation.logits import SavedLogits
from ltk.evaluation.outcomes import assess
from ltk.evaluation.posthoc import no_adjustment, scale_temperature

CreateSaved = Callable[..., SavedLogits]


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000), st.integers(2, 20))
def test_ece_agrees_with_torchmetrics(create_saved: CreateSaved, seed: int, bins: int) -> None:
    saved = create_saved(seed=seed, skill=2.0)
    outcome = assess(saved)
    table = calibration.reliability(outcome.confidence_N, outcome.is_correct, bins)
    theirs = multiclass_calibration_error(
        torch.softmax(torch.from_numpy(saved.logits_NK), dim=1),
        torch.from_numpy(saved.target_N),
        num_classes=4,
        n_bins=bins,
        norm="l1",
    )
    assert table.ece == pytest.approx(float(theirs), abs=1e-5)
    assert table.images.sum() == 160


def test_nll_and_confidence(saved: SavedLogits) -> None:
    outcome = assess(saved)
    probability_NK = softmax(saved.logits_NK.astype(np.float64), axis=1)
    assert outcome.nll_N.mean() == pytest.approx(log_loss(saved.target_N, probability_NK, labels=range(4)), rel=1e-5)
    np.testing.assert_allclose(outcome.confidence_N, probability_NK.max(axis=1), rtol=1e-5)
    assert np.array_equal(outcome.predicted_N == saved.target_N, outcome.is_correct)


def test_classwise_ece_by_definition(saved: SavedLogits) -> None:
    probability_NK = softmax(saved.logits_NK, axis=1)
    errors = []
    for k in range(4):
        for i in range(15):
            p_N = probability_NK[:, k]
            inside_N = (p_N > i / 15) & (p_N <= (i + 1) / 15)
            if inside_N.any():
                errors.append(inside_N.mean() * abs(p_N[inside_N].mean() - (saved.target_N[inside_N] == k).mean()))
    assert calibration.classwise_ece(saved, no_adjustment(4)) == pytest.approx(sum(errors) / 4, rel=1e-5)


@pytest.mark.parametrize("true_temperature", [0.4, 1.0, 3.0])
def test_the_temperature_of_exact_posteriors_is_found(true_temperature: float) -> None:
    rng = np.random.default_rng(0)
    scores_NK = rng.normal(size=(30_000, 4)) * 2
    target_N = np.array([rng.choice(4, p=p) for p in softmax(scores_NK, axis=1)])
    saved = SavedLogits(
        (scores_NK * true_temperature).astype(np.float32),
        target_N,
        np.arange(30_000),
        ("a", "b", "c", "d"),
        (9, 9, 9, 9),
    )
    found = calibration.fit_temperature(saved, no_adjustment(4))
    assert found == pytest.approx(true_temperature, rel=0.04)
    cooler = assess(saved, scale_temperature(no_adjustment(4), found))
    assert cooler.nll_N.mean() <= assess(saved).nll_N.mean() + 1e-6


def test_every_class_weighs_the_same_in_the_temperature(create_saved: CreateSaved) -> None:
    """A class repeated nine times over moves nothing, though it alone would ask for another temperature."""
    saved = create_saved(counts=(400, 5, 5, 5), bias=1.0)
    place_N = np.repeat(np.arange(len(saved.target_N)), np.where(saved.target_N == 0, 9, 1))
    more = replace(saved, logits_NK=saved.logits_NK[place_N], target_N=saved.target_N[place_N], index_N=place_N)
    alone = replace(
        saved,
        logits_NK=saved.logits_NK[saved.target_N == 0],
        target_N=saved.target_N[saved.target_N == 0],
        index_N=np.flatnonzero(saved.target_N == 0),
    )
    every, repeated, first = (calibration.fit_temperature(part, no_adjustment(4)) for part in (saved, more, alone))
    assert repeated == pytest.approx(every, rel=5e-3)
    assert first < 0.8 * every


def test_an_empty_bin_has_no_accuracy() -> None:
    table = calibration.reliability(np.array([0.95, 1.0]), np.array([True, False]), bins=10)
    assert table.images.tolist() == [0] * 9 + [2]
    assert np.isnan(table.accuracy[0])
    assert table.accuracy[9] == 0.5
    assert table.ece == pytest.approx(0.475)
