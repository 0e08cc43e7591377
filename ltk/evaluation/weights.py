"""The weights of a run: which file holds them, and whether they are the run's own."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ltk.checkpoint import find_model_file, load_model_and_metadata, read_state
from ltk.config import RunConfig
from ltk.data.splits import Manifest
from ltk.description import Description, describe_backbone, read_description
from ltk.errors import DataError
from ltk.evaluation.runs import read_card
from ltk.files import open_file
from ltk.methods import get_method_class
from ltk.methods.base import Method
from ltk.run_files import BEST, CHECKPOINT_FOLDER, SPLIT, read_run_config

_DESCRIBED = ("method", "backbone", "class_counts", "class_names")


def find_weights(run: Path, checkpoint: str = "last") -> Path:
    """Return the file with the weights of a run; a model file is returned as it is.

    Args:
        run: a run directory, or a model file.
        checkpoint: last or best; of a run.

    Raises:
        DataError: there is no such checkpoint.
    """
    if checkpoint == "last" or not run.is_dir():
        return find_model_file(run)
    path = run / CHECKPOINT_FOLDER / BEST
    if not path.exists():
        raise DataError(f"{run} has no best checkpoint", "Use the last one, or train further.")
    return path


def load_own_model(run: Path, weights: Path) -> tuple[Method, dict[str, str]]:
    """Return the network of a run and the metadata of its file; see ``find_weights``.

    Raises:
        DataError: missing, damaged, not written by ltk, or of another run.
    """
    method, metadata = load_model_and_metadata(weights)
    adopted = read_card(run).get("model_sha256")
    if adopted is not None:
        _raise_if(run, ["model file"] if digest_file(weights) != adopted else [])
        return method, metadata
    config = read_run_config(run)
    check_own(run, metadata, read_state(metadata, weights), config, Manifest.read(run / SPLIT))
    return method, metadata


def check_own(
    run: Path,
    metadata: Mapping[str, str],
    state: Mapping[str, Any] | None,
    config: RunConfig,
    manifest: Manifest,
    also: Mapping[str, str] | None = None,
) -> None:
    """Check that a file of weights belongs to the run in whose folder it lies.

    Args:
        run: the run directory, for messages.
        metadata: of the file.
        state: of a training checkpoint; None for a model.
        config: of the run.
        manifest: of the run.
        also: parts of the description that have to be the same too.

    Raises:
        DataError: it is another run's.
    """
    found = read_description(metadata)
    own = {
        "method": config.method.name,
        "backbone": describe_backbone(config.model.backbone, config.model.arguments),
        "class_counts": list(manifest.counts),
        "class_names": list(manifest.class_names),
    }
    told = found.model_dump()
    differing = [name for name in _DESCRIBED if told[name] not in (own[name], None)]
    if "method" not in differing and not _has_options(found, config.method.options):
        differing.append("method_options")
    differing += [name for name, text in (also or {}).items() if metadata.get(name) != text]
    if state is not None:
        differing += _compare_state(state, config, manifest)
    _raise_if(run, differing)


def _has_options(found: Description, own: Mapping[str, Any]) -> bool:
    """Whether a method's options are these; what is not given is the default on both sides."""
    options = get_method_class(found.method).Options
    try:
        return bool(options(**found.method_options) == options(**own))
    except ValidationError:
        return False


def _compare_state(state: Mapping[str, Any], config: RunConfig, manifest: Manifest) -> list[str]:
    try:
        same = {
            "images": state["fingerprint"] == manifest.fingerprint,
            "seed": state["config"]["run"]["seed"] == config.run.seed,
        }
    except (KeyError, TypeError):
        return ["state"]
    return [name for name, is_same in same.items() if not is_same]


def _raise_if(run: Path, differing: list[str]) -> None:
    if differing:
        raise DataError(
            f"the checkpoint of {run} is another run's: other {', '.join(differing)}",
            "Put back the files of this run (config.toml, split.json, checkpoints).",
        )


def digest_file(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal.

    Raises:
        DataError: not readable.
    """
    try:
        with open_file(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
