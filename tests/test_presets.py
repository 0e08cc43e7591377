"""Every preset loads, names things that exist, states every setting, and is what its header says."""

from __future__ import annotations

import re
import shlex
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from ltk.config import CIFAR, RunConfig
from ltk.data.catalogue import FACTS, train_counts
from ltk.data.image import ImageSpec
from ltk.data.longtail import imbalance_counts
from ltk.data.sources import open_source
from ltk.data.splits import create_manifest
from ltk.engine.streams import create_views
from ltk.methods import METHODS, create_method
from ltk.methods.base import Method
from ltk.models.backbones import count_parameters, create_backbone
from ltk.presets import STAGE_TWO, Preset, list_presets, presets_root
from ltk.resolve import resolve_config

PRESETS = list_presets()
NUM_PRESETS = 197
RECIPES_OF_METHODS = {"mixup": "ce", "ldam-drw": "ldam", "ride-reslt": "reslt"}
NEED_A_RUN = {"retrain-classifier"}  # methods that start from a finished run
CONFIDENCES = {"V", "S", "U"}
STATED = {"optimizer", "lr", "momentum", "nesterov", "weight_decay", "batch_size", "epochs", "drop_last", "schedule"}
COST = re.compile(
    r"cost: (\d+) epochs x ([\d,]+) images x (\d) views?, ([\d.]+) M parameters learnt, ([\d.]+) M at inference"
)

each_preset = pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.name)


def line_of(preset: Preset, start: str) -> str:
    lines = [line for line in preset.header() if line.startswith(start)]
    assert len(lines) == 1, f"{len(lines)} lines {start!r}"
    return lines[0]


@cache
def class_counts(dataset: str, imb: float | None) -> tuple[int, ...]:
    if dataset == "digits":
        return tuple(create_manifest(open_source("digits"), imb=imb).counts)
    facts = FACTS[dataset]
    if imb is None:
        return tuple(train_counts(dataset).tolist())
    return tuple(imbalance_counts(facts.images["train"] // facts.num_classes, facts.num_classes, imb).tolist())


def image_of(config: RunConfig) -> ImageSpec:
    facts, data = FACTS[config.data.dataset], config.data
    mean, std = data.mean or facts.mean, data.std or facts.std
    return ImageSpec(facts.native_size, facts.stored_size, len(facts.mean), mean, std)


@cache
def build(
    backbone: str,
    options: tuple[tuple[str, Any], ...],
    method: str,
    given: tuple[tuple[str, Any], ...],
    counts_K: tuple[int, ...],
    channels: int,
    size: int,
) -> Method:
    """Build a network without memory or arithmetic."""
    with torch.device("meta"):
        net = create_backbone(backbone, in_chans=channels, image_size=size, **dict(options))
        return create_method(method, net, torch.tensor(counts_K, device="cpu"), **dict(given))


def build_preset(config: RunConfig) -> Method:
    model, image = config.model, image_of(config)
    counts_K = class_counts(config.data.dataset, config.data.imb)
    options = {"width": model.width, **model.options} if model.width else model.options
    given = config.method.options
    return build(
        model.backbone,
        tuple(options.items()),
        config.method.name,
        tuple(given.items()),
        counts_K,
        image.channels,
        image.size,
    )


def test_all_files_are_listed() -> None:
    files = [path for path in presets_root().rglob("*.toml") if not path.parent.name.startswith(STAGE_TWO)]
    assert len(PRESETS) == len(files) == NUM_PRESETS


def test_every_method_has_presets_for_digits_and_for_large_images() -> None:
    names = {preset.name for preset in PRESETS}
    recipes = {preset.recipe for preset in PRESETS}
    assert recipes == (METHODS.keys() - NEED_A_RUN) | RECIPES_OF_METHODS.keys()
    assert {f"{recipe}/{dataset}" for recipe in recipes for dataset in ("digits", "imagenet-lt")} <= names


@each_preset
def test_names(preset: Preset) -> None:
    config = preset.load()
    assert config.method.name == RECIPES_OF_METHODS.get(preset.recipe, preset.recipe)
    assert config.data.dataset == preset.dataset
    assert config.data.imb == (preset.imb or FACTS["digits"].imb if preset.dataset == "digits" else preset.imb)
    assert config.data.root is None


@each_preset
def test_states_every_setting(preset: Preset) -> None:
    tree = preset.read()
    assert list(tree) == ["data", "views", "model", "method", "optim"]
    assert tree["optim"].keys() == STATED
    assert "kind" in tree["optim"]["schedule"]
    assert tree["views"]["recipes"]
    assert ("width" in tree["model"]) == tree["model"]["backbone"].startswith(CIFAR)


@each_preset
def test_header(preset: Preset) -> None:
    header = preset.header()
    kinds = [line.partition(":")[0] for line in header[1:]]
    order = ["paper", "published", "data", "cost", "command", "note"]
    assert kinds == sorted(kinds, key=order.index)
    assert {"paper", "data", "cost", "command"} <= set(kinds)
    for figure, row, source, confidence, network in preset.published():
        assert 0 < float(figure) < 100
        assert confidence in CONFIDENCES
        assert row
        assert source
        assert network


@each_preset
def test_network_views_and_cost(preset: Preset) -> None:
    config = preset.load()
    method = build_preset(config)
    streams = method.streams.values()
    for stream in streams:
        assert len(create_views(config, image_of(config), stream.views)) == stream.views
    used = [value for name, value in method.named_parameters() if not name.startswith(method.training_only or ("\0",))]
    cut = preset.imb or preset.dataset == "digits"
    images = sum(class_counts(preset.dataset, config.data.imb)) if cut else FACTS[preset.dataset].images["train"]
    stated = COST.match(line_of(preset, "cost:"))
    assert stated, "the cost line has another form"
    assert stated.groups() == (
        str(config.optim.epochs),
        f"{images:,}",
        str(sum(stream.views for stream in streams)),
        f"{count_parameters(method) / 1e6:.2f}",
        f"{sum(value.numel() for value in used) / 1e6:.2f}",
    )


@each_preset
def test_command_runs_this_preset(preset: Preset) -> None:
    program, train, what, *rest = shlex.split(line_of(preset, "command:").removeprefix("command:"))
    assert (program, train) == ("ltk", "train")
    options = dict(zip(rest[::2], rest[1::2], strict=True))
    assert options.keys() <= {"--dataset", "--imb"}
    imb = float(options["--imb"]) if "--imb" in options else None
    resolved = resolve_config(what, dataset=options.get("--dataset"), imb=imb)
    assert resolved.config == preset.load()
    assert not resolved.departures
    assert not resolved.notes


def test_pretrained_files_are_named_where_stage_one_is_needed() -> None:
    files = {preset.name for preset in PRESETS if isinstance(preset.load().model.pretrained, Path)}
    frozen = {preset.name for preset in PRESETS if preset.load().method.options.get("frozen_backbone")}
    assert files == frozen != set()


def test_no_residual_branch_of_a_fresh_network_starts_at_zero() -> None:
    """timm starts the last norm of a block at 0 unless told otherwise, the official codes at 1."""
    models = [preset.load().model for preset in PRESETS]
    fresh = {(model.backbone, repr(model.options)): model for model in models if not model.pretrained}
    for model in fresh.values():
        options: dict[str, Any] = dict(model.options)
        net = create_backbone(model.backbone, **options)
        norms = [part for part in net.modules() if isinstance(part, nn.BatchNorm2d)]
        assert norms
        assert all(norm.weight.detach().any() for norm in norms), model.backbone


def test_training_images_of_digits() -> None:
    counts_K = np.array(class_counts("digits", 50))
    assert (counts_K.sum(), counts_K.max(), counts_K.min()) == (342, 124, 2)
