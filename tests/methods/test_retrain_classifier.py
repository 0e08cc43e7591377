"""Stage two: what each recipe trains, on what, with which loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import Tensor, nn

from ltk.errors import UsageError
from ltk.methods.base import Method
from ltk.methods.baselines import CrossEntropy
from ltk.methods.classifier_recipes import RECIPES, RetrainClassifierOptions
from ltk.methods.functional import (
    balanced_softmax,
    class_balanced_softmax,
    effective_number_weights,
    inverse_power_weights,
    log_prior,
    max_norm,
    max_norm_bound,
    tau_normalise,
)
from ltk.methods.retrain_classifier import RetrainClassifier
from ltk.models.backbones import Backbone, create_backbone
from ltk.models.heads import CosineClassifier, ScaledLinear, linear_parameters
from ltk.types import Batch, Progress

COUNTS = torch.tensor([50, 20, 5, 1])
TARGET = torch.arange(12) % 4
D = 6
Create = Callable[[], Backbone]
TRAINED = [name for name, recipe in RECIPES.items() if recipe.trains]


def stage_one(seed: int = 3) -> nn.Linear:
    torch.manual_seed(seed)
    classifier = nn.Linear(D, 4)
    with torch.no_grad():
        classifier.weight.mul_(torch.tensor([4.0, 2.0, 1.5, 1.0])[:, None])
    return classifier


def create(backbone: Backbone, **options: Any) -> RetrainClassifier:
    torch.manual_seed(0)
    checked: dict[str, Any] = dict(RetrainClassifierOptions(**options))
    method = RetrainClassifier(backbone, COUNTS, **checked)
    method.load_stage_one(stage_one())
    return method.train()


@pytest.mark.parametrize("recipe", TRAINED)
def test_contract(
    recipe: str, tiny_backbone: Create, check_contract: Callable[[Callable[[], Method], int], None]
) -> None:
    check_contract(lambda: create(tiny_backbone(), recipe=recipe), 4)


@pytest.mark.parametrize("recipe", [name for name in TRAINED if name != "maxnorm"])  # its autocast guard needs a device
def test_no_sync(recipe: str, tiny_backbone: Create, check_no_sync: Callable[[Method, int], None]) -> None:
    check_no_sync(create(tiny_backbone(), recipe=recipe), 4)


def test_options_are_the_constructor_defaults(tiny_backbone: Create, step: Callable[..., Any]) -> None:
    for recipe in TRAINED:
        with_options = create(tiny_backbone(), recipe=recipe)
        plain = RetrainClassifier(tiny_backbone(), COUNTS, recipe=recipe).train()  # type: ignore[arg-type]
        plain.load_state_dict(with_options.state_dict())
        assert torch.equal(step(plain, 4).loss, step(with_options, 4).loss)


@pytest.mark.parametrize("recipe", TRAINED)
def test_only_the_classifier_learns(recipe: str, tiny_backbone: Create, step: Callable[..., Any]) -> None:
    method = create(tiny_backbone(), recipe=recipe)
    before = {name: value.clone() for name, value in method.backbone.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr=1.0)
    old = method.predict(torch.ones(1, 3, 8, 8)).detach()
    step(method, 4).loss.backward()
    optimizer.step()
    assert all(torch.equal(value, before[name]) for name, value in method.backbone.state_dict().items())
    assert not torch.equal(method.predict(torch.ones(1, 3, 8, 8)), old)


def test_batch_statistics_drift_only_on_request(tiny_backbone: Create, step: Callable[..., Any]) -> None:
    moved = {}
    for mode in ("eval", "train"):
        method = create(tiny_backbone(), batch_norm=mode)
        step(method, 4)
        moved[mode] = any(bool(value.any()) for name, value in method.backbone.named_buffers() if "mean" in name)
        assert not any(p.requires_grad for p in method.backbone.parameters())
    assert moved == {"eval": False, "train": True}


def test_what_each_recipe_starts_from(tiny_backbone: Create) -> None:
    old = stage_one()
    bound = max_norm_bound(old.weight.detach(), 0.1)
    for recipe in ("lws", "maxnorm"):
        method = create(tiny_backbone(), recipe=recipe)
        assert torch.equal(method.fc.weight, old.weight)
        assert torch.equal(method.fc.bias, old.bias)  # type: ignore[arg-type]
        assert torch.equal(method.bound, bound)
    for recipe in ("crt", "balanced-softmax"):
        method = create(tiny_backbone(), recipe=recipe)
        assert not torch.equal(method.fc.weight, old.weight)
    gcl = create(tiny_backbone(), recipe="gcl")
    assert isinstance(gcl.fc, CosineClassifier)
    assert torch.equal(gcl.fc.weight, old.weight)


def test_gcl_goes_on_where_a_cosine_classifier_stood(tiny_backbone: Create) -> None:
    method, old, x_BCHW = create(tiny_backbone(), recipe="gcl").eval(), CosineClassifier(D, 4), torch.randn(5, 3, 8, 8)
    with torch.no_grad():
        old.weight.mul_(3.0)
    method.load_stage_one(old)
    assert torch.equal(method.fc.weight, old.weight)
    torch.testing.assert_close(method.predict(x_BCHW), 20 * old(method.features(x_BCHW)))


def test_a_cosine_classifier_decides_as_its_linear_form() -> None:
    old, features_BD = CosineClassifier(D, 4), torch.randn(50, D)
    weight_KD, bias_K = linear_parameters(old)
    assert torch.equal(F.linear(features_BD, weight_KD, bias_K).argmax(1), old(features_BD).argmax(1))
    assert not bias_K.any()
    without_bias = nn.Linear(D, 4, bias=False)
    assert not linear_parameters(without_bias)[1].any()


def test_lws_scales_weight_and_bias(tiny_backbone: Create, step: Callable[..., Any]) -> None:
    method, old = create(tiny_backbone(), recipe="lws"), stage_one()
    assert isinstance(method.fc, ScaledLinear)
    assert {name for name, p in method.named_parameters() if p.requires_grad} == {"fc.scale_K"}
    with torch.no_grad():
        method.fc.scale_K.copy_(torch.tensor([1.0, 2.0, 3.0, 0.5]))
        features_BD = torch.randn(3, D)
        expected = old(features_BD) * torch.tensor([1.0, 2.0, 3.0, 0.5])
        torch.testing.assert_close(method.predict(features_BD), expected)


@pytest.mark.parametrize(("tau", "keep_bias"), [(0.5, False), (1.0, True)])
def test_tau_norm_needs_no_training(
    tau: float, keep_bias: bool, tiny_backbone: Create, step: Callable[..., Any]
) -> None:
    method, old = create(tiny_backbone(), recipe="tau-norm", tau=tau, keep_bias=keep_bias), stage_one()
    features_BD = torch.randn(3, D)
    bias_K = old.bias if keep_bias else None
    expected = F.linear(features_BD, tau_normalise(old.weight, tau), bias_K)
    torch.testing.assert_close(method.predict(features_BD), expected)
    assert not any(p.requires_grad for p in method.parameters())
    with pytest.raises(UsageError, match="trains nothing"):
        step(method, 4)


@pytest.mark.parametrize("every", ["epoch", "step"])
def test_max_norm_shortens_long_rows(every: str, tiny_backbone: Create) -> None:
    method = create(tiny_backbone(), recipe="maxnorm", project_every=every, fraction=0.5)
    old = stage_one().weight.detach()
    bound, grown = max_norm_bound(old, 0.5), 1.5 * old
    with torch.no_grad():
        method.fc.weight.copy_(grown)
    method.after_step()
    torch.testing.assert_close(method.fc.weight.detach(), grown if every == "epoch" else max_norm(grown, bound))
    method.after_epoch()
    torch.testing.assert_close(method.fc.weight.detach(), max_norm(grown, bound))
    assert torch.equal(method.fc.bias, stage_one().bias)  # type: ignore[arg-type]


def test_bound_survives_a_checkpoint(tiny_backbone: Create) -> None:
    method = create(tiny_backbone(), recipe="maxnorm")
    resumed = RetrainClassifier(tiny_backbone(), COUNTS, recipe="maxnorm")
    assert resumed.bound > 1e38  # none yet, but finite: a checkpoint refuses infinity
    resumed.load_state_dict(method.state_dict())
    assert torch.equal(resumed.bound, method.bound)
    assert "bound" not in method.inference_state()


def expected_loss(recipe: str, logits_BK: Tensor) -> Tensor:
    if recipe == "balanced-softmax":
        return balanced_softmax(logits_BK, TARGET, log_prior(COUNTS).float())
    if recipe == "maxnorm":
        return class_balanced_softmax(logits_BK, TARGET, effective_number_weights(COUNTS).float())
    return F.cross_entropy(logits_BK, TARGET)


@pytest.mark.parametrize("recipe", ["crt", "lws", "maxnorm", "balanced-softmax"])
def test_loss_of_each_recipe(recipe: str, tiny_backbone: Create, step: Callable[..., Any]) -> None:
    output = step(create(tiny_backbone(), recipe=recipe), 4)
    torch.testing.assert_close(output.loss, expected_loss(recipe, output.logits_BK))


def test_gcl_without_cloud_margin_and_mixup_is_focal(tiny_backbone: Create, step: Callable[..., Any]) -> None:
    method = create(tiny_backbone(), recipe="gcl", mixup_alpha=0.0, noise_scale=0.0, margin=0.0, gamma=2.0)
    output = step(method, 4)
    p_B = F.softmax(output.logits_BK, dim=1)[range(12), TARGET]
    torch.testing.assert_close(output.loss, ((1 - p_B) ** 2 * -p_B.log()).mean())


@pytest.mark.parametrize(
    "option", [{"noise_scale": 0.0}, {"margin": 0.0}, {"gamma": 0.0}, {"scale": 30.0}, {"form": "angle"}]
)
def test_every_option_of_gcl_counts(option: dict[str, Any], tiny_backbone: Create, step: Callable[..., Any]) -> None:
    losses = [step(create(tiny_backbone(), recipe="gcl", **given), 4).loss for given in ({}, option)]
    assert not torch.equal(*losses)


def test_mixing_labels_alone_leaves_the_images(tiny_backbone: Create, step: Callable[..., Any]) -> None:
    plain, labels, both = (
        step(create(tiny_backbone(), recipe="gcl", **given), 4)
        for given in ({"mixup_alpha": 0.0}, {"mixup_images": False}, {})
    )
    assert torch.equal(plain.logits_BK, labels.logits_BK)
    assert not torch.equal(plain.loss, labels.loss)
    assert not torch.equal(plain.logits_BK, both.logits_BK)


def test_features_made_beforehand_give_the_same_step(tiny_backbone: Create, step: Callable[..., Any]) -> None:
    for recipe in TRAINED:
        method = create(tiny_backbone(), recipe=recipe, mixup_alpha=0.0)
        x_BCHW = torch.randn(12, 3, 8, 8)
        keys = torch.arange(12)
        progress = Progress(torch.tensor(0.0), 10, torch.tensor(5))
        images = Batch((x_BCHW,), TARGET, keys, keys)
        features = Batch((method.features(x_BCHW).detach(),), TARGET, keys, keys)
        assert torch.equal(method({"main": images}, progress).loss, method({"main": features}, progress).loss)


@pytest.mark.parametrize(
    ("rule", "sampler"),
    [
        ("uniform", "uniform"),
        ("balanced-rs", "class-balanced"),
        ("effective-rs", "effective-number"),
        ("cb-effective-rs", "class-effective-number"),
        ("class-aware", "class-aware"),
        ("balanced-rw", "uniform"),
        ("effective-rw", "uniform"),
    ],
)
def test_rules(rule: str, sampler: str, tiny_backbone: Create, step: Callable[..., Any]) -> None:
    given = {"beta": 0.99} if "effective" in rule else {}
    method = create(tiny_backbone(), recipe="crt", rule=rule, **given)
    stream = method.streams["main"]
    assert stream.sampler == sampler
    assert dict(stream.options or {}) == ({"beta": 0.99} if rule.endswith("effective-rs") else {})
    weight_K = {
        "balanced-rw": inverse_power_weights(COUNTS, total=1.0),
        "effective-rw": effective_number_weights(COUNTS, 0.99, total=1.0),
    }.get(rule)
    output = step(method, 4)
    expected = F.cross_entropy(output.logits_BK, TARGET, None if weight_K is None else weight_K.float())
    torch.testing.assert_close(output.loss, expected)


def test_an_epoch_may_be_as_long_as_the_training_set(tiny_backbone: Create) -> None:
    """cRT on ImageNet-LT visits classes in turn, but counts epochs in training images."""
    for rule in ("class-aware", "balanced-rs"):
        stream = create(tiny_backbone(), recipe="crt", rule=rule, epoch_length="images").streams["main"]
        assert dict(stream.options or {}) == {"num_samples": 76}


def test_stage_one_is_taken_over_whole(tiny_backbone: Create) -> None:
    parent = CrossEntropy(tiny_backbone(), COUNTS)
    with torch.no_grad():
        for value in parent.backbone.state_dict().values():
            value.add_(1)
    method = RetrainClassifier(tiny_backbone(), COUNTS, recipe="lws")
    method.start_from(parent)
    assert torch.equal(method.fc.weight, parent.fc.weight)
    taken, given = method.backbone.state_dict(), parent.backbone.state_dict()
    assert all(torch.equal(value, given[name]) for name, value in taken.items())
    with pytest.raises(UsageError, match="finished run"):
        method.start_from(None)
    parent.classifier_name = ""  # type: ignore[misc]
    with pytest.raises(UsageError, match="CrossEntropy has none"):
        method.start_from(parent)
    RetrainClassifier(tiny_backbone(), COUNTS, recipe="crt").start_from(parent)


def test_a_scaled_classifier_decides_as_its_linear_form(tiny_backbone: Create) -> None:
    scaled, features_BD = ScaledLinear(D, 4), torch.randn(50, D)
    with torch.no_grad():
        scaled.scale_K.copy_(torch.tensor([2.0, 0.5, 1.0, 3.0]))
        torch.testing.assert_close(F.linear(features_BD, *linear_parameters(scaled)), scaled(features_BD))


def test_experts_of_stage_one_come_back() -> None:
    def backbone() -> Backbone:
        return create_backbone("resnet10t", in_chans=1)

    method = RetrainClassifier(backbone(), COUNTS, recipe="crt", experts=2, expert_width=0.5)
    assert method.backbone.num_features == 512  # 2 experts, half of 512 channels each
    assert method.fc.in_features == 512
    assert not any(p.requires_grad for p in method.backbone.parameters())
    x_BCHW = torch.randn(2, 1, 32, 32)
    assert method.eval().predict(x_BCHW).shape == (2, 4)


def test_features_made_once_need_frozen_statistics(tiny_backbone: Create) -> None:
    assert create(tiny_backbone()).takes_features
    assert not create(tiny_backbone(), batch_norm="train").takes_features


def test_weighted_gcl_has_an_official_form(tiny_backbone: Create, step: Callable[..., Any]) -> None:
    given = {"recipe": "gcl", "rule": "balanced-rw", "mixup_alpha": 0.0, "noise_scale": 0.0, "margin": 0.0}
    weight_B = inverse_power_weights(COUNTS, total=1.0).float()[TARGET]
    for official in (True, False):
        output = step(create(tiny_backbone(), weighted_probability=official, **given), 4)
        loss_B = F.cross_entropy(output.logits_BK, TARGET, reduction="none")
        factor_B = 1 - torch.exp(-(weight_B * loss_B if official else loss_B))
        torch.testing.assert_close(output.loss, (factor_B * weight_B * loss_B).mean())


def test_default_rule_and_mixup_of_each_recipe(tiny_backbone: Create) -> None:
    got = {
        recipe: (method.streams["main"].sampler, method.mixup_alpha)
        for recipe in RECIPES
        for method in [create(tiny_backbone(), recipe=recipe)]
    }
    assert got == {
        "crt": ("class-balanced", 0.0),
        "lws": ("class-balanced", 0.0),
        "tau-norm": ("uniform", 0.0),
        "maxnorm": ("uniform", 0.0),
        "gcl": ("class-balanced", 1.0),
        "balanced-softmax": ("uniform", 0.0),
    }


def test_what_cannot_work_is_refused(tiny_backbone: Create) -> None:
    with pytest.raises(ValidationError, match="would weigh it twice"):
        RetrainClassifierOptions(recipe="maxnorm", rule="balanced-rw")
    method = create(tiny_backbone(), recipe="lws")
    with pytest.raises(UsageError, match=r"\(4, 9\)"):
        method.load_stage_one(nn.Linear(9, 4))
    with pytest.raises(UsageError, match="no linear or cosine classifier"):
        method.load_stage_one(nn.ReLU())  # type: ignore[arg-type]
