from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax, softmax

from ltk.errors import UsageError
from ltk.evaluation import posthoc
from ltk.evaluation.metrics import predict_classes

LOGITS = np.array([[0.5, 0.2, -0.1], [0.3, -0.4, 0.6]])
COUNTS = (100, 10, 1)


def test_nothing_changes_nothing() -> None:
    adjustment = posthoc.no_adjustment(3, COUNTS)
    assert np.array_equal(adjustment.scores(LOGITS), LOGITS)
    assert adjustment.scores(LOGITS.astype(np.float32)).dtype == np.float32
    assert adjustment.label == "none"


def test_logit_adjustment() -> None:
    adjustment = posthoc.adjust_logits(posthoc.no_adjustment(3, COUNTS), COUNTS, 1.5)
    expected = LOGITS - 1.5 * np.log(np.array(COUNTS) / 111)
    np.testing.assert_allclose(adjustment.scores(LOGITS), expected, rtol=1e-12)
    one = posthoc.adjust_logits(posthoc.no_adjustment(3, COUNTS), COUNTS, 1.0)
    assert predict_classes(one.scores(LOGITS)).tolist() == [2, 2]  # Menon et al.: tau 1, these counts
    np.testing.assert_allclose(one.prior_K, 1 / 3)
    assert one.label == "logit adjustment tau=1"


def test_tau_normalisation_is_that_of_the_weights() -> None:
    rng = np.random.default_rng(0)
    weight_KD, bias_K, feats_ND = rng.normal(size=(4, 6)), rng.normal(size=4), rng.normal(size=(7, 6))
    norm_K = np.linalg.norm(weight_KD, axis=1)
    for tau in (0.0, 0.5, 1.9):
        expected = feats_ND @ (weight_KD / norm_K[:, None] ** tau).T
        adjustment = posthoc.normalise_weights(posthoc.no_adjustment(4), norm_K, bias_K, tau)
        np.testing.assert_allclose(adjustment.scores(feats_ND @ weight_KD.T + bias_K), expected, atol=1e-12)
    without = posthoc.normalise_weights(posthoc.no_adjustment(4), norm_K, None, 1.0)
    np.testing.assert_allclose(without.scores(feats_ND @ weight_KD.T), feats_ND @ weight_KD.T / norm_K, atol=1e-12)


def test_rebalanced_predictions() -> None:
    logits_NK = np.array([[2.0, 1, 0], [2, 0, 1], [3, 1, 0], [1, 0.9, 0]])
    start = posthoc.no_adjustment(3)
    mass_K = posthoc.predicted_mass(start, [logits_NK])
    np.testing.assert_allclose(mass_K, [2.61427866, 0.84708453, 0.53863681], rtol=1e-8)
    for tau, expected in ((0, [0, 0, 0, 0]), (1, [1, 2, 0, 1])):
        adjustment = posthoc.rebalance_predictions(start, mass_K, tau, transductive=True)
        assert predict_classes(adjustment.scores(logits_NK)).tolist() == expected
        by_definition = softmax(logits_NK, axis=1) / softmax(logits_NK, axis=1).sum(axis=0) ** tau  # as published
        np.testing.assert_allclose(
            softmax(adjustment.scores(logits_NK), axis=1), by_definition / by_definition.sum(axis=1, keepdims=True)
        )
    assert adjustment.label == "PN tau=1 (transductive)"


def test_a_changed_prior_is_bayes_rule() -> None:
    posterior_NK = np.array([[0.7, 0.2, 0.1], [0.5, 0.25, 0.25]])
    source_K, target_K = np.array([0.8, 0.15, 0.05]), np.array([0.2, 0.3, 0.5])
    adjustment = posthoc.change_prior(posthoc.no_adjustment(3, source_K), target_K, "known")
    by_hand = posterior_NK / source_K * target_K
    by_hand /= by_hand.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(adjustment.probabilities(np.log(posterior_NK)), by_hand, rtol=1e-12)
    np.testing.assert_allclose(adjustment.prior_K, target_K)


def test_changing_the_prior_follows_from_the_last_correction() -> None:
    start = posthoc.no_adjustment(3, COUNTS)
    twice = posthoc.change_prior(posthoc.adjust_logits(start, COUNTS, 1.0), COUNTS, "train")
    np.testing.assert_allclose(log_softmax(twice.scores(LOGITS), axis=1), log_softmax(LOGITS, axis=1), atol=1e-12)
    away = posthoc.change_prior(start, [1, 1, 0], "without the last class")
    assert predict_classes(away.scores(LOGITS)).tolist() == [1, 1]


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 10_000))
def test_em_finds_the_prior_of_the_test_images(seed: int) -> None:
    rng = np.random.default_rng(seed)
    means_KD = 2.5 * np.eye(3)
    source_K, target_K = np.array([0.6, 0.3, 0.1]), rng.dirichlet([4, 4, 4])
    target_N = rng.choice(3, size=20_000, p=target_K)
    x_ND = means_KD[target_N] + rng.normal(size=(len(target_N), 3))
    logits_NK = -0.5 * ((x_ND[:, None] - means_KD) ** 2).sum(axis=2) + np.log(source_K)  # exact posteriors
    posterior_NK = softmax(logits_NK, axis=1)
    found_K = posthoc.estimate_prior(lambda: iter((posterior_NK[:7000], posterior_NK[7000:])), source_K)
    assert found_K.sum() == pytest.approx(1)
    np.testing.assert_allclose(found_K, target_K, atol=0.02)


def test_em_goes_on_until_nothing_moves() -> None:
    """With classes that overlap a step moves little, long before the likelihood is greatest."""
    rng = np.random.default_rng(0)
    source_K = np.array([0.9, 0.1])
    x_N = rng.normal(size=4000) + (rng.random(4000) < 0.8)  # the second class, a standard deviation away, has 0.8
    logits_NK = np.stack((-0.5 * x_N**2, -0.5 * (x_N - 1) ** 2), axis=1) + np.log(source_K)
    posterior_NK = softmax(logits_NK, axis=1)
    found_K = posthoc.estimate_prior(lambda: iter((posterior_NK,)), source_K)
    weighted_NK = posterior_NK * found_K / source_K
    again_K = (weighted_NK / weighted_NK.sum(axis=1, keepdims=True)).mean(axis=0)
    np.testing.assert_allclose(again_K, found_K, atol=1e-6)
    np.testing.assert_allclose(found_K, [0.2, 0.8], atol=0.03)


def test_temperature_keeps_answers_and_changes_probabilities() -> None:
    adjustment = posthoc.scale_temperature(posthoc.adjust_logits(posthoc.no_adjustment(3, COUNTS), COUNTS, 1.0), 2.0)
    expected = (LOGITS - np.log(np.array(COUNTS) / 111)) / 2
    np.testing.assert_allclose(adjustment.scores(LOGITS), expected)
    with pytest.raises(UsageError):
        posthoc.scale_temperature(adjustment, 0.0)


def test_costs_decide_for_the_least_expected_cost() -> None:
    probability_NK = np.array([[0.6, 0.3, 0.1]])
    cost_KK = np.array([[0, 1, 1], [10, 0, 1], [1, 1, 0]])
    adjustment = posthoc.with_costs(posthoc.no_adjustment(3), cost_KK, "by hand")
    decision_NK = adjustment.decisions(adjustment.scores(np.log(probability_NK)))
    np.testing.assert_allclose(decision_NK, [[-3.1, -0.7, -0.9]])
    equal = posthoc.with_costs(posthoc.no_adjustment(3), 1 - np.eye(3), "equal")
    assert predict_classes(equal.decisions(LOGITS)).tolist() == predict_classes(LOGITS).tolist()
    for bad in (np.zeros((2, 3)), np.full((3, 3), np.nan)):
        with pytest.raises(UsageError, match="cost matrix"):
            posthoc.with_costs(adjustment, bad, "bad")


def test_a_class_without_images_has_no_prior() -> None:
    with pytest.raises(UsageError, match="1 classes have zero frequency"):
        posthoc.adjust_logits(posthoc.no_adjustment(3), (3, 0, 1), 1.0)


def test_inputs_are_left_alone() -> None:
    before = LOGITS.copy()
    adjustment = posthoc.adjust_logits(posthoc.no_adjustment(3, COUNTS), COUNTS, 1.0)
    adjustment.probabilities(LOGITS)
    assert np.array_equal(LOGITS, before)
