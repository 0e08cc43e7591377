"""Group accuracies and PN against numbers recorded by running the official codes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ltk.data.longtail import assign_groups
from ltk.evaluation import metrics
from ltk.evaluation.posthoc import no_adjustment, predicted_mass, rebalance_predictions

GROUPS = ("many", "medium", "few")


def group_means(
    predicted_N: Any, target_N: Any, counts_K: Any, limits: tuple[int, int] = (100, 20), weight_N: Any = None
) -> list[float | None]:
    predicted, target = np.asarray(predicted_N), np.asarray(target_N)
    weights = None if weight_N is None else np.asarray(weight_N)
    correct_K, total_K = metrics.class_totals(predicted == target, target, len(counts_K), weights)
    found = metrics.group_accuracies(correct_K, total_K, assign_groups(counts_K, limits))
    return [found[name].balanced for name in GROUPS]


@pytest.mark.golden("c09_shot_paco", "c09_shot_lt_project")
def test_group_accuracy_of_paco_and_lt_project(case: dict[str, Any]) -> None:
    given, expected = case["inputs"], case["outputs"]
    found = group_means(given["preds"], given["targets"], given["train_counts"])
    assert found == pytest.approx([expected["many"], expected["median"], expected["low"]], abs=1e-12)


@pytest.mark.golden("c09_shot_lt_project")
def test_weighted_accuracy_and_f1_of_lt_project(case: dict[str, Any]) -> None:
    given, expected = case["inputs"], case["outputs"]
    predicted, target = np.array(given["preds"]), np.array(given["targets"])
    assert (predicted == target).mean() == pytest.approx(expected["micro"], abs=1e-12)
    assert metrics.macro_f1(predicted, target, len(given["train_counts"])) == pytest.approx(expected["macro_f1"])
    found = group_means(predicted, target, given["train_counts"], weight_N=given["weights"])
    assert found == pytest.approx(expected["weighted_shot_acc(many,median,low)"], abs=1e-12)


@pytest.mark.golden("c09_shot_glmc")
def test_group_accuracy_of_glmc(case: dict[str, Any]) -> None:
    given, expected = case["inputs"], case["outputs"]
    scores_NK, target_N = np.array(given["logits"]), np.array(given["targets"])
    found = group_means(metrics.predict_classes(scores_NK), target_N, given["train_counts"], limits=(100, 21))
    assert [100 * (value or 0) for value in found] == pytest.approx(expected["many_med_few_percent"], rel=1e-9)
    top1 = (metrics.target_ranks(scores_NK, target_N) == 0).mean()
    assert 100 * top1 == pytest.approx(expected["top1_percent"], rel=1e-6)


@pytest.mark.golden("c09_shot_reslt_cifar")
def test_group_accuracy_of_reslt_on_cifar(case: dict[str, Any]) -> None:
    given, expected = case["inputs"], case["outputs"]
    classes = case["params"]["num_classes"]
    first, second = {100: (36, 71), 10: (3, 6)}[classes]
    group_K = np.searchsorted([first, second], np.arange(classes), side="right")
    predicted, target = np.array(given["preds"]), np.array(given["targets"])
    correct_K, total_K = metrics.class_totals(predicted == target, target, classes)
    found = metrics.group_accuracies(correct_K, total_K, group_K, ("head", "medium", "tail"))
    for name in ("head", "medium", "tail"):
        assert found[name].balanced == pytest.approx(expected[f"{name}_acc"], rel=1e-6)
    assert found["all"].top1 == pytest.approx(expected["acc"], rel=1e-6)


@pytest.mark.golden("c09_shot_reslt_imagenet")
def test_group_accuracy_of_reslt_on_imagenet(case: dict[str, Any]) -> None:
    given, expected = case["inputs"], case["outputs"]
    group_K = np.searchsorted([165, 610], np.arange(1000), side="right")
    predicted, target = np.array(given["preds"]), np.array(given["targets"])
    correct_K, total_K = metrics.class_totals(predicted == target, target, 1000)
    found = metrics.group_accuracies(correct_K, total_K, group_K, ("T", "M", "H"))
    for name in ("T", "M", "H"):
        assert found[name].balanced == pytest.approx(expected[f"{name}Acc_3_decimals"], abs=5.1e-4)
    assert 100 * (found["all"].top1 or 0) == pytest.approx(expected["Acc@1_percent_3_decimals"], abs=5.1e-4)


@pytest.mark.golden("c07_bagmar_rebalance")
def test_prediction_rebalancing(case: dict[str, Any]) -> None:
    given, expected, params = case["inputs"], case["outputs"], case["params"]
    logits_NK = np.array(given["features"]) @ np.array(given["fc.weight"]).T + np.array(given["fc.bias"])
    np.testing.assert_allclose(logits_NK, expected["raw_logits"], rtol=1e-9)
    tau = params["pow_for_logits(tau)"] if params["norm_logits"] else 0
    start = no_adjustment(logits_NK.shape[1])
    mass_K = predicted_mass(start, [logits_NK[:5], logits_NK[5:]])
    adjusted = rebalance_predictions(start, mass_K, tau, transductive=True)
    assert adjusted.transductive
    if params["norm_logits"]:
        scores_NK = np.array(expected["new_scores"])
        np.testing.assert_allclose(
            adjusted.probabilities(logits_NK), scores_NK / scores_NK.sum(axis=1, keepdims=True), rtol=1e-9
        )
    predicted_N = metrics.predict_classes(adjusted.scores(logits_NK))
    assert predicted_N.tolist() == expected["predictions"]
    found = group_means(predicted_N, given["labels"], given["train_counts"])
    assert found == pytest.approx([expected["many"], expected["median"], expected["low"]])
    assert metrics.macro_f1(predicted_N, np.array(given["labels"]), 6) == pytest.approx(expected["macro_f1"])
