"""What a run writes down while it trains: one line per epoch, and the same to TensorBoard or Weights & Biases."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from ltk.errors import EnvironmentFault
from ltk.files import disk_faults, read_records, write_text
from ltk.run_files import METRICS, TIMES

_FIGURES = ("epoch", "lr", "loss", "train_top1", "images", "skipped", "val", "test", "best_epoch")
OWN_NAMES = frozenset((*_FIGURES, "seconds", "images_per_second"))
"""What a line says of every run, with or without "/" and more behind it; a method logs under other names."""
Sink = Callable[[Mapping[str, Any]], None]


class Journal:
    """Appends records to ``metrics.jsonl`` (numbers that a resumed run repeats exactly) and ``times.jsonl``.

    An epoch that was continued in the middle has the times of the part behind that, its seconds scaled to the whole.

    Args:
        folder: the run directory.
        extra: "tensorboard", "wandb".
    """

    def __init__(self, folder: Path, extra: Iterable[str] = ()) -> None:
        self._folder = folder
        self._sinks = [_SINKS[name](folder) for name in extra]

    def rewind(self, epoch: int) -> None:
        """Drop the records of epochs from ``epoch`` on: they will be written again."""
        for name in (METRICS, TIMES):
            path = self._folder / name
            kept = [record for record in read_records(path) if record["epoch"] < epoch]
            if path.exists():
                write_text(path, "".join(json.dumps(record) + "\n" for record in kept))

    def write(self, record: Mapping[str, Any], times: Mapping[str, Any]) -> None:
        """Append one epoch."""
        for name, line in ((METRICS, record), (TIMES, times)):
            path = self._folder / name
            with disk_faults(path), path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line, allow_nan=False) + "\n")
                file.flush()
                os.fsync(file.fileno())
        for sink in self._sinks:
            sink({**record, **times})


def _flat(record: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    result: dict[str, float] = {}
    for key, value in record.items():
        if isinstance(value, Mapping):
            result |= _flat(value, f"{prefix}{key}/")
        elif isinstance(value, int | float):
            result[prefix + key] = value
    return result


def _open_tensorboard(folder: Path) -> Sink:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise EnvironmentFault("tensorboard is not installed", "pip install 'ltk[tensorboard]'") from error
    writer = SummaryWriter(folder / "tensorboard")  # type: ignore[no-untyped-call]

    def write(record: Mapping[str, Any]) -> None:
        for name, value in _flat(record).items():
            writer.add_scalar(name, value, record["epoch"])  # type: ignore[no-untyped-call]
        writer.flush()  # type: ignore[no-untyped-call]

    return write


def _open_wandb(folder: Path) -> Sink:
    try:
        import wandb
    except ImportError as error:
        raise EnvironmentFault("wandb is not installed", "pip install 'ltk[wandb]'") from error
    identity = folder / "wandb.id"  # names of runs are not unique: ce-001 is there for every data set
    if not identity.exists():
        write_text(identity, uuid.uuid4().hex)
    name = "/".join(folder.resolve().parts[-2:])
    run = wandb.init(project="ltk", name=name, dir=folder, resume="allow", id=identity.read_text(encoding="utf-8"))
    return lambda record: run.log(_flat(record), step=int(record["epoch"]))


_SINKS: dict[str, Callable[[Path], Sink]] = {"tensorboard": _open_tensorboard, "wandb": _open_wandb}
