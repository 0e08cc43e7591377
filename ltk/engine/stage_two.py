"""From a finished network and what the user asks for to the configuration of a second stage."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ltk.config import DataSettings, ParentSettings, RunConfig
from ltk.config_text import explain
from ltk.data.catalogue import FACTS
from ltk.engine.build import plan_data
from ltk.engine.parent import Parent, open_parent
from ltk.errors import UsageError, unknown_name
from ltk.evaluation.evaluate import compute_logits
from ltk.evaluation.posthoc import no_adjustment, normalise_weights
from ltk.evaluation.tune import tune
from ltk.presets import STAGE_TWO, Choice, choose_preset, list_second_stages
from ltk.resolve import Resolved, apply_options

_UNTRAINED = "tau-norm"
_OF_TRAINING = {
    "method.rule": "--rule",
    "optim.epochs": "--epochs",
    "optim.lr": "--lr",
    "optim.batch_size": "--batch-size",
    "parent.cache": "--cache",
}


@dataclass(frozen=True)
class StageTwoRequest:
    """What the user asks for.

    Attributes:
        parent: a run directory.
        recipe: how the classifier is made; None takes the one that completes the parent's method.
        checkpoint: of it, last or best.
        options: dotted keys from named options; None values are left out.
        overrides: texts ``section.key=value``.
    """

    parent: Path
    recipe: str | None = None
    checkpoint: str = "last"
    options: Mapping[str, Any] = field(default_factory=dict)
    overrides: Iterable[str] = ()


def resolve_stage_two(request: StageTwoRequest) -> Resolved:
    """Return the configuration of a second stage; ``fit`` runs it.

    Network, images and normalisation are the parent's, the recipe and its schedule those of the preset for the data
    set. A published recipe runs as published, on changed images; elsewhere features are made once, unless the recipe
    mixes images.

    Raises:
        UsageError: options that do not fit the recipe or the parent, unknown names, values out of range.
        DataError: the parent cannot be read.
    """
    settings = _create_settings(request)
    parent = open_parent(settings)
    if parent is None or parent.config is None:
        raise UsageError(f"{request.parent} is no run directory", "Give a folder that `ltk train` wrote.")
    recipe = request.recipe or parent.network.second_stage
    options = {key: value for key, value in request.options.items() if value is not None}
    _check_options(recipe, options)
    choice = _choose_preset(recipe, parent.config.data)
    tree = _take_parent(parent.config) | _take_preset(choice, parent, settings)
    if options.get("parent.cache", tree["parent"]["cache"]) and "batch_norm" in tree["method"]:
        tree["method"]["batch_norm"] = "eval"
    resolved = apply_options(tree, options, request.overrides)
    origin = [f"{resolved.config.method.label} on {request.parent} ({parent.origin}), preset {choice.preset.name}"]
    if choice.note:
        origin.append(choice.note.replace(STAGE_TWO, "", 1))
    resolved = replace(resolved, notes=[*origin, *resolved.notes, *_describe_features(resolved.config)])
    if recipe == _UNTRAINED and "tau" not in _given(options, request.overrides):
        return _choose_tau(resolved, parent)
    return resolved


def _create_settings(request: StageTwoRequest) -> ParentSettings:
    try:
        return ParentSettings.model_validate({"path": request.parent.resolve(), "checkpoint": request.checkpoint})
    except ValidationError as error:
        raise explain(error, ParentSettings, "--from", "See: ltk finetune-classifier --help") from error


def _given(options: Mapping[str, Any], overrides: Iterable[str]) -> set[str]:
    return {key.partition("=")[0].strip().removeprefix("method.") for key in (*options, *overrides)}


def _check_options(recipe: str, options: Mapping[str, Any]) -> None:
    known = list_second_stages()
    if recipe not in known:
        raise unknown_name("recipe", recipe, known)
    if "method.tau" in options and recipe != _UNTRAINED:
        raise UsageError(f"--tau belongs to --method {_UNTRAINED}, not to {recipe}")
    idle = [flag for key, flag in _OF_TRAINING.items() if key in options]
    if recipe == _UNTRAINED and idle:
        raise UsageError(f"{_UNTRAINED} trains nothing: {', '.join(idle)} would have no effect")


def _take_parent(config: RunConfig) -> dict[str, Any]:
    """The sections data, model and run: images and network of the parent, and its seed."""
    return {
        "data": config.data.model_dump(mode="json", exclude_none=True),
        "model": config.model.model_dump(mode="json", exclude_none=True) | {"pretrained": False},
        "run": {"seed": config.run.seed},
    }


def _choose_preset(recipe: str, data: DataSettings) -> Choice:
    facts = FACTS.get(data.dataset)
    imb = None if facts and data.imb == facts.imb else data.imb  # its own is not in the names of a data set's presets
    return choose_preset(f"{STAGE_TWO}{recipe}", data.dataset, imb, data.image_size)


def _take_preset(choice: Choice, parent: Parent, settings: ParentSettings) -> dict[str, Any]:
    """The sections preset, views, method, optim and parent."""
    tree = choice.preset.read()
    options = json.loads(parent.metadata["method_options"])
    shape = {key: options[key] for key in parent.network.backbone_options if key in options}
    mixes = tree["method"].get("mixup_alpha", 0) > 0
    cache = tree["parent"]["cache"] if choice.exact else not mixes
    identity = settings.model_copy(update={"sha256": parent.sha256, "cache": cache})
    return {
        "preset": choice.preset.name,
        "views": tree["views"],
        "method": tree["method"] | shape,
        "optim": tree["optim"],
        "parent": identity.model_dump(mode="json", exclude_none=True),
    }


def _describe_features(config: RunConfig) -> list[str]:
    if config.method.label == _UNTRAINED:
        return []
    if not config.parent.cache:
        return [f"features are made anew in every epoch, of changed images ({', '.join(config.views.recipes)})"]
    mixed = " and mixed themselves" if config.method.options.get("mixup_alpha") else ""
    return [f"features are made once, of plain images{mixed}; anew in every epoch, of changed images: --no-cache"]


def _choose_tau(resolved: Resolved, parent: Parent) -> Resolved:
    """Choose the exponent on the validation images, if there are any and the classifier has rows and no kept bias."""
    config = resolved.config
    tau, keep_bias = config.method.options["tau"], config.method.options["keep_bias"]
    plan = plan_data(config)
    if "val" not in plan.splits or keep_bias:
        reason = "the bias is kept" if keep_bias else "there are no validation images"
        return replace(resolved, notes=[*resolved.notes, f"tau = {tau:g}: {reason}; another: --tau"])
    saved = compute_logits(
        parent.network,
        plan.splits["val"],
        plan.image,
        class_names=plan.manifest.class_names,
        class_counts=plan.manifest.counts,
        groups=plan.groups,
        checkpoint=config.parent.checkpoint,
    )
    if saved.weight_norm_K is None:
        return resolved
    build = partial(normalise_weights, no_adjustment(saved.num_classes), saved.weight_norm_K, saved.bias_K)
    tau = tune(saved, build, adjust=_UNTRAINED, split="val").chosen
    method = config.method.model_copy(update={"tau": tau})
    stage = config.parent.model_copy(update={"tuned": ("tau",)})
    config = config.model_copy(update={"method": method, "parent": stage})
    return replace(resolved, config=config, notes=[*resolved.notes, f"tau = {tau:g}, chosen on the validation images"])
