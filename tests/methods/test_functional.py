"""The shared functions against official numbers, against plain loops, and at the edges."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ltk.methods.functional import (
    balanced_softmax,
    class_balanced_softmax,
    cutmix,
    cutmix_box,
    effective_number_weights,
    focal_loss,
    inverse_power_weights,
    ldam_loss,
    ldam_margins,
    log_prior,
    logit_adjusted_cross_entropy,
    max_norm,
    max_norm_bound,
    mixup,
    sigmoid_focal_loss,
    soft_cross_entropy,
    tau_normalise,
)
from ltk.numerics import at_least_float32

COUNTS = torch.tensor([100, 10, 1])
TARGET = torch.tensor([0, 2])


def double(value: Any) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def optional(value: Any) -> Tensor | None:
    return None if value is None else double(value)


def toy_logits() -> Tensor:
    """The two rows of the hand-computed example; class counts are ``COUNTS``."""
    return double([[0.5, 0.2, -0.1], [0.3, -0.4, 0.6]]).requires_grad_()


def close(got: Tensor, expected: Tensor | float, rtol: float = 1e-9) -> None:
    torch.testing.assert_close(got.detach(), torch.as_tensor(expected, dtype=got.dtype), rtol=rtol, atol=0)


def softmax(row: list[float]) -> list[float]:
    exponentials = [math.exp(z) for z in row]
    return [e / sum(exponentials) for e in exponentials]


def rows(logits_BK: Tensor) -> list[list[float]]:
    values: list[list[float]] = logits_BK.tolist()
    return values


@pytest.mark.golden("c02_focal_loss")
def test_focal_official_gcl(case: dict[str, Any]) -> None:
    logits = double(case["inputs"]["logits"]).requires_grad_()
    loss = focal_loss(
        logits,
        torch.tensor(case["inputs"]["target"]),
        case["params"]["gamma"],
        optional(case["inputs"]["weight"]),
        detach_factor=True,
        weighted_probability=True,
    )
    close(loss, case["outputs"]["loss"])
    close(torch.autograd.grad(loss, logits)[0], double(case["grads"]["logits"]))


@pytest.mark.golden("c02_ldam_drw_losses", "c02_ldam_loss")
def test_ldam_and_focal_official_ldam(case: dict[str, Any]) -> None:
    given, params = case["inputs"], case["params"]
    name = "logits" if params.get("loss") == "FocalLoss" else "cosine"
    x, target, weight = double(given[name]).requires_grad_(), torch.tensor(given["target"]), optional(given["weight"])
    if name == "logits":
        loss = focal_loss(x, target, params["gamma"], weight, weighted_probability=True)
    else:
        margins = ldam_margins(torch.tensor(given["cls_num_list"]), params["max_m"])
        close(margins, double(case["outputs"]["m_list"]))
        loss = ldam_loss(x, target, margins, params["s"], weight)
    close(loss, case["outputs"]["loss"])
    close(torch.autograd.grad(loss, x)[0], double(case["grads"][name]))


@pytest.mark.golden("c03_ldam_drw_weights_lr", where=lambda case: "per_cls_weights_epoch0" in case["outputs"])
def test_effective_number_weights_official_ldam(case: dict[str, Any]) -> None:
    counts = torch.tensor(case["inputs"]["counts"])
    outputs = case["outputs"]
    weighted = outputs.get("per_cls_weights_epoch199", outputs["per_cls_weights_epoch0"])
    close(effective_number_weights(counts, 0.9999), double(weighted), rtol=2e-7)  # recorded in float32
    close(effective_number_weights(counts, 0.0), torch.ones(len(counts)))


@pytest.mark.golden("c03_samplers_gcl", where=lambda case: "EffectNumRW" in case["outputs"])
def test_re_weighting_rules_official_gcl(case: dict[str, Any]) -> None:
    counts = torch.tensor(case["inputs"]["counts"])
    close(inverse_power_weights(counts, 1.0, total=1.0), double(case["outputs"]["BalancedRW"]))
    close(effective_number_weights(counts, case["params"]["beta"], total=1.0), double(case["outputs"]["EffectNumRW"]))


@pytest.mark.golden("c04_glmc_maxnorm")
def test_max_norm_and_tau_norm_official(case: dict[str, Any]) -> None:
    weight, outputs = double(case["inputs"]["weight"]), case["outputs"]
    before = weight.clone()
    if case["params"]["class"] == "Normalizer":
        close(tau_normalise(weight, case["params"]["tau"]), double(outputs["weight"]))
    else:
        bound = max_norm_bound(weight, case["params"]["thresh"])
        close(bound, outputs["perLayerThresh"][0])
        projected = max_norm(weight, bound)
        close(projected, double(outputs["weight_after_PGD"]))
        close(max_norm(1.5 * projected, bound), double(outputs["weight_after_times_1.5_and_second_PGD"]))
    assert torch.equal(weight, before)


@pytest.mark.golden("c02_mixup", where=lambda case: case["params"]["criterion"] == "mixup_data")
def test_mixup_official(case: dict[str, Any]) -> None:
    x = double(case["inputs"]["x"])
    partner = torch.tensor(case["inputs"]["index"])
    close(mixup(x, x[partner], double(case["inputs"]["lam"])), double(case["outputs"]["mixed_x"]))


@pytest.mark.golden("c02_mixup", where=lambda case: case["params"]["criterion"] == "CE")
def test_mixed_cross_entropy_official(case: dict[str, Any]) -> None:
    inputs = case["inputs"]
    logits, lam = double(inputs["pred"]).requires_grad_(), double(inputs["lam"])
    own, other = (F.cross_entropy(logits, torch.tensor(inputs[name])) for name in ("y_a", "y_b"))
    loss = mixup(own, other, lam)
    close(loss, case["outputs"]["loss"])
    close(torch.autograd.grad(loss, logits)[0], double(case["grads"]["pred"]))
    own, other = (F.one_hot(torch.tensor(inputs[name]), logits.shape[1]).double() for name in ("y_a", "y_b"))
    close(soft_cross_entropy(logits, mixup(own, other, lam)), case["outputs"]["loss"])


def test_hand_computed_losses() -> None:
    logits, prior, weights = toy_logits(), log_prior(COUNTS), effective_number_weights(COUNTS)
    expected = {
        2.22148792: balanced_softmax(logits, TARGET, prior),
        3.32417870: logit_adjusted_cross_entropy(logits, TARGET, prior, tau=1.5),
        0.42942674: focal_loss(logits, TARGET, 1.0),
        0.23452387: focal_loss(logits, TARGET, 2.0),
        0.88780374: sigmoid_focal_loss(logits, TARGET, 1.0),
        0.43687296: sigmoid_focal_loss(logits, TARGET, 2.0),
        0.74688958: F.cross_entropy(logits, TARGET, weights),
        1.16336509: sigmoid_focal_loss(logits, TARGET, 1.0, weights),
        0.57298040: sigmoid_focal_loss(logits, TARGET, 2.0, weights),
        0.62409186: class_balanced_softmax(logits, TARGET, weights),
        3.00827429: ldam_loss(logits, TARGET, ldam_margins(COUNTS), 30.0),
    }
    for value, loss in expected.items():
        close(loss, value, rtol=2e-8)
    close(weights, double([0.02715872, 0.27036887, 2.70247240]), rtol=2e-7)
    close(ldam_margins(COUNTS), double([0.15811388, 0.28117066, 0.5]), rtol=1e-7)


def plain_losses(logits: list[float], target: int, weight: list[float], gamma: float) -> dict[str, float]:
    """Every loss of one image, from the papers' sums, in plain Python."""
    p, y = softmax(logits), target
    sigmoid = [1 / (1 + math.exp(-z)) for z in logits]
    own = [s if k == y else 1 - s for k, s in enumerate(sigmoid)]
    adjusted = softmax([z + math.log(n) for z, n in zip(logits, COUNTS.tolist(), strict=True)])
    binary = [-math.log(q if k == y else 1 - q) for k, q in enumerate(p)]
    return {
        "focal": (1 - p[y]) ** gamma * -math.log(p[y]),
        "weighted focal": weight[y] * (1 - p[y]) ** gamma * -math.log(p[y]),
        "sigmoid focal": sum((1 - q) ** gamma * -math.log(q) for q in own),
        "weighted sigmoid focal": weight[y] * sum((1 - q) ** gamma * -math.log(q) for q in own),
        "balanced softmax": -math.log(adjusted[y]),
        "class-balanced softmax": weight[y] * sum(binary) / len(p),
    }


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_losses_against_plain_loops(gamma: float) -> None:
    logits = torch.randn(20, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    target = torch.arange(20) % 3
    weight = inverse_power_weights(COUNTS, 0.5)
    images = [
        plain_losses(row, y, weight.tolist(), gamma) for row, y in zip(rows(logits), target.tolist(), strict=True)
    ]
    got = {
        "focal": focal_loss(logits, target, gamma),
        "weighted focal": focal_loss(logits, target, gamma, weight),
        "sigmoid focal": sigmoid_focal_loss(logits, target, gamma),
        "weighted sigmoid focal": sigmoid_focal_loss(logits, target, gamma, weight),
        "balanced softmax": balanced_softmax(logits, target, log_prior(COUNTS)),
        "class-balanced softmax": class_balanced_softmax(logits, target, weight),
    }
    for name, loss in got.items():
        close(loss, sum(image[name] for image in images) / len(images))


LOSSES = {
    "focal": lambda z, y: focal_loss(z, y, 0.5),
    "focal, detached": lambda z, y: focal_loss(z, y, 1.0, detach_factor=True),
    "sigmoid focal": lambda z, y: sigmoid_focal_loss(z, y, 0.5),
    "class-balanced softmax": lambda z, y: class_balanced_softmax(z, y, torch.ones(3, dtype=z.dtype)),
    "balanced softmax": lambda z, y: balanced_softmax(z, y, log_prior(COUNTS).to(z.dtype)),
}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("size", [0.0, 50.0, 1e4])
def test_losses_stay_finite(name: str, size: float) -> None:
    logits = torch.tensor([[size, 0.0, -size], [-size, size, 0.0]], requires_grad=True)
    loss = LOSSES[name](logits, TARGET)
    assert torch.isfinite(loss)
    assert torch.autograd.grad(loss, logits)[0].isfinite().all()


def test_losses_survive_autocast() -> None:
    logits = toy_logits().detach().bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = class_balanced_softmax(at_least_float32(logits), TARGET, effective_number_weights(COUNTS).float())
    assert loss.dtype == torch.float32
    close(loss, 0.62409186, rtol=0.01)


def test_the_loss_of_weight_balancing_leaves_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA refuses it under autocast; a CPU would compute it."""
    seen: list[bool] = []
    entropy = F.binary_cross_entropy

    def spy(probability_BK: Tensor, target_BK: Tensor, weight_BK: Tensor) -> Tensor:
        seen.append(torch.is_autocast_enabled("cpu"))
        return entropy(probability_BK, target_BK, weight_BK)

    monkeypatch.setattr(F, "binary_cross_entropy", spy)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        class_balanced_softmax(toy_logits().detach(), TARGET, effective_number_weights(COUNTS).float())
        assert torch.is_autocast_enabled("cpu")
    assert seen == [False]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_at_least_float32(dtype: torch.dtype) -> None:
    assert at_least_float32(torch.zeros(1, dtype=dtype)).dtype == max(dtype, torch.float32, key=lambda d: d.itemsize)


@pytest.mark.parametrize("make", [log_prior, inverse_power_weights, effective_number_weights, ldam_margins])
def test_empty_class_is_refused(make: Any) -> None:
    with pytest.raises(ValueError, match="at least one training image"):
        make(torch.tensor([3, 0, 1]))


def test_effective_numbers_near_their_limits() -> None:
    counts = torch.tensor([10**6, 1000, 1])
    inverse = inverse_power_weights(counts)
    close(effective_number_weights(counts, 1 - 1e-12), inverse, rtol=1e-5)  # where 1 - beta**n would lose all digits
    assert effective_number_weights(counts, 0.9)[0] > 100 * inverse[0]


@given(st.lists(st.integers(1, 10**6), min_size=2, max_size=30), st.floats(0, 2))
@settings(max_examples=50, deadline=None)
def test_class_weights_properties(counts: list[int], power: float) -> None:
    counts_K = torch.tensor(counts)
    order = torch.argsort(counts_K, descending=True)
    for weights in (inverse_power_weights(counts_K, power), effective_number_weights(counts_K, 0.999)):
        assert float(weights.sum()) == pytest.approx(len(counts))
        assert (weights[order].diff() >= -1e-12).all()


def test_cutmix_pastes_a_copy() -> None:
    x, partner = torch.zeros(2, 3, 6, 4), torch.ones(2, 3, 6, 4)
    box = cutmix_box(double(0.5), torch.tensor(1), torch.tensor(3), 6, 4)
    mixed = cutmix(x, partner, box)
    assert float(mixed.mean()) == pytest.approx(float(box.double().mean()))
    assert not x.any()


def test_row_norms_of_the_hand_computed_example() -> None:
    weight = double([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0]])
    bound = max_norm_bound(weight, 0.1)
    close(bound, 1.2)
    assert torch.allclose(max_norm(weight, bound), double([[1.0, 0.0], [0.0, 1.2], [1.2, 0.0]]))
    close(tau_normalise(weight, 0.5).norm(dim=1), double([1, 2**0.5, 3**0.5]))
    close(tau_normalise(weight, 1.9).norm(dim=1), double([1, 0.53588673, 0.37204106]), rtol=1e-7)
    assert not tau_normalise(torch.zeros(1, 2), 1.0).isnan().any()
    assert not max_norm(torch.zeros(1, 2), bound).isnan().any()
