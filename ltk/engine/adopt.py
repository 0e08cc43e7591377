"""A model file becomes a run: given the images to judge it on, everything that reads runs can read it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ltk.config import ParentSettings, RunConfig
from ltk.config_text import explain
from ltk.data.base import Source
from ltk.data.splits import Manifest, create_manifest
from ltk.engine.parent import Parent, open_parent
from ltk.engine.run_dir import RunDir
from ltk.errors import DataError, UsageError
from ltk.evaluation.class_names import find_other_class
from ltk.evaluation.images import open_configured_source
from ltk.files import disk_faults, read_bytes, write_atomically
from ltk.models.backbones import count_parameters
from ltk.resolve import name_source
from ltk.run_files import CARD, MODEL, SPLIT

_DIGITS_OF_DIGEST = 8


def adopt_model(file: Path, runs: Path, *, dataset: str | None, root: Path | None, imb: float | None) -> Path:
    """Return the run directory of a model file, made on the first call: network, images, card.

    Args:
        file: a model that ltk trained or converted.
        runs: the folder of runs.
        dataset: which images to judge it on: a data set or a folder.
        root: where they are.
        imb: imbalance factor of its training images, which decides the many/medium/few groups; a file that knows the
            counts it was trained with needs none.

    Raises:
        UsageError: no data set is named.
        DataError: the file is none of ltk's or damaged, or the data set has other classes or counts than the network.
    """
    if file.suffix.lower() != ".safetensors":
        raise DataError(f"{file} is not a model file or run", "Give runs, or model files .safetensors of ltk.")
    if dataset is None:
        raise UsageError(f"{file.name} does not say which images to judge it on", "Add --dataset NAME (and --root).")
    parent = open_parent(ParentSettings(path=file.resolve()))
    assert parent is not None
    name, root = name_source(dataset, root)
    config = _describe_run(parent, {"dataset": name, "root": root and root.resolve(), "imb": imb})
    manifest = _choose_images(config, parent)
    folder = config.data.title + (f"-imb{imb:g}" if imb else "")
    digest = hashlib.sha256(f"{parent.sha256} {manifest.fingerprint}".encode()).hexdigest()
    path = runs / folder / f"{file.stem}-{digest[:_DIGITS_OF_DIGEST]}"
    if (path / CARD).exists():
        return path
    weights = read_bytes(file)
    if hashlib.sha256(weights).hexdigest() != parent.sha256:
        raise DataError(f"{file.name} changed while it was read", "Try again when it is written whole.")
    with disk_faults(path):
        path.mkdir(parents=True, exist_ok=True)
    run_dir = RunDir(path)
    try:
        run_dir.write_config(config)
        manifest.write(path / SPLIT)
        write_atomically(path / MODEL, weights)
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
    data = config.data
    source = open_configured_source(data)
    _require_same_classes(parent, source, data.title)
    channels = json.loads(parent.metadata["image"])["channels"]
    if channels != source.channels:
        raise DataError(
            f"{parent.path.name} takes images of {channels} channels, those of {data.title} have {source.channels}",
            "Name the data set it was trained on.",
        )
    manifest = create_manifest(source, imb=data.imb, imb_type=data.imb_type, subset=data.subset, seed=data.subset_seed)
    _require_same_counts(parent, manifest, data.title)
    return manifest


def _require_same_classes(parent: Parent, source: Source, title: str) -> None:
    """Check number and names of the classes."""
    counts, names = (json.loads(parent.metadata[key]) for key in ("class_counts", "class_names"))
    number = len(counts or names)
    if number != source.num_classes:
        raise DataError(
            f"{parent.path.name} tells {number} classes apart, {title} has {source.num_classes}",
            "Name the data set it was trained on.",
        )
    k = find_other_class(names, source.class_names)
    if k is not None:
        raise DataError(
            f"class {k} of {parent.path.name} is {names[k]!r}, that of {title} is {source.class_names[k]!r}",
            "Name the data set it was trained on; a list file with numbers for labels goes by order alone.",
        )


def _require_same_counts(parent: Parent, manifest: Manifest, title: str) -> None:
    """Check an imbalance that the user gave against what the network was trained with, where that is known."""
    counts = json.loads(parent.metadata["class_counts"])
    if counts and manifest.imb and tuple(counts) != manifest.counts:
        raise DataError(
            f"{parent.path.name} was trained with {max(counts)} to {min(counts)} images a class, {title} at"
            f" imbalance {manifest.imb:g} has {max(manifest.counts)} to {min(manifest.counts)}",
            "Leave --imb out: the file knows its counts.",
        )


def _describe_card(parent: Parent, config: RunConfig, manifest: Manifest) -> dict[str, Any]:
    return {
        "method": config.method.label,
        "dataset": config.data.dataset,
        "imb": manifest.imb,
        "fingerprint": manifest.fingerprint,
        "train_images": sum(json.loads(parent.metadata["class_counts"]) or manifest.counts),
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
