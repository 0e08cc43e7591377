"""A model file becomes a run: given the images to judge it on, everything that reads runs can read it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ltk.config import ParentSettings, RunConfig
from ltk.config_text import explain
from ltk.data.splits import Manifest, create_manifest
from ltk.engine.parent import Parent, open_parent
from ltk.engine.run_dir import CARD, MODEL, SPLIT, RunDir
from ltk.errors import DataError, UsageError
from ltk.evaluation.evaluate import open_configured_source
from ltk.files import write_atomically
from ltk.models.backbones import count_parameters
from ltk.resolve import name_source

_DIGITS_OF_DIGEST = 8


def adopt_model(file: Path, runs: Path, *, dataset: str | None, root: Path | None, imb: float | None) -> Path:
    """Return the run directory of a model file, made on the first call: network, images, card.

    Args:
        file: a model that ltk trained or converted.
        runs: the folder of runs.
        dataset: which images to judge it on: a data set or a folder.
        root: where they are.
        imb: imbalance factor of its training images, which decides the many/medium/few groups.

    Raises:
        UsageError: no data set is named.
        DataError: the file is damaged, or the data set has other classes than the network.
    """
    if dataset is None:
        raise UsageError(f"{file.name} does not say which images to judge it on", "Add --dataset NAME (and --root).")
    parent = open_parent(ParentSettings(path=file.resolve()))
    assert parent is not None
    name, root = name_source(dataset, root)
    config = _describe_run(parent, {"dataset": name, "root": root and root.resolve(), "imb": imb})
    manifest = _choose_images(config, parent)
    folder = f"{name if root is None else root.name}" + (f"-imb{imb:g}" if imb else "")
    path = runs / folder / f"{file.stem}-{parent.sha256[:_DIGITS_OF_DIGEST]}"
    if (path / CARD).exists() and Manifest.read(path / SPLIT).fingerprint == manifest.fingerprint:
        return path
    run_dir = RunDir.create(path, runs, config)
    try:
        run_dir.write_config(config)
        manifest.write(path / SPLIT)
        write_atomically(path / MODEL, file.read_bytes())
        run_dir.write_json(CARD, _describe_card(parent, config, manifest))
    finally:
        run_dir.close()
    return path


def _describe_run(parent: Parent, data: Mapping[str, Any]) -> RunConfig:
    backbone, image = json.loads(parent.metadata["backbone"]), json.loads(parent.metadata["image"])
    shape = dict(backbone.get("options", {}))
    width = {"width": shape.pop("width")} if "width" in shape else {}
    tree = {
        "data": {**data, "image_size": image["size"], "mean": image["mean"], "std": image["std"]},
        "model": {"backbone": backbone["name"], **width, "options": shape},
        "method": {"name": parent.metadata["method"], **json.loads(parent.metadata["method_options"])},
    }
    try:
        return RunConfig.model_validate(tree)
    except ValidationError as error:
        fault = explain(error, RunConfig, str(parent.path))
        raise DataError(fault.message, "Its settings are none that ltk trains with.") from error


def _choose_images(config: RunConfig, parent: Parent) -> Manifest:
    source = open_configured_source(config.data)
    classes = json.loads(parent.metadata["class_counts"] or "null") or json.loads(parent.metadata["class_names"])
    if len(classes) != source.num_classes:
        raise DataError(
            f"{parent.path.name} tells {len(classes)} classes apart, {source.name} has {source.num_classes}",
            "Name the data set it was trained on.",
        )
    channels = json.loads(parent.metadata["image"])["channels"]
    if channels != source.channels:
        raise DataError(
            f"{parent.path.name} takes images of {channels} channels, those of {source.name} have {source.channels}",
            "Name the data set it was trained on.",
        )
    data = config.data
    return create_manifest(source, imb=data.imb, imb_type=data.imb_type, subset=data.subset, seed=data.subset_seed)


def _describe_card(parent: Parent, config: RunConfig, manifest: Manifest) -> dict[str, Any]:
    return {
        "method": config.method.label,
        "dataset": config.data.dataset,
        "imb": manifest.imb,
        "fingerprint": manifest.fingerprint,
        "train_images": int(sum(manifest.counts)),
        "backbone": config.model.backbone,
        "width": config.model.width,
        "parameters": count_parameters(parent.network),
        "epochs": None,
        "selection": "unknown: a model file",
        "prior": "training counts" if parent.network.uses_prior else "none",
        "transductive": False,
        "model_sha256": parent.sha256,
        "source": json.loads(parent.metadata.get("source", "null")),
    }
