"""The protocol card: under which rules a run's figures came about."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ltk import distributed
from ltk.config import OptimSettings, RunConfig, ScheduleSettings
from ltk.data.loaders import Loader
from ltk.engine.build import DataPlan
from ltk.engine.run_dir import CARD, PARENT
from ltk.files import read_json, write_text
from ltk.methods.base import Method
from ltk.models.backbones import count_parameters

_OVER_ALL_STAGES = ("epochs", "updates", "images_seen")
_IDENTITY_OF_PARENT = ("path", "checkpoint", "sha256", "fingerprint")


def describe_protocol(plan: DataPlan, method: Method, loader: Loader, updates: int) -> dict[str, Any]:
    """Return the card of a run as a flat mapping.

    Args:
        plan: configuration and images.
        method: the trained network.
        loader: its streams.
        updates: made over the whole run.
    """
    config, manifest = plan.config, plan.manifest
    views = sum(len(source.views) for source in loader.streams.values())
    per_epoch = min(loader.length, loader.steps * loader.batch_size) * views
    return {
        "method": config.method.label,
        "options": method.Options(**config.method.options).model_dump(),
        "preset": config.preset,
        "dataset": config.data.dataset,
        "imb": manifest.imb,
        "imb_type": manifest.imb_type,
        "subset": manifest.subset,
        "fingerprint": manifest.fingerprint,
        "train_images": int(sum(manifest.counts)),
        "backbone": config.model.backbone,
        "width": config.model.width,
        "parameters": count_parameters(method),
        "init": _init(config),
        "epochs": updates // loader.steps,
        "updates": updates,
        "images_seen": updates // loader.steps * per_epoch,
        "views": ["none (features made once)"] if config.parent.cache else list(config.views.recipes),
        "streams": {name: stream.sampler for name, stream in method.streams.items()},
        **_describe_optimizer(config.optim),
        "batch_size": config.optim.batch_size,
        "devices": distributed.world_size(),
        "batch_norm_statistics": "over all devices" if config.run.sync_bn else "per device",
        "precision": config.run.precision,
        "weights": f"averaged, decay {config.optim.ema:g}" if config.optim.ema else "as trained",
        "seed": config.run.seed,
        "selection": "last epoch",
        **({"tuned": dict.fromkeys(config.parent.tuned, "val")} if config.parent.tuned else {}),
        "best_checkpoint": "best epoch on val" if plan.selection == "val" else "best epoch on test (oracle)",
        "prior": "training counts" if method.uses_prior else "none",
        "transductive": False,
        "data_for_gradients": "train",
    }


def _describe_optimizer(optim: OptimSettings) -> dict[str, Any]:
    """The rules of an update; averaged weights stand under "weights"."""
    return {
        "optimizer": optim.optimizer,
        "lr": optim.scaled_lr,
        "momentum": optim.momentum,
        "nesterov": optim.nesterov,
        "weight_decay": optim.weight_decay,
        "schedule": _describe_schedule(optim.schedule),
        "clip": f"gradient norm {optim.clip:g}" if optim.clip else "none",
        "drop_last": optim.drop_last,
    }


def _describe_schedule(schedule: ScheduleSettings) -> str:
    """The kind, and every setting that is not the default."""
    changed = schedule.model_dump(exclude={"kind"}, exclude_defaults=True)
    texts = {key: "/".join(map(str, value)) if isinstance(value, tuple) else value for key, value in changed.items()}
    return " ".join([schedule.kind, *(f"{key}={value}" for key, value in texts.items())])


def _init(config: RunConfig) -> str:
    pretrained = config.model.pretrained
    if pretrained is False:
        return "random"
    return "timm pretrained" if pretrained is True else f"weights of {pretrained.name}"


def add_stage(parent: Mapping[str, Any], card: Mapping[str, Any], method: Method) -> dict[str, Any]:
    """Return the card of a run that continues another: its cost is that of all stages.

    Args:
        parent: what ``Parent.describe`` gave.
        card: of the last stage by itself.
        method: the network; what is frozen counts among its parameters too.
    """
    earlier = parent["card"]
    sums = {key: None if earlier.get(key) is None else earlier[key] + card[key] for key in _OVER_ALL_STAGES}
    return {
        **card,
        **sums,
        "method": f"{parent['method']} + {card['method']}",
        "parameters": sum(parameter.numel() for parameter in method.parameters()),
        "init": parent["init"],
        "parent": {key: parent[key] for key in _IDENTITY_OF_PARENT},
        "stage_one": earlier,
    }


def write_card(folder: Path, plan: DataPlan, method: Method, loader: Loader, updates: int) -> None:
    """Write ``card.json``."""
    card = describe_protocol(plan, method, loader, updates)
    if (folder / PARENT).exists():
        card = add_stage(read_json(folder / PARENT), card, method)
    write_text(folder / CARD, json.dumps(card, indent=2, default=str) + "\n")
