"""The baselines as methods: what each one's options do to its loss."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ltk.methods.base import Method
from ltk.methods.baselines import (
    LDAM,
    BalancedSoftmax,
    ClassBalanced,
    CrossEntropy,
    Focal,
    LogitAdjustment,
    deferred_weights,
)
from ltk.methods.functional import effective_number_weights, ldam_margins
from ltk.models.backbones import Backbone
from ltk.types import Progress

COUNTS = torch.tensor([50, 20, 5, 1])
PRIOR = torch.log(COUNTS / COUNTS.sum())
TARGET = torch.arange(12) % 4
Create = Callable[[], Backbone]
CASES: list[tuple[type[Method], dict[str, Any]]] = [
    (CrossEntropy, {}),
    (CrossEntropy, {"mixup_alpha": 0.2}),
    (Focal, {}),
    (Focal, {"kind": "sigmoid", "gamma": 1.0}),
    (Focal, {"detach_factor": True}),
    (ClassBalanced, {}),
    (ClassBalanced, {"loss": "focal", "drw": True}),
    (ClassBalanced, {"loss": "focal", "weighted_probability": True}),
    (ClassBalanced, {"loss": "sigmoid-focal", "beta": 0.9}),
    (LDAM, {}),
    (LDAM, {"drw": True, "max_margin": 0.3, "scale": 20.0}),
    (BalancedSoftmax, {}),
    (LogitAdjustment, {}),
    (LogitAdjustment, {"tau": 1.5}),
]


def create(method_class: type[Method], backbone: Backbone, options: dict[str, Any]) -> Method:
    torch.manual_seed(0)
    checked = dict(method_class.Options(**options))
    return method_class(backbone, COUNTS, **checked)  # type: ignore[call-arg]


@pytest.mark.parametrize(("method_class", "options"), CASES)
def test_contract(
    method_class: type[Method],
    options: dict[str, Any],
    tiny_backbone: Create,
    check_contract: Callable[[Callable[[], Method], int], None],
) -> None:
    check_contract(lambda: create(method_class, tiny_backbone(), options), 4)


@pytest.mark.parametrize(("method_class", "options"), CASES)
def test_no_sync(
    method_class: type[Method],
    options: dict[str, Any],
    tiny_backbone: Create,
    check_no_sync: Callable[[Method, int], None],
) -> None:
    check_no_sync(create(method_class, tiny_backbone(), options), 4)


@pytest.mark.parametrize(("method_class", "options"), [case for case in CASES if not case[1]])
def test_options_are_the_constructor_defaults(
    method_class: type[Method], options: dict[str, Any], tiny_backbone: Create, step: Callable[..., Any]
) -> None:
    with_options = create(method_class, tiny_backbone(), options)
    torch.manual_seed(0)
    plain = method_class(tiny_backbone(), COUNTS)  # type: ignore[call-arg]
    assert torch.equal(step(plain, 4).loss, step(with_options, 4).loss)


def expected_loss(method_class: type[Method], options: dict[str, Any], logits_BK: Tensor) -> Tensor:
    """The loss from the logits a step returned, image by image."""
    weight_K = effective_number_weights(COUNTS, options.get("beta", 0.9999)).float()
    p_BK, gamma = F.softmax(logits_BK, dim=1), options.get("gamma", 2.0)
    p_B, own_B = p_BK[range(12), TARGET], logits_BK.new_zeros(12)
    for b, y in enumerate(TARGET.tolist()):
        z_K = logits_BK[b]
        if method_class is Focal and options.get("kind") == "sigmoid":
            s_K = torch.sigmoid(torch.where(torch.arange(4) == y, z_K, -z_K))
            own_B[b] = ((1 - s_K) ** gamma * -s_K.log()).sum()
        elif method_class is Focal:
            own_B[b] = (1 - p_B[b]) ** gamma * -p_B[b].log()
        elif method_class is LDAM:
            margin_K = torch.where(torch.arange(4) == y, ldam_margins(COUNTS).float(), torch.zeros(4))
            own_B[b] = -F.log_softmax(z_K - 30 * margin_K, dim=0)[y]
        elif method_class in (BalancedSoftmax, LogitAdjustment):
            own_B[b] = -F.log_softmax(z_K + options.get("tau", 1.0) * PRIOR, dim=0)[y]
        else:
            own_B[b] = -p_B[b].log()
    if method_class is ClassBalanced:
        return (weight_K[TARGET] * own_B).sum() / weight_K[TARGET].sum()
    return own_B.mean()


@pytest.mark.parametrize(
    ("method_class", "options"),
    [
        (CrossEntropy, {}),
        (Focal, {}),
        (Focal, {"kind": "sigmoid", "gamma": 1.0}),
        (ClassBalanced, {}),
        (ClassBalanced, {"beta": 0.9}),
        (LDAM, {}),
        (BalancedSoftmax, {}),
        (LogitAdjustment, {"tau": 1.5}),
    ],
)
def test_loss_against_a_plain_loop(
    method_class: type[Method], options: dict[str, Any], tiny_backbone: Create, step: Callable[..., Any]
) -> None:
    output = step(create(method_class, tiny_backbone(), options), 4)
    torch.testing.assert_close(output.loss, expected_loss(method_class, options, output.logits_BK))


@pytest.mark.golden("c03_ldam_drw_weights_lr", where=lambda case: case["params"]["train_rule"] == "DRW")
def test_deferred_weights_official(case: dict[str, Any]) -> None:
    weight_K = effective_number_weights(torch.tensor(case["inputs"]["counts"]), case["params"]["beta"])
    for epoch in (0, 159, 160, 199):
        progress = Progress(torch.tensor(float(epoch)), case["params"]["epochs"], torch.tensor(0))
        expected = torch.tensor(case["outputs"][f"per_cls_weights_epoch{epoch}"], dtype=torch.float64)
        torch.testing.assert_close(deferred_weights(weight_K, progress), expected, rtol=2e-7, atol=0)


@pytest.mark.parametrize("method_class", [ClassBalanced, LDAM])
def test_drw_switches_at_80_percent(
    method_class: type[Method], tiny_backbone: Create, step: Callable[..., Any]
) -> None:
    deferred = create(method_class, tiny_backbone(), {"drw": True})
    unweighted = create(method_class, tiny_backbone(), {"drw": True, "beta": 0.0})
    assert torch.equal(step(deferred, 4, epoch=7, epochs=10).loss, step(unweighted, 4, epoch=7, epochs=10).loss)
    assert not torch.equal(step(deferred, 4, epoch=8, epochs=10).loss, step(unweighted, 4, epoch=8, epochs=10).loss)


def test_mixup_mixes_images_and_labels(tiny_backbone: Create, step: Callable[..., Any]) -> None:
    plain = step(create(CrossEntropy, tiny_backbone(), {}), 4)
    mixed = step(create(CrossEntropy, tiny_backbone(), {"mixup_alpha": 1.0}), 4)
    assert not torch.equal(plain.logits_BK, mixed.logits_BK)
    assert not torch.allclose(F.cross_entropy(mixed.logits_BK, TARGET), mixed.loss)


def test_balanced_softmax_is_logit_adjustment_with_tau_1(tiny_backbone: Create, step: Callable[..., Any]) -> None:
    methods = [create(method_class, tiny_backbone(), {}) for method_class in (BalancedSoftmax, LogitAdjustment)]
    assert torch.equal(*(step(method, 4).loss for method in methods))


@pytest.mark.parametrize("method_class", [CrossEntropy, Focal, ClassBalanced, BalancedSoftmax, LogitAdjustment])
def test_the_start_of_the_classifier_is_torchs_and_the_difference_is_stated(
    method_class: type[Method], tiny_backbone: Create
) -> None:
    backbone = tiny_backbone()
    fc = create(method_class, backbone, {}).get_submodule("fc")
    torch.manual_seed(0)
    expected = torch.nn.Linear(backbone.num_features, len(COUNTS)).state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in fc.state_dict().items())
    _, _, differences = str(sys.modules[method_class.__module__].__doc__).partition("Differs from the official code")
    assert "``kaiming_normal_``" in differences
