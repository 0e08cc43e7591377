from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binomtest
from sklearn.metrics import balanced_accuracy_score, f1_score, top_k_accuracy_score
from torchmetrics.functional.classification import multiclass_accuracy

from ltk.evaluation import metrics


@st.composite
def cases(draw: st.DrawFn) -> tuple[NDArray[np.float64], NDArray[np.int64], int]:
    """Scores with ties, labels that leave classes out, and the number of classes."""
    classes = draw(st.integers(2, 9))
    images = draw(st.integers(1, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scores_NK = rng.integers(0, draw(st.integers(1, 50)), size=(images, classes)).astype(float)
    target_N = rng.integers(0, draw(st.integers(1, classes)), size=images)
    return scores_NK, target_N.astype(np.int64), classes


@settings(deadline=None, max_examples=60)
@given(cases())
def test_agrees_with_scikit_learn(case: tuple[NDArray[np.float64], NDArray[np.int64], int]) -> None:
    scores_NK, target_N, classes = case
    predicted_N = metrics.predict_classes(scores_NK)
    assert np.array_equal(predicted_N, scores_NK.argmax(axis=1))
    correct_K, total_K = metrics.class_totals(predicted_N == target_N, target_N, classes)
    assert np.array_equal(total_K, np.bincount(target_N, minlength=classes))
    with warnings.catch_warnings():  # scikit-learn warns of labels that never occur; the figure is what we want
        warnings.simplefilter("ignore")
        expected = balanced_accuracy_score(target_N, predicted_N)
    assert metrics.balanced_accuracy(correct_K, total_K) == pytest.approx(expected, abs=1e-12)
    f1 = f1_score(target_N, predicted_N, average="macro", zero_division=0.0)
    assert metrics.macro_f1(predicted_N, target_N, classes) == pytest.approx(f1, abs=1e-12)


@settings(deadline=None, max_examples=40)
@given(cases(), st.integers(1, 8))
def test_ranks_agree_with_sorting_and_torchmetrics(
    case: tuple[NDArray[np.float64], NDArray[np.int64], int], k: int
) -> None:
    scores_NK, target_N, classes = case
    ranks_N = metrics.target_ranks(scores_NK, target_N)
    order_NK = np.argsort(-scores_NK, axis=1, kind="stable")  # ties: lowest index first
    assert np.array_equal(ranks_N, np.argmax(order_NK == target_N[:, None], axis=1))
    assert np.array_equal(ranks_N == 0, metrics.predict_classes(scores_NK) == target_N)
    distinct_NK = scores_NK + np.linspace(0, 0.5, classes)  # without ties, libraries agree among themselves
    k = min(k, classes)
    top_k = float((metrics.target_ranks(distinct_NK, target_N) < k).mean())
    theirs = multiclass_accuracy(
        torch.from_numpy(distinct_NK), torch.from_numpy(target_N), num_classes=classes, top_k=k, average="micro"
    )
    assert top_k == pytest.approx(float(theirs), abs=1e-6)
    if classes > 2 and k < classes:
        expected = top_k_accuracy_score(target_N, distinct_NK, k=k, labels=np.arange(classes))
        assert top_k == pytest.approx(expected, abs=1e-12)


def test_an_image_with_nan_is_never_right() -> None:
    scores_NK = np.array([[math.nan, 1.0], [2.0, math.nan], [2.0, 1.0]])
    target_N = np.array([0, 0, 0])
    assert metrics.target_ranks(scores_NK, target_N).tolist() == [2, 2, 0]
    assert metrics.predict_classes(scores_NK).tolist() == [-1, -1, 0]
    assert metrics.macro_f1(np.array([-1, -1, 0]), target_N, 2) == pytest.approx(2 * 1 / (3 + 1))


def test_group_accuracies() -> None:
    found = metrics.group_accuracies([9, 3, 0, 0], [10, 10, 0, 5], [0, 1, 1, 2], ("many", "medium", "few"))
    assert list(found) == ["all", "many", "medium", "few"]
    assert (found["all"].classes, found["all"].images, found["all"].top1) == (4, 25, 12 / 25)
    assert found["all"].balanced == pytest.approx((0.9 + 0.3 + 0.0) / 3)
    assert (found["medium"].classes, found["medium"].top1, found["medium"].balanced) == (2, 0.3, 0.3)
    assert found["few"].top1 == 0.0


def test_an_empty_group_has_no_accuracy() -> None:
    found = metrics.group_accuracies([9, 3], [10, 10], [0, 0])
    assert (found["few"].classes, found["few"].top1, found["few"].balanced) == (0, None, None)


def test_weights_count_images_more_than_once() -> None:
    target_N, weight_N = np.array([0, 0, 1]), np.array([3.0, 1.0, 2.0])
    correct_K, total_K = metrics.class_totals([True, False, True], target_N, 3, weight_N)
    assert correct_K.tolist() == [3, 2, 0]
    assert total_K.tolist() == [4, 2, 0]


def test_worst_classes_and_geometric_mean() -> None:
    assert metrics.worst_classes([5, 1, 0, 3], [10, 10, 0, 10], 2).tolist() == [1, 3]
    assert metrics.worst_classes([5, 1, 0, 3], [10, 10, 0, 10], 9).tolist() == [1, 3, 0]
    assert metrics.geometric_mean([8, 2, 0], [10, 10, 0]) == pytest.approx(0.4)
    assert metrics.geometric_mean([8, 0], [10, 10]) == 0.0
    assert metrics.geometric_mean([0], [0]) is None
    assert metrics.balanced_accuracy([0], [0]) is None


@given(st.integers(1, 500), st.floats(0, 1), st.sampled_from([0.8, 0.95, 0.99]))
def test_wilson_agrees_with_scipy(total: int, share: float, confidence: float) -> None:
    correct = round(share * total)
    theirs = binomtest(correct, total).proportion_ci(confidence, method="wilson")
    ours = metrics.wilson_interval(correct, total, confidence)
    assert ours is not None
    assert ours == pytest.approx((theirs.low, theirs.high), abs=1e-12)
    assert ours[0] <= correct / total <= ours[1]  # rounding included


def test_wilson_without_images() -> None:
    assert metrics.wilson_interval(0, 0) is None


def test_the_balanced_interval_agrees_with_redrawing_images() -> None:
    rng = np.random.default_rng(1)
    totals, shares = (300, 600, 100), (0.9, 0.5, 0.2)
    images = [np.arange(n) < round(n * p) for n, p in zip(totals, shares, strict=True)]
    redrawn = [np.mean([rng.choice(own, len(own)).mean() for own in images]) for _ in range(4000)]
    expected = np.quantile(redrawn, [0.025, 0.975])
    found = metrics.balanced_interval([own.sum() for own in images], totals)
    assert found == pytest.approx(tuple(expected), abs=0.003)
    assert metrics.balanced_interval([0], [0]) is None


@pytest.mark.parametrize("share", [(0.1, 0.9), (0.5, 0.5), (0.9, 0.9)])
@pytest.mark.parametrize(
    "totals",
    [(1,) * 200, (2,) * 100, (3,) * 500, (80, 59, 44, 33, 24, 18, 13, 10, 7, 5, 4, 3), (5,) * 5, (50,) * 10],
    ids=lambda totals: f"{len(totals)}x{totals[0]}",
)
def test_the_balanced_interval_holds_the_truth_as_often_as_it_says(
    totals: tuple[int, ...], share: tuple[float, float]
) -> None:
    rng = np.random.default_rng(0)
    share_K = rng.uniform(*share, len(totals))
    studies = [metrics.balanced_interval(rng.binomial(totals, share_K), totals) for _ in range(2000)]
    held = np.mean([study is not None and study[0] <= share_K.mean() <= study[1] for study in studies])
    assert held >= 0.925  # 0.937 or more, less two standard errors of 2,000 studies


def test_the_balanced_interval_of_many_images_is_no_wider_than_it_has_to_be() -> None:
    rng = np.random.default_rng(2)
    totals, share_K = (400,) * 20, rng.uniform(0.3, 0.9, 20)
    values = rng.binomial(400, share_K, (4000, 20)).mean(axis=1) / 400
    low, high = metrics.balanced_interval(400 * share_K, totals) or (0.0, 1.0)
    assert high - low == pytest.approx(2 * 1.96 * values.std(), rel=0.05)


def test_the_balanced_interval_stays_in_range() -> None:
    low, high = metrics.balanced_interval([2, 3, 0], [2, 3, 0]) or (0.0, 0.0)
    assert 0 < low < 0.9
    assert high == 1
