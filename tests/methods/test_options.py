"""An option that its form does not use is refused by name, with the value of the other option that it needs."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from ltk.config import RunConfig
from ltk.data.image import ImageSpec
from ltk.engine.build import build_method
from ltk.errors import UsageError
from ltk.methods import METHODS, get_method_class
from ltk.presets import list_presets

RETRAIN = "retrain-classifier"
IDLE: list[tuple[str, dict[str, Any], str, str]] = [
    ("bagmar", {"lambda_2": 0.9}, "lambda_2", 'margin = "paper"'),
    ("bagmar", {"freeze_bn": True}, "freeze_bn", "frozen_backbone = true"),
    ("class-balanced", {"loss": "ce", "gamma": 9}, "gamma", 'loss = "focal" or "sigmoid-focal"'),
    ("class-balanced", {"weighted_probability": True}, "weighted_probability", 'loss = "focal"'),
    ("class-balanced", {"loss": "sigmoid-focal", "weighted_probability": True}, "weighted_probability", "focal"),
    ("focal", {"kind": "sigmoid", "detach_factor": True}, "detach_factor", 'kind = "softmax"'),
    ("gcl", {"form": "cosine", "easy_margin": False}, "easy_margin", 'form = "angle"'),
    ("gpaco", {"objective": "multitask", "beta": 2}, "beta", 'objective = "gpaco"'),
    ("gpaco", {"objective": "multitask", "gamma": 2}, "gamma", 'objective = "gpaco"'),
    ("gpaco", {"objective": "multitask", "smoothing": 0.1}, "smoothing", 'objective = "gpaco"'),
    ("ldam", {"drw": False, "beta": 0.1}, "beta", "drw = true"),
    ("reslt", {"train_pool_last": False}, "train_pool_last", 'form = "block"'),
    ("reslt", {"eval_pool_last": True}, "eval_pool_last", 'form = "block"'),
    ("reslt", {"branches": 2, "tail": 0.1}, "tail", "branches = 3 or tail = 0"),
    ("reslt", {"expert_width": 0.5}, "expert_width", "experts other than 1"),
    *((RETRAIN, {name: 0.3}, name, 'recipe = "gcl"') for name in ("scale", "margin", "gamma", "noise_scale")),
    (RETRAIN, {"form": "angle"}, "form", 'recipe = "gcl"'),
    (RETRAIN, {"recipe": "gcl", "easy_margin": False}, "easy_margin", 'form = "angle"'),
    (RETRAIN, {"recipe": "gcl", "weighted_probability": True}, "weighted_probability", 'rule = "balanced-rw"'),
    (RETRAIN, {"recipe": "maxnorm", "tau": 2}, "tau", 'recipe = "tau-norm"'),
    (RETRAIN, {"keep_bias": True}, "keep_bias", 'recipe = "tau-norm"'),
    (RETRAIN, {"fraction": 0.5}, "fraction", 'recipe = "maxnorm"'),
    (RETRAIN, {"project_every": "step"}, "project_every", 'recipe = "maxnorm"'),
    (RETRAIN, {"rule": "uniform", "beta": 0.9}, "beta", 'recipe = "maxnorm" or rule = "effective-rs"'),
    (RETRAIN, {"recipe": "tau-norm", "rule": "uniform"}, "rule", 'recipe other than "tau-norm"'),
    (RETRAIN, {"recipe": "tau-norm", "batch_norm": "train"}, "batch_norm", 'recipe other than "tau-norm"'),
    (RETRAIN, {"mixup_images": False}, "mixup_images", 'recipe = "gcl" or mixup_alpha other than 0'),
    (RETRAIN, {"recipe": "gcl", "mixup_alpha": 0, "mixup_images": False}, "mixup_images", "mixup_alpha other than 0"),
    (RETRAIN, {"expert_width": 0.5}, "expert_width", "experts other than 1"),
]
USED: list[tuple[str, dict[str, Any]]] = [
    ("class-balanced", {"loss": "sigmoid-focal", "gamma": 2}),
    ("reslt", {"branches": 2, "medium": 0.2}),
    ("reslt", {"branches": 2, "tail": 0}),
    (RETRAIN, {"recipe": "gcl", "mixup_images": False}),
    (RETRAIN, {"mixup_alpha": 0.5, "mixup_images": False}),
    (RETRAIN, {"rule": "effective-rw", "beta": 0.9}),
    (RETRAIN, {"recipe": "gcl", "rule": "effective-rw", "beta": 0.9, "weighted_probability": True}),
]


@pytest.mark.parametrize(("name", "options", "idle", "needed"), IDLE)
def test_an_option_without_effect_is_refused(name: str, options: dict[str, Any], idle: str, needed: str) -> None:
    config = RunConfig.model_validate({"method": {"name": name, **options}})
    with pytest.raises(UsageError) as caught:
        build_method(config, [5, 3], ImageSpec(32, 32, 3, (0.5,) * 3, (0.5,) * 3))
    assert f"{idle}: has no effect with" in caught.value.message
    assert needed in caught.value.message


@pytest.mark.parametrize(("name", "options"), USED)
def test_an_option_with_effect_is_taken(name: str, options: dict[str, Any]) -> None:
    get_method_class(name).Options(**options)


def test_all_idle_options_are_named_at_once() -> None:
    with pytest.raises(ValidationError) as caught:
        get_method_class("gpaco").Options.model_validate({"objective": "multitask", "beta": 2, "smoothing": 0.1})
    assert [fault["loc"] for fault in caught.value.errors()] == [("beta",), ("smoothing",)]


@pytest.mark.parametrize("name", METHODS)
def test_defaults_may_be_stated(name: str) -> None:
    """A model file holds every option of its method."""
    options = get_method_class(name).Options()
    assert type(options)(**options.model_dump()) == options


@pytest.mark.parametrize("stage_two", [False, True])
def test_every_preset_gives_what_its_method_uses(stage_two: bool) -> None:
    for preset in list_presets(stage_two=stage_two):
        method = preset.load().method
        options = get_method_class(method.name).Options(**method.options)
        assert type(options)(**options.model_dump()) == options, preset.name
