"""The run, or the model file, that another run continues."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from ltk.checkpoint import load_model_and_metadata
from ltk.config import ParentSettings, RunConfig
from ltk.config_text import read_toml
from ltk.data.splits import Manifest
from ltk.engine.run_dir import find_run
from ltk.errors import DataError
from ltk.evaluation.runs import TYPED, Card, read_run, read_typed
from ltk.evaluation.weights import digest_file, find_weights, load_own_model
from ltk.methods.base import Method
from ltk.run_files import CONFIG, PARENT, SPLIT, read_run_config

_IDENTITY = ("seed", "parent")  # what two runs of one recipe differ in


class _Origin(BaseModel):
    """What ``Parent.describe`` gives, as JSON."""

    model_config = TYPED
    path: str
    checkpoint: str
    sha256: str
    fingerprint: str
    method: str
    init: str
    card: Card


@dataclass(frozen=True)
class Parent:
    """A finished network that a run starts from.

    Attributes:
        path: a run directory or a model file, absolute.
        checkpoint: last or best; of a run.
        sha256: of the file that holds the weights.
        network: in eval mode, on the CPU.
        metadata: of that file.
        config: of the run; None for a model file.
        card: of the run; of a model file its method alone.
        fingerprint: of the run's images; "" for a model file.
    """

    path: Path
    checkpoint: str
    sha256: str
    network: Method
    metadata: Mapping[str, str]
    config: RunConfig | None
    card: Mapping[str, Any]
    fingerprint: str

    @property
    def label(self) -> str:
        """What it is called in tables."""
        return str(self.card["method"])

    @property
    def origin(self) -> str:
        """Which weights these are, in words."""
        if self.config is None:
            return f"{self.label}, {self.path.name}"
        if self.checkpoint == "best":
            return f"{self.label}, {self.card.get('best_checkpoint', 'best epoch')}"
        return f"{self.label}, {self.card.get('selection', 'unknown epoch')}"

    def check_images(self, manifest: Manifest) -> None:
        """Check that a run uses the images of this one: else its validation images may have been trained on.

        Raises:
            DataError: it does not.
        """
        if self.fingerprint and self.fingerprint != manifest.fingerprint:
            raise DataError(
                f"these are not the images of {self.path}: fingerprint {manifest.fingerprint[:12]},"
                f" there {self.fingerprint[:12]}",
                "Leave out what chooses images (--dataset, --imb, --set data.*): they are those of the run.",
            )

    def describe(self) -> dict[str, Any]:
        """Return what a run that starts here remembers of it, as JSON values."""
        return {
            "path": str(self.path),
            "checkpoint": self.checkpoint,
            "sha256": self.sha256,
            "fingerprint": self.fingerprint,
            "method": self.label,
            "init": self.origin,
            "card": {key: value for key, value in self.card.items() if key not in _IDENTITY},
        }


def read_origin(run: Path) -> dict[str, Any]:
    """Return what a second stage remembers of the run that it started from, as ``Parent.describe`` gave it.

    Raises:
        DataError: the file is missing or damaged.
    """
    path = run / PARENT
    if not path.exists():
        raise DataError(
            f"{path} is missing: it says what the first stage was and what it cost",
            "Put back the file of this run, or make the second stage anew: ltk finetune-classifier.",
        )
    return read_typed(path, _Origin)


def open_parent(settings: ParentSettings) -> Parent | None:
    """Load what a run starts from; None where it starts from nothing.

    Raises:
        DataError: missing, damaged, not written by ltk, another run's, or not the file of the checksum.
    """
    path = settings.path
    if path is None:
        return None
    config = read_run_config(path) if path.is_dir() else None
    weights = find_weights(path, settings.checkpoint)
    sha256 = digest_file(weights)
    if settings.sha256 and sha256 != settings.sha256:
        raise DataError(
            f"{weights} has changed: its sha256 is {sha256[:12]}..., not {settings.sha256[:12]}...",
            "Put the old file back, or start anew from this one: ltk finetune-classifier.",
        )
    network, metadata = load_own_model(path, weights) if config else load_model_and_metadata(weights)
    return Parent(
        path=path.resolve(),
        checkpoint=settings.checkpoint if config else "",
        sha256=sha256,
        network=network,
        metadata=metadata,
        config=config,
        card=_read_card(path, config) if config else {"method": metadata["method"]},
        fingerprint=Manifest.read(path / SPLIT).fingerprint if config else "",
    )


def _read_card(path: Path, config: RunConfig) -> Mapping[str, Any]:
    """The card of a finished run; of one that was stopped, as much of it as is known."""
    run = read_run(path)
    epochs = len(run.records)
    return run.card or {
        "method": config.method.label,
        "epochs": epochs,
        "selection": f"stopped after epoch {epochs} of {config.optim.epochs}",
    }


def find_parent(name: Path | None, runs: Path) -> Path:
    """Return the run to start from: as ``find_run``, but without a name the latest that is no second stage itself.

    Raises:
        DataError: there is none.
    """
    return find_run(name, runs, _is_first_stage)


def _is_first_stage(run: Path) -> bool:
    return (run / CONFIG).is_file() and not read_toml(run / CONFIG).get("parent", {}).get("path")
