"""The protocol card: under which rules a run's figures came about."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ltk import distributed
from ltk.engine.build import Built, DataPlan
from ltk.engine.position import Position
from ltk.errors import DataError
from ltk.evaluation.rules import describe_init, describe_settings
from ltk.evaluation.weights import digest_file
from ltk.files import write_text
from ltk.methods.base import Method
from ltk.models.backbones import count_parameters
from ltk.run_files import CARD

_OVER_ALL_STAGES = ("epochs", "updates", "images_seen")
_IDENTITY_OF_PARENT = ("path", "checkpoint", "sha256", "fingerprint")


def describe_protocol(built: Built, place: Position) -> dict[str, Any]:
    """Return the card of a run as a flat mapping.

    Args:
        built: the run, its network trained.
        place: where it stands.
    """
    plan, method = built.plan, built.method
    config, manifest = plan.config, plan.manifest
    views = sum(len(source.views) for source in built.loader.streams.values())
    return {
        **describe_settings(config),
        "options": method.Options(**config.method.options).model_dump(),
        "imb": manifest.imb,
        "imb_type": manifest.imb_type,
        "subset": manifest.subset,
        "fingerprint": manifest.fingerprint,
        "train_images": int(sum(manifest.counts)),
        "stored_size": plan.image.stored,
        "full_resolution": any(source.cuts for source in built.loader.streams.values()),
        "parameters": count_parameters(method),
        "init": _describe_init(config.model.pretrained),
        "epochs": place.epoch,
        "updates": place.update,
        "images_seen": place.images * views,
        "streams": {name: stream.sampler for name, stream in method.streams.items()},
        "devices": distributed.world_size(),
        "batch_norm_statistics": "over all devices" if config.run.sync_bn else "per device",
        "selection": "last epoch",
        **({"tuned": dict.fromkeys(config.parent.tuned, "val")} if config.parent.tuned else {}),
        "best_checkpoint": _describe_best(plan),
        "prior": "training counts" if method.uses_prior else "none",
        "transductive": False,
        "data_for_gradients": "train",
    }


def _describe_best(plan: DataPlan) -> str:
    every = plan.config.run.eval_every
    epoch = "epoch" if every == 1 else f"of each {every} epochs"
    return f"best {epoch} on val" if plan.selection == "val" else f"best {epoch} on test (oracle)"


def _describe_init(pretrained: bool | Path) -> str:
    """A file of weights by its content; by its path where it is gone."""
    if isinstance(pretrained, Path):
        with suppress(DataError):
            return f"weights of {pretrained.name} (sha256 {digest_file(pretrained)[:12]})"
    return describe_init(pretrained)


def add_stage(parent: Mapping[str, Any], card: Mapping[str, Any], method: Method) -> dict[str, Any]:
    """Return the card of a run that continues another: its cost is that of all stages.

    Args:
        parent: what ``Parent.describe`` gave, or ``read_origin``.
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


def write_card(folder: Path, built: Built, place: Position, parent: Mapping[str, Any] | None) -> None:
    """Write ``card.json``; ``parent`` is that of ``add_stage``, None for a first stage."""
    card = describe_protocol(built, place)
    if parent:
        card = add_stage(parent, card, built.method)
    write_text(folder / CARD, json.dumps(card, indent=2, default=str) + "\n")
