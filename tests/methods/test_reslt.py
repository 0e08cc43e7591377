"""ResLT and RIDE-ResLT against the numbers of the official code and the plainest loop."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ltk.methods.residual import class_groups, eps_cross_entropy, reslt_loss
from ltk.methods.reslt import ResLT, ResLTOptions
from ltk.models.backbones import Backbone, create_backbone
from ltk.models.branches import BlockBranches, NormBranches, scaled_linear
from ltk.types import StepOutput

COUNTS = torch.tensor([50, 20, 8, 3])
Tiny = Callable[[], Backbone]


def tensor(value: Any) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


# --- which branch learns what ---------------------------------------------------------------------------------------


def long_tail(num_classes: int, largest: int, factor: float) -> Tensor:
    """The exponential profile of the CIFAR-LT data sets."""
    return torch.tensor([int(largest * factor ** -(k / (num_classes - 1))) for k in range(num_classes)])


@pytest.mark.parametrize("factor", [100, 50, 10])
def test_official_index_limits_on_cifar(factor: int) -> None:
    _, medium_K, tail_K = class_groups(long_tail(100, 500, factor), 65, 30, "rank")
    assert medium_K.nonzero().flatten().tolist() == list(range(35, 100))
    assert tail_K.nonzero().flatten().tolist() == list(range(70, 100))
    _, medium_K, tail_K = class_groups(long_tail(10, 5000, factor), 8, 6, "rank")
    assert medium_K.nonzero().flatten().tolist() == list(range(2, 10))
    assert tail_K.nonzero().flatten().tolist() == list(range(4, 10))


@pytest.mark.parametrize(("factor", "medium", "tail"), [(100, 98, 19), (50, 125, 31), (10, 221, 98)])
def test_the_official_limits_in_counts(factor: int, medium: int, tail: int) -> None:
    counts_K = long_tail(100, 500, factor)
    by_rank = class_groups(counts_K, 65, 30, "rank")
    assert torch.equal(class_groups(counts_K, medium, tail, "count"), by_rank)
    assert torch.equal(class_groups(counts_K, 0.65, 0.3, "share"), by_rank)


def test_groups_of_any_order_of_classes() -> None:
    counts_K = torch.tensor([3, 90, 7, 7, 500, 20])
    rank = class_groups(counts_K, 4, 2, "rank")
    assert rank[1].tolist() == [True, False, True, True, False, True]
    assert rank[2].tolist() == [True, False, True, False, False, False]  # the tie is cut in order of class
    share = class_groups(counts_K, 4 / 6, 2 / 6, "share")
    assert share[2].tolist() == [True, False, True, True, False, False]  # the tie is kept together
    count = class_groups(counts_K, 90, 0, "count")
    assert count.tolist() == [[True] * 6, [True, True, True, True, False, True], [False] * 6]


def test_balanced_classes_are_learnt_by_all_branches() -> None:
    assert class_groups(torch.full((4,), 9), 0.65, 0.3).all()
    assert not class_groups(torch.full((4,), 9), 0.0, 0.0)[1:].any()


# --- losses ---------------------------------------------------------------------------------------------------------


def groups_from_limits(num_classes: int, *ranges: tuple[int, int]) -> Tensor:
    class_K = torch.arange(num_classes)
    return torch.stack([class_K >= 0, *((class_K >= first) & (class_K < end) for first, end in ranges)])


def check_gradients(got_RBK: Tensor, official: list[Any]) -> None:
    """Against whole gradients, or some columns with sums; None is a branch that is not there."""
    for got_BK, grads in zip(got_RBK, official, strict=True):
        if isinstance(grads, list):
            torch.testing.assert_close(got_BK, tensor(grads), rtol=1e-8, atol=1e-12)
            continue
        torch.testing.assert_close(got_BK[:, grads["columns"]], tensor(grads["values"]), rtol=1e-8, atol=1e-12)
        assert float(got_BK.square().sum()) == pytest.approx(grads["sum_of_squares"], rel=1e-8)
        assert float(got_BK.abs().sum()) == pytest.approx(grads["abs_sum"], rel=1e-8)


@pytest.mark.golden("c06_reslt_cifar_loss")
def test_cifar_loss(case: dict[str, Any]) -> None:
    given, params, expected = case["inputs"], case["params"], case["outputs"]
    names = ("logitH", "logitM", "logitT")
    logits_RBK = tensor([given[name] for name in names]).requires_grad_()
    groups_RK = groups_from_limits(params["num_classes"], params["M group"], params["T group"])
    loss, parts = reslt_loss(logits_RBK, torch.tensor(given["target"]), groups_RK, beta=params["beta"])
    loss.backward()  # type: ignore[no-untyped-call]
    assert float(loss.detach()) == pytest.approx(expected["loss"], rel=1e-8)
    assert float(parts["independent"].detach()) == pytest.approx(expected["loss_ice"], rel=1e-8)
    assert float(parts["fused"].detach()) == pytest.approx(expected["loss_fce"], rel=1e-8)
    assert logits_RBK.grad is not None
    check_gradients(logits_RBK.grad, [case["grads"][name] for name in names])


def recorded_logits(text: str, batch: int, num_classes: int, num_experts: int) -> Tensor:
    """logits_ERBK from the recorded seed."""
    seed = int(text.split("RandomState(")[1].split(")")[0])
    draw = np.random.RandomState(seed)
    return torch.from_numpy(draw.standard_normal((num_experts, 3, batch, num_classes)) * 2)


@pytest.mark.golden("c06_reslt_imagenet_loss", "c06_reslt_inat_loss")
def test_loss_on_many_classes(case: dict[str, Any]) -> None:
    """Class 0 is the rarest here; iNaturalist has two branches and plain cross-entropy of the fused logits."""
    params, expected, grads = case["params"], case["outputs"], case["grads"]
    ride = "script" in params
    inat = params.get("num_classes", 8142) == 8142
    num_classes, medium, tail = (8142, 6600, 0) if inat else (1000, 825, 220)
    target_B = torch.tensor(case["inputs"]["target"])
    all_ERBK = recorded_logits(case["inputs"]["logits"], len(target_B), num_classes, 3 if ride else 1)
    leaf_ERBK = all_ERBK[:, : 2 if inat else 3].clone().requires_grad_()
    groups_RK = class_groups(torch.arange(1, num_classes + 1), medium, tail, "rank")
    knobs = {"beta": params["beta"], "smoothing": params.get("lsm", 0.0), "fused_eps": 0.0 if inat else 1e-7}
    parts = [reslt_loss(logits_RBK, target_B, groups_RK, **knobs) for logits_RBK in leaf_ERBK]
    loss = torch.stack([total for total, _ in parts]).sum()
    loss.backward()  # type: ignore[no-untyped-call]
    assert float(loss.detach()) == pytest.approx(expected["loss"], rel=1e-8)
    if not ride:
        assert float(parts[0][1]["independent"].detach()) == pytest.approx(expected["I_loss"], rel=1e-8)
        assert float(parts[0][1]["fused"].detach()) == pytest.approx(expected["F_loss"], rel=1e-8)
    assert leaf_ERBK.grad is not None
    for k, got_RBK in enumerate(leaf_ERBK.grad):
        names = [f"expert{k}.{b}" if ride else f"logit{b}" for b in "HMT"]
        check_gradients(got_RBK, [grads[name] for name in names if grads[name] is not None])


H = [[0.5, 0.2, -0.1], [0.3, -0.4, 0.6]]


def plain_reslt_loss(logits: list[list[list[float]]], target: list[int], groups: list[set[int]], beta: float) -> float:
    """The paper's loss, one branch and sample at a time."""

    def softmax(z: list[float]) -> list[float]:
        mass = sum(math.exp(x) for x in z)
        return [math.exp(x) / mass for x in z]

    total, terms = 0.0, 0
    for branch, group in zip(logits, groups, strict=True):
        for z, y in zip(branch, target, strict=True):
            if y in group:
                total -= math.log(softmax(z)[y] + 1e-7)
                terms += 1
    fused = [[sum(column) for column in zip(*rows, strict=True)] for rows in zip(*logits, strict=True)]
    fused_loss = -sum(math.log(softmax(z)[y]) for z, y in zip(fused, target, strict=True)) / len(target)
    return beta * total / terms + (1 - beta) * fused_loss


def test_loss_by_hand() -> None:
    logits_RBK = torch.stack((tensor(H), 2 * tensor(H), -tensor(H)))
    groups_RK = groups_from_limits(3, (1, 3), (2, 3))
    loss, parts = reslt_loss(logits_RBK, torch.tensor([0, 2]), groups_RK, beta=0.995)
    assert float(parts["independent"]) == pytest.approx(0.92967319, abs=1e-8)
    assert float(parts["fused"]) == pytest.approx(0.56822398, abs=1e-8)
    assert float(loss) == pytest.approx(0.92786594, abs=1e-8)
    plain = plain_reslt_loss(logits_RBK.tolist(), [0, 2], [{0, 1, 2}, {1, 2}, {2}], 0.995)
    assert float(loss) == pytest.approx(plain, rel=1e-9)


def test_eps_caps_the_loss_and_zero_does_not() -> None:
    logits_BK, target_B = torch.tensor([[0.0, 40.0]]), torch.tensor([0])
    assert float(eps_cross_entropy(logits_BK, target_B)) == pytest.approx(16.118, abs=1e-3)
    assert float(eps_cross_entropy(logits_BK, target_B, eps=0.0)) == pytest.approx(40.0)


def test_exact_smoothing_is_that_of_torch() -> None:
    logits_BK, target_B = tensor(H), torch.tensor([0, 2])
    got_B = eps_cross_entropy(logits_BK, target_B, eps=0.0, smoothing=0.1)
    # torch spreads the smoothed share over all K classes, ltk over the other K - 1.
    expected_B = nn.functional.cross_entropy(logits_BK, target_B, label_smoothing=0.15, reduction="none")
    torch.testing.assert_close(got_B, expected_B)


# --- branches and evaluation ----------------------------------------------------------------------------------------


@pytest.mark.golden("c06_reslt_eval_norm")
def test_evaluation(case: dict[str, Any]) -> None:
    given, params, expected = case["inputs"], case["params"], case["outputs"]
    linear = nn.Linear(8, 6).double()
    linear.load_state_dict({"weight": tensor(given["fc.weight"]), "bias": tensor(given["fc.bias"])})
    if "layer4_map" in given:
        return check_block(given, params, expected, linear)
    feats_RBD = torch.stack(tensor(given["features(B,3c) = [H|M|T]"]).chunk(3, dim=1))
    scaled_RBK = scaled_linear(feats_RBD, linear, params["gamma"], keep_bias=False)
    for got_BK, train_BK, name in zip(scaled_RBK, linear(feats_RBD), "HMT", strict=True):
        torch.testing.assert_close(got_BK, tensor(expected[f"eval_logit{name}"]), rtol=1e-8, atol=1e-12)
        recorded = next(value for key, value in expected.items() if key.startswith(f"train_logit{name}"))
        torch.testing.assert_close(train_BK, tensor(recorded), rtol=1e-8, atol=1e-12)
    torch.testing.assert_close(scaled_RBK.sum(0), tensor(expected["eval_sum"]), rtol=1e-8, atol=1e-12)
    torch.testing.assert_close(scaled_linear(feats_RBD, linear, 0.0, keep_bias=True), linear(feats_RBD))


def check_block(given: dict[str, Any], params: dict[str, Any], expected: dict[str, Any], linear: nn.Linear) -> None:
    """The order of block and pooling in training and evaluation, and the running statistics."""
    block = BlockBranches(8, 3, train_pool_last=params["after_1x1conv"]).double()
    state = {f"norm.{name}": tensor(value) for name, value in given["bn"].items()}
    block.load_state_dict(state | {"conv.weight": tensor(given["finalBlock.0.weight"])}, strict=False)
    map_BDHW = tensor(given["layer4_map"])
    eval_RBK = scaled_linear(block.eval()(map_BDHW), linear, params["gamma"], keep_bias=False)
    torch.testing.assert_close(eval_RBK, tensor(expected["eval_logits_H_M_T"]), rtol=1e-8, atol=1e-12)
    train_RBK = linear(block.train()(map_BDHW))
    torch.testing.assert_close(train_RBK, tensor(expected["train_logits_H_M_T"]), rtol=1e-8, atol=1e-12)
    for name in ("running_mean", "running_var"):
        recorded = tensor(expected[f"{name}_after_one_train_forward"])
        torch.testing.assert_close(block.norm.get_buffer(name), recorded, rtol=1e-8, atol=1e-12)


def test_pooling_last_in_evaluation_is_another_function() -> None:
    torch.manual_seed(0)
    first, last = BlockBranches(4, 3).eval(), BlockBranches(4, 3, eval_pool_last=True).eval()
    last.load_state_dict(first.state_dict())
    map_BDHW = torch.randn(2, 4, 3, 3)
    assert not torch.allclose(first(map_BDHW), last(map_BDHW))
    flat_BDHW = map_BDHW.mean(dim=(2, 3), keepdim=True)
    torch.testing.assert_close(first(flat_BDHW), last(flat_BDHW))


def test_norms_see_the_whole_map() -> None:
    generator = torch.Generator().manual_seed(0)
    map_BDHW = torch.randn(3, 2, 4, 4, generator=generator)
    branches = NormBranches(2, 3).train()
    feats_RBD = branches(map_BDHW)
    mean_D, var_D = map_BDHW.mean(dim=(0, 2, 3)), map_BDHW.var(dim=(0, 2, 3), correction=0)
    expected = (map_BDHW.mean(dim=(2, 3)) - mean_D) / torch.sqrt(var_D + 1e-5)
    torch.testing.assert_close(feats_RBD[2], expected)


# --- the method -----------------------------------------------------------------------------------------------------

FORMS: list[dict[str, Any]] = [
    {},
    {"form": "block", "gamma": 0.7, "keep_bias": False},
    {"form": "block", "branches": 2, "train_pool_last": False, "eval_pool_last": True, "fused_eps": 1e-7},
]


def create(backbone: Backbone, **options: Any) -> ResLT:
    torch.manual_seed(0)
    return ResLT(backbone, COUNTS, **options)


@pytest.mark.parametrize("options", FORMS)
def test_contract(tiny_backbone: Tiny, check_contract: Callable[..., None], options: dict[str, Any]) -> None:
    check_contract(lambda: create(tiny_backbone(), **options), len(COUNTS))


def test_ride_contract(check_contract: Callable[..., None]) -> None:
    def build() -> ResLT:
        torch.manual_seed(0)
        return create(create_backbone("cifar_resnet8", width=4), form="block", experts=3)

    check_contract(build, len(COUNTS))


def test_loss_and_prediction_are_those_of_the_parts(tiny_backbone: Tiny, step: Callable[..., StepOutput]) -> None:
    method = create(tiny_backbone(), beta=0.9).train()
    output = step(method, len(COUNTS))
    assert float(output.loss.detach()) == pytest.approx(
        0.9 * float(output.logs["independent"]) + 0.1 * float(output.logs["fused"])
    )
    x_BCHW = torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits_BK = method.eval().predict(x_BCHW)
        (norms, linear) = (method.branches[0], method.classifiers[0])
        expected = linear(norms(method.backbone.forward_map(x_BCHW))).sum(dim=0)  # the bias counts once per branch
    torch.testing.assert_close(logits_BK, expected)


def test_every_option_changes_loss_or_prediction(tiny_backbone: Tiny, step: Callable[..., StepOutput]) -> None:
    block = {"form": "block"}
    variants: list[dict[str, Any]] = [
        {},
        {"branches": 2},
        {"beta": 0.5},
        {"group_by": "rank", "medium": 2, "tail": 1},
        {"group_by": "rank", "medium": 3, "tail": 2},
        {"group_by": "count", "medium": 50, "tail": 20},
        {"eps": 0.01},
        {"fused_eps": 0.01},
        {"smoothing": 0.1},
        {"gamma": 0.5},
        {"keep_bias": False},
        block,
        block | {"train_pool_last": False},
        block | {"eval_pool_last": True},
    ]

    def run(options: dict[str, Any]) -> tuple[float, float]:
        method = create(tiny_backbone(), **options).train()
        loss = float(step(method, len(COUNTS)).loss.detach())
        with torch.no_grad():
            return loss, float(method.eval().predict(torch.ones(2, 3, 8, 8)).abs().sum())

    assert len({run(options) for options in variants}) == len(variants)


def test_experts_are_summed_in_training_and_averaged_in_prediction(step: Callable[..., StepOutput]) -> None:
    options = {"form": "block", "experts": 3, "gamma": 0.5}
    method = create(create_backbone("cifar_resnet8", width=4), **options)
    fewer = create(create_backbone("cifar_resnet8", width=4), **options, eval_experts=2)
    fewer.load_state_dict(method.state_dict())
    x_BCHW = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        maps = method.eval().backbone.forward_maps(x_BCHW)  # type: ignore[operator]
        parts = zip(method.branches, method.classifiers, maps, strict=True)
        per_expert = [scaled_linear(b(m), fc, 0.5, True).sum(0) for b, fc, m in parts]  # type: ignore[arg-type]
        torch.testing.assert_close(method.predict(x_BCHW), torch.stack(per_expert).mean(0))
        torch.testing.assert_close(fewer.eval().predict(x_BCHW), torch.stack(per_expert[:2]).mean(0))
    losses = step(method.train(), len(COUNTS))
    parts_sum = 0.99 * float(losses.logs["independent"]) + 0.01 * float(losses.logs["fused"])
    assert float(losses.loss.detach()) == pytest.approx(parts_sum, rel=1e-6)
    assert parts_sum > 2.5  # three times about log 4


def test_transformer_tokens_are_a_map(step: Callable[..., StepOutput]) -> None:
    backbone = create_backbone("vit_tiny_patch16_224", image_size=8, patch_size=4, embed_dim=12, depth=1, num_heads=2)
    for form in ("norms", "block"):
        method = create(backbone, form=form)
        step(method.train(), len(COUNTS)).loss.backward()  # type: ignore[no-untyped-call]
        assert method.eval().predict(torch.zeros(2, 3, 8, 8)).shape == (2, 4)


def test_the_block_form_scales_its_classifier_unless_told_otherwise() -> None:
    assert (ResLTOptions().gamma, ResLTOptions().keep_bias) == (0.0, True)
    block = ResLTOptions(form="block")
    assert (block.gamma, block.keep_bias) == (0.7, False)
    assert ResLTOptions(form="block", gamma=0.3).gamma == 0.3
    again = ResLTOptions(**block.model_dump())
    assert again == block


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tail": 0.9}, "tail limit"),
        ({"medium": 65}, "no share"),
        ({"experts": 2, "eval_experts": 3}, "cannot predict"),
    ],
)
def test_options_refuse_what_contradicts(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ResLTOptions(**options)
