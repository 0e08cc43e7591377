"""A run as an evaluation sees it: its card, its configuration, its course."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from ltk.config_text import create_config
from ltk.data.splits import Manifest
from ltk.errors import DataError
from ltk.evaluation.rules import complete_card, describe_settings
from ltk.files import read_json, read_records
from ltk.run_files import CARD, CONFIG, METRICS, SPLIT, read_run_tree
from ltk.settings import first_fault

TYPED = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)


class Card(BaseModel):
    """What is computed with of a protocol card; the rest is only shown."""

    model_config = TYPED
    method: str
    selection: str = "unknown"
    dataset: str = ""
    prior: str = "none"
    imb: float | None = None
    seed: int | None = None
    epochs: int | None = None
    updates: int | None = None
    images_seen: int | None = None
    options: dict[str, Any] = {}
    tuned: dict[str, Any] = {}
    unfinished: str | None = None
    parent: dict[str, Any] | None = None
    model_sha256: str | None = None
    stage_one: Card | None = None


class _Accuracies(BaseModel):
    model_config = TYPED
    top1: float
    many: float | None = None
    medium: float | None = None
    few: float | None = None


@with_config(TYPED)
class _Epoch(TypedDict, total=False):
    """What is drawn of a line of the journal."""

    epoch: int
    loss: float
    val: _Accuracies
    test: _Accuracies


@dataclass(frozen=True)
class RunInfo:
    """What a run directory says about itself.

    Attributes:
        path: the directory.
        card: the protocol card; empty while the run is not finished.
        config: the resolved configuration.
        records: one mapping per epoch.
    """

    path: Path
    card: Mapping[str, Any]
    config: Mapping[str, Any]
    records: tuple[Mapping[str, Any], ...]

    @property
    def name(self) -> str:
        """The last two parts of the path, such as "digits-imb50/ce-001"."""
        return "/".join(self.path.resolve().parts[-2:])

    @cached_property
    def rules(self) -> Mapping[str, Any]:
        """The card; as much as configuration, images and network tell of one that is old or not written yet.

        Raises:
            LtkError: the configuration is none, or there is no whole checkpoint.
        """
        return complete_card(self.card, self.config, self.path) if self.card else _describe_unfinished(self)

    @property
    def unfinished(self) -> str:
        """How far a run without a card has come, such as "epoch 3 of 200"; empty for one with a card."""
        if self.card:
            return ""
        done = max((record["epoch"] + 1 for record in self.records), default=0)
        return f"epoch {done} of {create_config(self.config, str(self.path / 'config.toml')).optim.epochs}"

    @property
    def best_on_test(self) -> tuple[float, int] | None:
        """Highest test accuracy (a fraction) of any epoch and that epoch (from 1): an oracle."""
        tested = [(r["test"]["top1"], -r["epoch"]) for r in self.records if isinstance(r.get("test"), Mapping)]
        if not tested:
            return None
        top1, epoch = max(tested)
        return float(top1), 1 - int(epoch)


def _describe_unfinished(run: RunInfo) -> dict[str, Any]:
    from ltk.checkpoint import load_model  # imports torch

    config = create_config(run.config, str(run.path / CONFIG))
    selection = "val" if any("val" in record for record in run.records) else "test (oracle)"
    method, images = load_model(run.path), run.path / SPLIT
    return {
        **describe_settings(config),
        "options": method.Options(**config.method.options).model_dump(),
        "imb": config.data.imb,
        "fingerprint": Manifest.read(images).fingerprint if images.exists() else None,
        "full_resolution": config.data.full_resolution,
        "unfinished": run.unfinished,
        "best_checkpoint": f"best epoch on {selection}",
        "prior": "training counts" if method.uses_prior else "none",
        "transductive": False,
    }


def read_run(path: Path) -> RunInfo:
    """Read a run directory.

    Raises:
        DataError: it is none.
    """
    config, records = read_run_tree(path), read_records(path / METRICS)
    _check(TypeAdapter(list[_Epoch]), records, path / METRICS)
    return RunInfo(path, read_card(path), config, tuple(records))


def read_card(run: Path) -> dict[str, Any]:
    """Return the protocol card of a run; empty while it is not finished.

    Raises:
        DataError: damaged.
    """
    path = run / CARD
    return read_typed(path, Card) if path.exists() else {}


def read_typed(path: Path, form: type[BaseModel]) -> dict[str, Any]:
    """Return the JSON object that a file of a run holds, checked against a form.

    Raises:
        DataError: not readable, or damaged.
    """
    value = read_json(path)
    _check(TypeAdapter(form), value, path)
    return value


def _check(form: TypeAdapter[Any], value: object, path: Path) -> None:
    try:
        form.validate_python(value)
    except ValidationError as error:
        raise DataError(f"{path} is damaged: {first_fault(error)}", "Put back the file of this run.") from error
