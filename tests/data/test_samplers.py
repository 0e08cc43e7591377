from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch

from ltk.data.samplers import (
    SAMPLERS,
    Sampler,
    balanced_weights,
    class_effective_number_weights,
    create_sampler,
    effective_number_weights,
    power_weights,
)
from ltk.draws import make_key
from ltk.errors import UsageError

COUNTS = np.array([500, 200, 80, 30, 5])
LABELS = np.repeat(np.arange(5), COUNTS)
KEY = make_key(3)


def has_sampler_weights(case: dict[str, Any]) -> bool:
    return "resample_weighting" in case["params"]


@pytest.mark.golden("c03_weights_glmc", where=has_sampler_weights)
def test_glmc_weights(case: dict[str, Any]) -> None:
    counts, expected = case["inputs"]["counts"], case["outputs"]
    weights = power_weights(counts, case["params"]["resample_weighting"])
    np.testing.assert_allclose(weights, expected["class_weight"], rtol=1e-9)
    assert create_sampler("power", np.repeat(np.arange(len(counts)), counts), q=0.2).length == expected["num_samples"]


def has_class_weights(case: dict[str, Any]) -> bool:
    return "BalancedDatasetSampler.per_cls_weights" in case["outputs"]


@pytest.mark.golden("c03_samplers_gcl", where=has_class_weights)
def test_gcl_weights(case: dict[str, Any]) -> None:
    counts, params, expected = case["inputs"]["counts"], case["params"], case["outputs"]
    beta, spread = params["cb_beta_a"], params["cb_beta_b"]
    name = "{}Sampler.per_cls_weights".format
    np.testing.assert_allclose(balanced_weights(counts), expected[name("BalancedDataset")], rtol=1e-9)
    np.testing.assert_allclose(effective_number_weights(counts, params["beta"]), expected[name("EffectNum")], rtol=1e-9)
    np.testing.assert_allclose(
        class_effective_number_weights(counts, beta, spread), expected[name("CBEffectNum")], rtol=1e-4
    )
    labels = np.repeat(np.arange(len(counts)), counts)
    assert create_sampler("class-balanced", labels).length == expected["epoch_length_weighted"]
    assert create_sampler("class-aware", labels).length == expected["ClassAwareSampler.len"]


@pytest.mark.golden("c03_ldam_drw_weights_lr", where=lambda case: case["params"]["train_rule"] == "Reweight")
def test_ldam_weights_are_effective_numbers(case: dict[str, Any]) -> None:
    weights = effective_number_weights(case["inputs"]["counts"], case["params"]["beta"])
    expected = case["outputs"]["per_cls_weights_epoch0"]
    np.testing.assert_allclose(weights / weights.sum() * len(weights), expected, rtol=1e-7)


def test_equal_counts_have_equal_weights() -> None:
    assert class_effective_number_weights([7, 7, 7]).tolist() == effective_number_weights([7, 7, 7]).tolist()


def create(name: str, **options: Any) -> Sampler:
    if name == "power":
        options["q"] = 0.5
    return create_sampler(name, LABELS, **options)


@pytest.mark.parametrize("name", SAMPLERS)
def test_orders_are_functions_of_key_and_epoch(name: str) -> None:
    first, again = create(name), create(name)
    order = first.order(KEY, 4)
    assert order.dtype == torch.int64
    assert order.shape == (first.length,)
    assert 0 <= order.min() <= order.max() < len(LABELS)
    first.order(KEY, 0)  # an epoch drawn before or after changes nothing
    assert torch.equal(order, again.order(KEY, 4))
    assert not torch.equal(order, first.order(KEY, 5))
    assert not torch.equal(order, first.order(make_key(4), 4))


def test_uniform_visits_each_image_once() -> None:
    assert sorted(create("uniform").order(KEY, 0).tolist()) == list(range(len(LABELS)))
    twice = Counter(create("uniform", num_samples=2 * len(LABELS) + 3).order(KEY, 0).tolist())
    assert set(twice.values()) == {2, 3}


def test_every_pass_over_the_images_has_an_order_of_its_own() -> None:
    first, second = create("uniform", num_samples=2 * len(LABELS)).order(KEY, 0).split(len(LABELS))
    assert sorted(first.tolist()) == sorted(second.tolist())
    assert not torch.equal(first, second)


def test_weighted_draws_have_48_random_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    """With 24 of them a class could not be rarer than one in 16 million, and its share would be rounded to that."""
    points: list[torch.Tensor] = []
    search = torch.searchsorted

    def spy(edges: torch.Tensor, point: torch.Tensor, **options: Any) -> torch.Tensor:
        points.append(point)
        return search(edges, point, **options)

    monkeypatch.setattr(torch, "searchsorted", spy)
    create("class-balanced", num_samples=1000).order(KEY, 0)
    fine = points[0] * 2.0**24 % 1
    assert torch.equal(fine * 2.0**24 % 1, torch.zeros_like(fine))
    assert len(fine.unique()) > 990
    assert fine.mean().item() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(
    ("name", "options", "weights_K"),
    [
        ("power", {"q": 0.0}, np.ones(5)),
        ("power", {"q": 0.2}, power_weights(COUNTS, 0.2)),
        ("class-balanced", {}, balanced_weights(COUNTS)),
        ("effective-number", {"beta": 0.99}, effective_number_weights(COUNTS, 0.99)),
        ("class-effective-number", {}, class_effective_number_weights(COUNTS)),
    ],
)
def test_images_are_drawn_in_proportion_to_their_weights(
    name: str, options: dict[str, float], weights_K: np.ndarray
) -> None:
    order = create_sampler(name, LABELS, num_samples=200_000, **options).order(KEY, 0).numpy()
    found = np.bincount(LABELS[order], minlength=5)
    share = weights_K * COUNTS / (weights_K * COUNTS).sum()
    spread = np.sqrt(200_000 * share * (1 - share))
    assert (np.abs(found - 200_000 * share) < 4.5 * spread).all()
    rare = np.bincount(order, minlength=len(LABELS))[-5:]
    assert rare.std() / rare.mean() < 0.1  # images of a class are drawn alike


@pytest.mark.golden("c03_samplers_gcl", where=lambda case: "targets" in case["inputs"])
def test_class_aware_properties(case: dict[str, Any]) -> None:
    labels = np.array(case["inputs"]["targets"])
    sampler = create_sampler("class-aware", labels)
    assert sampler.length == case["outputs"]["len"] == len(case["outputs"]["class_aware_class_sequence"])


def test_class_aware_takes_four_images_of_each_class_in_turn() -> None:
    sampler = create_sampler("class-aware", LABELS)
    assert sampler.length == 5 * 500
    order = sampler.order(KEY, 0).numpy()
    classes = LABELS[order].reshape(-1, 4)
    assert (classes == classes[:, :1]).all()
    rounds = classes[:, 0].reshape(-1, 5)
    assert (np.sort(rounds, axis=1) == np.arange(5)).all()
    assert len({tuple(r) for r in rounds}) > 50
    for label in range(5):
        own = order[LABELS[order] == label]
        passes = own[: len(own) // COUNTS[label] * COUNTS[label]].reshape(-1, COUNTS[label])
        assert (np.sort(passes, axis=1) == np.flatnonzero(label == LABELS)).all()  # no image twice before all once
    orders = order[LABELS[order] == 4].reshape(-1, 5)
    assert len({tuple(o) for o in orders}) > 20  # every pass in an order of its own


def test_weights_of_absent_classes_are_refused() -> None:
    with pytest.raises(UsageError, match="class 1 has no training image"):
        create_sampler("class-balanced", [0, 0, 2])


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("random", {}, "unknown sampler"),
        ("power", {"p": 1}, "option of sampler power"),
        ("effective-number", {"beta": 1.0}, "not in"),
        ("class-effective-number", {"beta": 0.99999, "spread": 1e-4}, "not in"),
        ("uniform", {"num_samples": 0}, "empty"),
    ],
)
def test_useless_options_are_refused(name: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        create_sampler(name, LABELS, **options)
