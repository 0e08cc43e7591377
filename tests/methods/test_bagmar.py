"""BaGMar against the numbers of its official code, against its matrices and loops, and as a method."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ltk.methods.bagmar import (
    BaGMar,
    BaGMarOptions,
    add_gradient,
    adjust_logits,
    adjust_logits_as_in_paper,
    positive_gradient,
)
from ltk.methods.base import Method
from ltk.models.backbones import Backbone

COUNTS = torch.tensor([50, 20, 5, 1])
Create = Callable[[], Backbone]


def double(value: Any) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


@pytest.mark.golden("c07_bagmar_steps")
def test_four_steps_official(case: dict[str, Any]) -> None:
    params = case["params"]
    lambda_1, lambda_2 = (params[name] * params["margin_cls"] for name in ("lamda_1", "lamda_2"))
    total = theta = torch.zeros(params["num_classes"], dtype=torch.float64)
    steps = case["outputs"]["steps"]
    for step in steps:
        given = steps[0] if step["fc_logits"] == "same as step 0" else step
        logits, target = double(given["fc_logits"]).requires_grad_(), torch.tensor(given["labels"])
        adjusted = adjust_logits(logits, theta, lambda_1)
        loss = F.cross_entropy(adjusted, target)
        gradient = torch.autograd.grad(loss, logits)[0]
        common = lambda_2 * torch.log(theta + 1e-3)[target, None]  # the official term that cancels in the softmax
        expected = {
            "adjusted_logits": adjusted - common,
            "loss": loss,
            "gradient_fed_back(dL/d adjusted logits)": gradient,
            "grad_features": gradient,
        }
        for name, value in expected.items():
            torch.testing.assert_close(value.detach(), double(step[name]), rtol=1e-9, atol=1e-15)
        assert adjusted.argmax(dim=1).tolist() == step["predictions_counted_in_training_accuracy"]
        total, theta = add_gradient(total, theta, positive_gradient(adjusted.detach(), target))
        torch.testing.assert_close(
            total, double(step["accum_cls_fine_grad(running total)"]).diagonal(), rtol=1e-9, atol=0
        )
        for name in ("accum_cls_pos_grad", "accum_sample_neg_grad"):  # theta and phi: equal
            torch.testing.assert_close(theta, double(step[name]), rtol=1e-9, atol=0)


def plain_steps(steps: list[tuple[Tensor, Tensor]], how: str) -> tuple[list[list[float]], list[list[float]]]:
    """The official bookkeeping: K x K matrices, one image after the other; theta and phi after each step."""
    num_classes = steps[0][0].shape[1]
    total = torch.zeros(num_classes, num_classes, dtype=torch.float64)
    double_total = total.clone()
    thetas: list[list[float]] = []
    phis: list[list[float]] = []
    for logits, target in steps:
        theta = torch.tensor(thetas[-1] if thetas else [0.0] * num_classes, dtype=torch.float64)
        z = (logits + 1.2 * torch.log(theta + 1e-3)).requires_grad_()
        gradient = torch.autograd.grad(F.cross_entropy(z, target), z)[0].abs()
        for image, label in enumerate(target.tolist()):
            total[:, label] += gradient[image]
        double_total += total
        seen = double_total if how == "double" else total
        thetas.append([float(seen[k, k]) for k in range(num_classes)])
        phis.append([float(seen[:, k].sum() - seen[k, k]) for k in range(num_classes)])
    return thetas, phis


@pytest.mark.parametrize("how", ["double", "single"])
def test_vectors_equal_the_matrices(how: str) -> None:
    generator = torch.Generator().manual_seed(0)
    steps = [
        (
            3 * torch.randn(size, 7, dtype=torch.float64, generator=generator),
            torch.randint(7, (size,), generator=generator),
        )
        for size in (8, 8, 5, 1)
    ]
    thetas, phis = plain_steps(steps, how)
    total = theta = torch.zeros(7, dtype=torch.float64)
    for (logits, target), expected, phi in zip(steps, thetas, phis, strict=True):
        total, theta = add_gradient(total, theta, positive_gradient(adjust_logits(logits, theta, 1.2), target), how)
        assert theta.tolist() == pytest.approx(expected, rel=1e-12)
        assert phi == pytest.approx(expected, rel=1e-12)


def test_hand_computed_example() -> None:
    logits, target = double([[0.5, 0.2, -0.1], [0.3, -0.4, 0.6]]), torch.tensor([0, 2])
    total = theta = torch.zeros(3, dtype=torch.float64)
    expected = [
        (0.78723035, [0.28162409, 0, 0.26288682]),
        (0.50006085, [0.7313073, 0, 0.74874038]),
        (0.49513507, [1.36146024, 0, 1.44395142]),
    ]
    for loss, after in expected:
        adjusted = adjust_logits(logits, theta, 1.2)
        assert float(F.cross_entropy(adjusted, target)) == pytest.approx(loss, rel=2e-8)
        total, theta = add_gradient(total, theta, positive_gradient(adjusted, target))
        assert theta.tolist() == pytest.approx(after, rel=2e-7)


def test_paper_form_against_its_formula() -> None:
    generator = torch.Generator().manual_seed(1)
    logits, target = torch.randn(6, 4, dtype=torch.float64, generator=generator), torch.tensor([0, 1, 2, 3, 3, 0])
    theta = torch.rand(4, dtype=torch.float64, generator=generator)
    got = adjust_logits_as_in_paper(logits, target, theta, 1.2, 0.9)
    for image, y in enumerate(target.tolist()):
        for j in range(4):
            margin = 1.2 * torch.log(theta[j] + 1e-3) - 0.9 * torch.log(theta[y] + 1e-3)
            assert float(got[image, j]) == pytest.approx(float(logits[image, j] + (margin if j != y else 0)), rel=1e-12)
    equal = adjust_logits_as_in_paper(logits, target, theta, 1.2, 1.2)
    torch.testing.assert_close(F.log_softmax(equal, 1), F.log_softmax(adjust_logits(logits, theta, 1.2), 1))


def test_positive_gradient_is_the_gradient_of_the_loss() -> None:
    logits = torch.randn(9, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2)).requires_grad_()
    target = torch.arange(9) % 3
    gradient = torch.autograd.grad(F.cross_entropy(logits, target), logits)[0].abs()
    expected = torch.zeros(4, dtype=torch.float64).index_add(0, target, gradient[range(9), target])
    torch.testing.assert_close(positive_gradient(logits.detach(), target), expected)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"margin": "paper", "lambda_1": 1.2, "lambda_2": 0.9},
        {"accumulate": "single"},
        {"frozen_backbone": True, "freeze_bn": True, "sampler": "class-aware"},
    ],
)
def test_contract(
    options: dict[str, Any],
    tiny_backbone: Create,
    check_contract: Callable[[Callable[[], Method], int], None],
) -> None:
    checked = dict(BaGMarOptions(**options))
    check_contract(lambda: BaGMar(tiny_backbone(), COUNTS, **checked), 4)


@pytest.mark.parametrize("margin", ["code", "paper"])
def test_no_sync(margin: str, tiny_backbone: Create, check_no_sync: Callable[[Method, int], None]) -> None:
    check_no_sync(BaGMar(tiny_backbone(), COUNTS, margin=margin), 4)


def test_method_keeps_the_books_of_the_functions(tiny_backbone: Create, step: Callable[..., Any]) -> None:
    method = BaGMar(tiny_backbone(), COUNTS, lambda_1=1.2).train()
    target = torch.arange(12) % 4
    total = theta = torch.zeros(4)
    for seed in range(3):
        output = step(method, 4, seed=seed)
        adjusted = adjust_logits(output.logits_BK, theta, 1.2)
        torch.testing.assert_close(output.loss, F.cross_entropy(adjusted, target))
        total, theta = add_gradient(total, theta, positive_gradient(adjusted, target))
        torch.testing.assert_close(method.theta_K, theta)
        torch.testing.assert_close(method.total_K, total)
    assert {"total_K", "theta_K"} <= set(method.state_dict())
    assert not {"total_K", "theta_K"} & set(method.inference_state())


def test_prediction_has_no_margin(tiny_backbone: Create, step: Callable[..., Any]) -> None:
    method = BaGMar(tiny_backbone(), COUNTS)
    x_BCHW = torch.randn(3, 3, 8, 8)
    method.eval()
    before = method.predict(x_BCHW)
    method.theta_K.copy_(torch.tensor([5.0, 1.0, 0.1, 0.0]))
    assert torch.equal(method.predict(x_BCHW), before)


@pytest.mark.parametrize("freeze_bn", [True, False])
def test_frozen_backbone(freeze_bn: bool, tiny_backbone: Create, step: Callable[..., Any]) -> None:
    method = BaGMar(tiny_backbone(), COUNTS, frozen_backbone=True, freeze_bn=freeze_bn, sampler="class-aware").train()
    assert method.streams["main"].sampler == "class-aware"
    assert {name for name, p in method.named_parameters() if p.requires_grad} == {"fc.weight", "fc.bias"}
    before = {name: value.clone() for name, value in method.backbone.named_buffers()}
    step(method, 4)
    moved = [name for name, value in method.backbone.named_buffers() if not torch.equal(value, before[name])]
    assert bool(moved) is not freeze_bn
