"""GLMC against the numbers of its official code."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ltk.data.samplers import power_weights
from ltk.methods.functional import cutmix, cutmix_box, inverse_power_weights, mixup
from ltk.methods.glmc import GLMC, Branch, consistency_loss, cumulative_weight, glmc_loss, mixed_labels
from ltk.models.backbones import Backbone
from ltk.types import StepOutput

GOLDEN = Path(__file__).parents[1] / "golden"


def cases(name: str) -> list[dict[str, Any]]:
    return json.loads((GOLDEN / f"{name}.json").read_text())["cases"]


def tensor(value: Any) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


@pytest.mark.parametrize("case", cases("c03_weights_glmc"))
def test_class_weights(case: dict[str, Any]) -> None:
    counts = torch.tensor(case["inputs"]["counts"])
    if "resample_weighting" in case["params"]:
        got = torch.as_tensor(power_weights(counts.numpy(), case["params"]["resample_weighting"]))
        got = got / got.sum() * len(got)
        assert got.tolist() == pytest.approx(case["outputs"]["class_weight"], rel=1e-9)
    else:
        expected = case["outputs"]["per_cls_weights(float32)"]
        got = inverse_power_weights(counts, case["params"]["label_weighting"])
        assert got.tolist() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("case", cases("c04_glmc_rand_bbox"))
def test_box(case: dict[str, Any]) -> None:
    given, (top, left, bottom, right) = case["inputs"], case["outputs"]["bbx1,bby1,bbx2,bby2"]
    box = cutmix_box(
        torch.tensor(given["lam"], dtype=torch.float64),
        torch.tensor(given["cx"]),
        torch.tensor(given["cy"]),
        given["W"],
        given["H"],
    )
    expected = torch.zeros(given["W"], given["H"], dtype=torch.bool)
    expected[top:bottom, left:right] = True
    assert torch.equal(box, expected)


@pytest.mark.parametrize("case", cases("c04_glmc_mixed"))
def test_mixed_images_and_labels(case: dict[str, Any]) -> None:
    given, params, expected = case["inputs"], case["params"], case["outputs"]
    lam = tensor(params["lam"])
    org1, org2, invs1, invs2 = (tensor(given[name]) for name in ("org1", "org2", "invs1", "invs2"))
    before = org2.clone()
    box = cutmix_box(
        lam,
        torch.tensor(params["cx(first randint)"]),
        torch.tensor(params["cy(second randint)"]),
        *org2.shape[-2:],
    )
    plain, weighted = mixed_labels(
        torch.tensor(given["target_org"]),
        torch.tensor(given["target_invs"]),
        lam,
        tensor(given["per_cls_weights"]),
    )
    for got, name in (
        (mixup(org1, invs1, lam), "mixup_x"),
        (cutmix(org2, invs2, box), "cutmix_x"),
        (plain, "mixup_y"),
        (weighted, "mixup_y_w"),
        (plain, "cutmix_y"),
        (weighted, "cutmix_y_w"),
    ):
        torch.testing.assert_close(got, tensor(expected[name]), rtol=1e-9, atol=1e-12)
    assert torch.equal(org2, before)


LOSS_CASES = cases("c04_glmc_loss")
NAMES = ("out1", "out_cb1", "z1", "p1", "out2", "out_cb2", "z2", "p2")


@pytest.mark.parametrize("case", [case for case in LOSS_CASES if "lam" in case["params"]])
def test_loss_and_gradients(case: dict[str, Any]) -> None:
    given, params, expected = case["inputs"], case["params"], case["outputs"]
    given = LOSS_CASES[given["same_as_case"]]["inputs"] if "same_as_case" in given else given
    leaves = {name: tensor(given[name]).requires_grad_() for name in NAMES}
    target = torch.tensor(given["target_org"])
    partner = torch.tensor(given["target_invs(first B used)"])[: len(target)]
    weights = inverse_power_weights(torch.tensor(given["counts"]), params["label_weighting"])
    labels = mixed_labels(target, partner, tensor(params["lam"]), weights)
    out1, out_cb1, z1, p1, out2, out_cb2, z2, p2 = (leaves[name] for name in NAMES)
    mix, cut = Branch(out1, out_cb1, z1, p1, *labels), Branch(out2, out_cb2, z2, p2, *labels)
    alpha = cumulative_weight(params["epoch(from 0)"], params["epochs"])
    loss, parts = glmc_loss(mix, cut, alpha, params["contrast_weight"])
    loss.backward()
    assert float(loss.detach()) == pytest.approx(expected["loss"], rel=1e-7)
    assert float(parts["plain"].detach()) == pytest.approx(expected["balance_loss"], rel=1e-7)
    assert float(parts["rebalanced"].detach()) == pytest.approx(expected["rebalance_loss"], rel=1e-7)
    assert alpha == pytest.approx(expected["alpha"], rel=1e-12)
    for name, official in case["grads"].items():
        got = leaves[name].grad
        if official is None or got is None:
            assert got is None
            assert official is None
        else:
            torch.testing.assert_close(got, tensor(official), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("case", [case for case in LOSS_CASES if case["params"].get("function") == "SimSiamLoss"])
def test_consistency(case: dict[str, Any]) -> None:
    p, z = tensor(case["inputs"]["p"]).requires_grad_(), tensor(case["inputs"]["z"])
    loss = consistency_loss(p, p, z, z) / 2
    loss.backward()
    assert float(loss.detach()) == pytest.approx(case["outputs"]["loss"], rel=1e-7)
    torch.testing.assert_close(p.grad, tensor(case["grads"]["p"]), rtol=1e-7, atol=1e-12)


def create(backbone: Backbone, views_forward: str) -> GLMC:
    torch.manual_seed(0)
    return GLMC(backbone, torch.tensor([8, 4, 2]), embedding=8, views_forward=views_forward).train()


def test_the_consistency_loss_alone_teaches_the_backbone(
    tiny_backbone: Callable[[], Backbone], step: Callable[..., StepOutput], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ltk.methods.glmc.soft_cross_entropy", lambda logits_BK, labels_BK: 0 * logits_BK.sum())
    method = create(tiny_backbone(), "separate")
    step(method, 3).loss.backward()  # type: ignore[no-untyped-call]
    assert not method.fc.weight.grad.any()  # type: ignore[union-attr]
    for name, parameter in method.backbone.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name


def test_views_that_pass_together_share_batch_statistics(
    tiny_backbone: Callable[[], Backbone], step: Callable[..., StepOutput]
) -> None:
    passes, losses = [], []
    for how in ("separate", "joint"):
        method = create(tiny_backbone(), how)
        losses.append(step(method, 3).loss.item())
        passes.append(next(int(v) for name, v in method.state_dict().items() if name.endswith("num_batches_tracked")))
    assert passes == [2, 1]
    assert losses[0] != pytest.approx(losses[1], rel=1e-6)


def test_without_batch_statistics_views_may_pass_together(
    tiny_backbone: Callable[[], Backbone], step: Callable[..., StepOutput]
) -> None:
    losses = []
    for how in ("separate", "joint"):
        method = create(tiny_backbone(), how)
        method.backbone.eval()
        losses.append(step(method, 3).loss.item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
