"""Rules of a run that its configuration tells by itself; imports no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ltk.config import OptimSettings, RunConfig, ScheduleSettings
from ltk.config_text import create_config
from ltk.errors import DataError, LtkError
from ltk.evaluation.logits import read_metadata
from ltk.run_files import MODEL

# What older cards leave out: of any model, and of one that was trained here.
_LATER = ("method_name", "image_size", "mean", "std", "upright", "model_options")
_LATER_OF_TRAINING = ("full_resolution", "view_options", "init")


def describe_settings(config: RunConfig) -> dict[str, Any]:
    """Return which method, images, network, views and optimiser a configuration asks for.

    Args:
        config: with image size and normalisation resolved.
    """
    data, model = config.data, config.model
    return {
        "method": config.method.label,
        "method_name": config.method.name,
        "preset": config.preset,
        "dataset": data.dataset,
        "image_size": data.image_size,
        "mean": data.mean and list(data.mean),
        "std": data.std and list(data.std),
        "upright": bool(data.source.upright),
        "backbone": model.backbone,
        "width": model.width,
        "model_options": model.options,
        "init": describe_init(model.pretrained),
        "views": ["none (features made once)"] if config.parent.cache else list(config.views.recipes),
        "view_options": config.views.options,
        **_describe_optimizer(config.optim),
        "precision": config.run.precision,
        "seed": config.run.seed,
    }


def describe_init(pretrained: bool | Path) -> str:
    """Return where the first weights came from; a file by its path, whatever it holds."""
    if pretrained is False:
        return "random"
    return "timm pretrained" if pretrained is True else f"weights of {pretrained}"


def _describe_optimizer(optim: OptimSettings) -> dict[str, Any]:
    return {
        "optimizer": optim.optimizer,
        "lr": optim.scaled_lr,
        "momentum": optim.momentum,
        "nesterov": optim.nesterov,
        "weight_decay": optim.weight_decay,
        "schedule": _describe_schedule(optim.schedule),
        "clip": f"gradient norm {optim.clip:g}" if optim.clip else "none",
        "drop_last": optim.drop_last,
        "batch_size": optim.batch_size,
        "weights": f"averaged, decay {optim.ema:g}" if optim.ema else "as trained",
    }


def _describe_schedule(schedule: ScheduleSettings) -> str:
    """The kind, and every setting that is not the default."""
    changed = schedule.model_dump(exclude={"kind"}, exclude_defaults=True)
    texts = {key: "/".join(map(str, value)) if isinstance(value, tuple) else value for key, value in changed.items()}
    return " ".join([schedule.kind, *(f"{key}={value}" for key, value in texts.items())])


def complete_card(card: Mapping[str, Any], tree: Mapping[str, Any], run: Path) -> Mapping[str, Any]:
    """Return the card of a run with the rules that an older ltk left out, told by the configuration beside it.

    Args:
        card: protocol card.
        tree: the configuration of the run.
        run: its directory.
    """
    if "image_size" in card:
        return card
    try:
        config = create_config(tree, str(run))
    except LtkError:  # nothing is known then
        return card
    told = describe_settings(config)
    told["full_resolution"] = False  # older than the choice
    if card.get("init") in ("random", "timm pretrained") or "stage_one" in card:
        told["init"] = card["init"]
    keys = (*_LATER, *(_LATER_OF_TRAINING if "views" in card else ()))
    return {**card, **{key: told[key] for key in keys}, **_read_stored_size(run / MODEL)}


def _read_stored_size(model: Path) -> dict[str, Any]:
    try:
        image = json.loads(read_metadata(model)["image"])
        return {"stored_size": image.get("stored", image["size"])}
    except (DataError, KeyError, ValueError, TypeError, AttributeError):
        return {}
