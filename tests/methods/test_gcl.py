"""GCL against the numbers of its official code, against a plain loop, and as a method."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ltk import draws
from ltk.errors import UsageError
from ltk.methods.base import Method
from ltk.methods.functional import focal_loss, gcl_logits, gcl_rarity, mixup
from ltk.methods.gcl import GCL, GCLOptions
from ltk.models.backbones import Backbone, create_backbone
from ltk.models.freezing import find_last_block

COUNTS = torch.tensor([50, 20, 5, 1])
STAGES: dict[str, dict[str, float]] = {
    "GCL stage 1": {"scale": 30, "margin": 0.0, "noise_scale": 0.5},
    "GCL stage 2": {"scale": 20, "margin": 0.1, "noise_scale": 0.5},
}


def double(value: Any) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def close(got: Tensor, expected: Tensor | float) -> None:
    torch.testing.assert_close(got.detach(), torch.as_tensor(expected, dtype=got.dtype), rtol=1e-9, atol=0)


def has_loss(case: dict[str, Any]) -> bool:
    """Not the nan of equal counts, not the loss for a noise branch that no official script builds."""
    return not math.isnan(case["outputs"]["loss"]) and case["params"].get("loss") != "NoiLoss"


def check_official(case: dict[str, Any], form: str, **given: Any) -> None:
    inputs, params, outputs = case["inputs"], case["params"], case["outputs"]
    cosines, target = double(inputs["cosine"]).requires_grad_(), torch.tensor(inputs["target"])
    rarity = gcl_rarity(torch.tensor(inputs["cls_num_list"]))
    logits = gcl_logits(
        cosines,
        target,
        rarity,
        double(inputs["raw_noise_before_clamp"]),
        scale=params.get("s", 30),
        margin=params.get("m", 0.5),
        form=form,
        **given,
    )
    weight = double(inputs["weight"]) if inputs.get("weight") else None
    if params.get("train_cls"):
        loss = focal_loss(logits, target, params["gamma"], weight, detach_factor=True, weighted_probability=True)
    else:
        loss = F.cross_entropy(logits, target, weight)
    gaps = double(outputs["m_list"])
    close(rarity * gaps.max(), gaps)
    if "scaled_logits_given_to_cross_entropy" in outputs:
        close(logits, double(outputs["scaled_logits_given_to_cross_entropy"]))
    close(loss, outputs["loss"])
    close(torch.autograd.grad(loss, cosines)[0], double(case["grads"]["cosine"]))


@pytest.mark.golden("c02_gcl_loss", where=has_loss)
def test_cosine_form_official(case: dict[str, Any]) -> None:
    check_official(case, "cosine", noise_scale=case["params"].get("noise_mul", 1.0))


@pytest.mark.golden("c02_gcl_ang_loss")
def test_angular_form_official(case: dict[str, Any]) -> None:
    params = case["params"]
    check_official(case, "angle", noise_scale=params.get("epsilon", 0.1), easy_margin=params.get("easy_margin", False))


@pytest.mark.golden("c02_gcl_places_losses", where=has_loss)
def test_places_official(case: dict[str, Any]) -> None:
    params = case["params"]
    if params["loss"] == "NoiAngLoss":
        check_official(case, "angle", noise_scale=params["epsilon"], easy_margin=params["easy_margin"])
    else:
        check_official(case, "cosine", noise_scale=params["noise_mul"])


@pytest.mark.golden("c02_mixup", where=lambda case: case["params"]["criterion"] in STAGES)
def test_mixup_with_two_clouds_official(case: dict[str, Any]) -> None:
    inputs, stage = case["inputs"], case["params"]["criterion"]
    cosines = double(inputs["pred"]).requires_grad_()
    rarity = gcl_rarity(torch.tensor(inputs["cls_num_list"]))
    losses = []
    for label, noise in (("y_a", "raw_noise_first_call"), ("y_b", "raw_noise_second_call")):
        target = torch.tensor(inputs[label])
        logits = gcl_logits(cosines, target, rarity, double(inputs[noise]), **STAGES[stage])  # type: ignore[arg-type]
        focal = stage == "GCL stage 2"
        losses.append(focal_loss(logits, target, 1.0, detach_factor=True) if focal else F.cross_entropy(logits, target))
    loss = mixup(losses[0], losses[1], double(inputs["lam"]))
    close(loss, case["outputs"]["loss"])
    close(torch.autograd.grad(loss, cosines)[0], double(case["grads"]["pred"]))


def test_hand_computed_example_against_a_plain_loop() -> None:
    cosines = double([[0.5, 0.2, -0.1], [0.3, -0.4, 0.6]])
    noise = double([[0.1, 0.2, -0.3], [0.05, -0.4, 0.6]])
    target = torch.tensor([0, 2])
    rarity = gcl_rarity(torch.tensor([100, 10, 1]))
    close(rarity, double([0.0, 0.5, 1.0]))
    for stage, expected in (("GCL stage 1", 0.34658736), ("GCL stage 2", (0.00671759 + 2.12692811) / 2)):
        settings = STAGES[stage]
        logits = gcl_logits(cosines, target, rarity, noise, **settings)  # type: ignore[arg-type]
        for b in range(2):
            for k in range(3):
                margin = settings["margin"] if k == target[b] else 0.0
                cloud = settings["noise_scale"] * abs(max(-1.0, min(1.0, float(noise[b, k])))) * float(rarity[k])
                close(logits[b, k], settings["scale"] * (float(cosines[b, k]) - cloud - margin))
        assert float(F.cross_entropy(logits, target)) == pytest.approx(expected, rel=1e-6)
    assert float(focal_loss(logits, target, 1.0)) == pytest.approx(0.93671853, rel=1e-7)


@pytest.mark.parametrize("easy", [True, False])
def test_angular_form_against_angles(easy: bool) -> None:
    angles = torch.linspace(0.05, 3.1, 60, dtype=torch.float64)[None]
    target = torch.tensor([3])
    noise, rarity = torch.full_like(angles, -0.5), torch.ones(60, dtype=torch.float64)
    options = {"scale": 1.0, "margin": 0.2, "noise_scale": 0.4}
    got = gcl_logits(angles.cos(), target, rarity, noise, form="angle", easy_margin=easy, **options)  # type: ignore[arg-type]
    for k, angle in enumerate(angles[0].tolist()):
        turn = math.pi / 2 * 0.4 * 0.5 + (0.2 if k == 3 else 0.0)
        if easy:
            expected = math.cos(angle + turn) if angle < math.pi / 2 else math.cos(angle)
        else:
            expected = math.cos(angle + turn) if angle + turn < math.pi else math.cos(angle) - math.sin(turn)
        assert float(got[0, k]) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("form", ["cosine", "angle"])
def test_without_imbalance_there_is_no_cloud(form: str) -> None:
    cosines = double([[1.0, -1.0, 0.2]]).requires_grad_()
    rarity = gcl_rarity(torch.tensor([50, 50, 50]))
    logits = gcl_logits(cosines, torch.tensor([1]), rarity, double([[0.2, 0.3, 0.4]]), form=form)
    torch.testing.assert_close(logits, 30 * cosines)
    assert torch.autograd.grad(logits.sum(), cosines)[0].isfinite().all()


def test_signed_noise_can_raise_a_logit() -> None:
    cosines, noise, rarity = double([[0.1, 0.1]]), double([[-0.5, 0.5]]), double([1.0, 1.0])
    logits = gcl_logits(cosines, torch.tensor([0]), rarity, noise, scale=1.0, signed=True)
    close(logits, double([[0.35, -0.15]]))


@pytest.mark.parametrize("options", [{}, {"form": "angle"}, {"mixup_alpha": 0.0, "margin": 0.1, "signed": True}])
def test_contract(
    options: dict[str, Any],
    tiny_backbone: Callable[[], Backbone],
    check_contract: Callable[[Callable[[], Method], int], None],
) -> None:
    checked = dict(GCLOptions(**options))
    check_contract(lambda: GCL(tiny_backbone(), COUNTS, **checked), 4)


@pytest.mark.parametrize("options", [{"mixup_alpha": 0.2}, {"form": "angle", "easy_margin": False}])
def test_no_sync(
    options: dict[str, Any], tiny_backbone: Callable[[], Backbone], check_no_sync: Callable[[Method, int], None]
) -> None:
    check_no_sync(GCL(tiny_backbone(), COUNTS, **options), 4)


def test_options_are_the_constructor_defaults(tiny_backbone: Callable[[], Backbone], step: Callable[..., Any]) -> None:
    methods = GCL(tiny_backbone(), COUNTS), GCL(tiny_backbone(), COUNTS, **dict(GCLOptions()))
    methods[1].load_state_dict(methods[0].state_dict())
    assert torch.equal(*(step(method, 4).loss for method in methods))


def test_each_label_draws_a_cloud_of_its_own(
    tiny_backbone: Callable[[], Backbone], step: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Tensor] = []
    normal = draws.normal

    def spy(key: Tensor, *shape: int) -> Tensor:
        drawn.append(normal(key, *shape))
        return drawn[-1]

    monkeypatch.setattr(draws, "normal", spy)
    step(GCL(tiny_backbone(), COUNTS), 4)
    assert [tuple(noise.shape) for noise in drawn] == [(12, 4), (12, 4)]
    assert not torch.equal(*drawn)


def test_steps_repeat_and_differ_by_seed(tiny_backbone: Callable[[], Backbone], step: Callable[..., Any]) -> None:
    method = GCL(tiny_backbone(), COUNTS)
    assert torch.equal(step(method, 4, seed=1).loss, step(method, 4, seed=1).loss)
    assert not torch.equal(step(method, 4, seed=1).loss, step(method, 4, seed=2).loss)


def test_frozen_trunk_trains_a_fresh_last_block() -> None:
    torch.manual_seed(0)
    backbone = create_backbone("cifar_resnet14", width=4)
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    method = GCL(backbone, COUNTS, frozen_trunk=True).train()
    block = find_last_block(backbone)
    assert block is backbone.net.get_submodule("layer3")[-1]  # type: ignore[index]
    names = {name for name, parameter in method.named_parameters() if parameter.requires_grad}
    assert names == {"fc.weight"} | {f"backbone.net.layer3.1.{name}" for name, _ in block.named_parameters()}
    drawn_anew = [name for name, value in backbone.state_dict().items() if not torch.equal(value, before[name])]
    assert drawn_anew == ["net.layer3.1.conv1.weight", "net.layer3.1.conv2.weight"]
    backbone(torch.randn(4, 3, 8, 8))
    moved = {name for name, value in backbone.state_dict().items() if name.endswith("running_mean") and value.any()}
    assert moved == {"net.layer3.1.bn1.running_mean", "net.layer3.1.bn2.running_mean"}


def test_frozen_trunk_needs_a_resnet(tiny_backbone: Callable[[], Backbone]) -> None:
    with pytest.raises(UsageError, match="no last residual block"):
        GCL(tiny_backbone(), COUNTS, frozen_trunk=True)
