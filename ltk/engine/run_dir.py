"""Run directories: named, locked, never overwritten, self-contained."""

from __future__ import annotations

import contextlib
import difflib
import glob
import itertools
import json
import os
import platform
import shlex
import socket
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

from ltk.config import RunConfig
from ltk.config_text import dump_config
from ltk.errors import BusyError, DataError
from ltk.files import as_text, disk_faults, read_json, remove_leftovers, try_lock, write_text
from ltk.run_files import (
    CHECKPOINT_FOLDER,
    CONFIG,
    ENVIRONMENT,
    LAST,
    LOGITS,
    METRICS,
    MODEL,
    PARENT,
    PREVIOUS,
    SPLIT,
)

_SHOWN = 8  # runs that an error names
_LOCK = "run.lock"
_VERSIONS = ("ltk", "torch", "torchvision", "timm")
_BEFORE_CONFIG = {
    CHECKPOINT_FOLDER,
    _LOCK,
    SPLIT,
    ENVIRONMENT,
    PARENT,
}  # what a start killed before it wrote CONFIG leaves


class RunDir:
    """A run directory, locked by this process until it is closed or dies.

    Args:
        path: an existing directory.

    Raises:
        BusyError: another process trains in it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / CHECKPOINT_FOLDER
        with disk_faults(path):
            self.checkpoints.mkdir(exist_ok=True)
            self._lock = (path / _LOCK).open("a+", encoding="utf-8")
            is_ours = try_lock(self._lock)
        if not is_ours:
            self._lock.seek(0)
            holder = self._lock.read().strip() or "another process"
            raise BusyError(f"{path} is in use by {holder}", "Wait for it, or choose another --out.")
        with disk_faults(path):
            self._lock.truncate(0)
            self._lock.write(f"process {os.getpid()} on {socket.gethostname()}")
            self._lock.flush()
        for folder in (path, self.checkpoints, path / LOGITS):
            remove_leftovers(folder)

    @classmethod
    def create(cls, out: Path | None, runs: Path, config: RunConfig) -> Self:
        """Make a new run directory.

        Args:
            out: where; must not hold a run. None: the next free ``<runs>/<dataset>-imb<N>/<method>-<NNN>``, or
                ``<parent>-<recipe>-<NNN>`` beside the run that it continues.
            runs: the folder of runs.
            config: names data set, imbalance, method and parent.

        Raises:
            BusyError: ``out`` holds something, or another process trains in it.
            EnvironmentFault: it cannot be made.
        """
        if out is None:
            return cls(_make_next(*_choose_name(runs, config)))
        check_free(out)
        with disk_faults(out):
            out.mkdir(parents=True, exist_ok=True)
        return cls(out)

    def write_config(self, config: RunConfig) -> None:
        """Write the resolved configuration."""
        write_text(self.path / CONFIG, dump_config(config))

    def write_json(self, name: str, value: dict[str, Any]) -> None:
        """Write a JSON file."""
        write_text(self.path / name, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")

    @property
    def has_begun(self) -> bool:
        """Whether training got as far as a first checkpoint or a first line of the journal."""
        return (self.path / METRICS).exists() or any(self.checkpoints.iterdir())

    def compare_environment(self, now: Mapping[str, Any]) -> list[str]:
        """Say which versions are not those the run began with; ``now`` is of ``describe_environment``."""
        try:
            before = read_json(self.path / ENVIRONMENT)
        except DataError:
            return [f"{self.path / ENVIRONMENT} cannot be read: versions are not compared"]
        changed = [name for name in _VERSIONS if before.get(name) != now[name]]
        return [
            f"{name} {now[name]} (the run: {before.get(name)}): exact to the last bit no longer" for name in changed
        ]

    def close(self) -> None:
        """Free the lock."""
        self._lock.close()


def _choose_name(runs: Path, config: RunConfig) -> tuple[Path, str]:
    """The folder of a new run, and its name without the number."""
    parent = config.parent.path
    if parent is None:
        return runs / _data_name(config), config.method.label
    if parent.is_dir():
        here, folder = Path.cwd(), parent.parent
        folder = folder.relative_to(here) if folder.is_relative_to(here) else folder
        return folder, f"{parent.name}-{config.method.label}"
    return runs / _data_name(config), f"{parent.stem}-{config.method.label}"


def _data_name(config: RunConfig) -> str:
    data = config.data
    return f"{data.title}-imb{data.imb:g}" if data.imb else data.title


def _make_next(folder: Path, method: str) -> Path:
    """Make the first run directory that is free; two processes never get the same."""
    with disk_faults(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for number in itertools.count(1):
            path = folder / f"{method}-{number:03d}"
            with contextlib.suppress(FileExistsError):
                path.mkdir()
                return path
    raise AssertionError("unreachable")


def check_free(path: Path) -> None:
    """Check that a new run may be written to ``path``: nothing there, or what a start killed at once left.

    Raises:
        BusyError: it holds a run, or anything else.
        EnvironmentFault: no permission to look.
    """
    with disk_faults(path):
        if (path / CONFIG).exists():
            hint = f"Continue it with: ltk train --resume {shlex.quote(str(path))}, or choose another --out."
            raise BusyError(f"{path} exists already: it holds a run", hint)
        if path.exists() and not (path.is_dir() and _is_bare(path)):
            raise BusyError(f"{path} exists already and is no run", "Choose another --out; nothing is overwritten.")


def _is_bare(path: Path) -> bool:
    names = {entry.name for entry in path.iterdir()}
    if not names:
        return True
    foreign = {name for name in names - _BEFORE_CONFIG if not (name.startswith(".") and name.endswith(".tmp"))}
    checkpoints = path / CHECKPOINT_FOLDER
    return _LOCK in names and not foreign and not (checkpoints.is_dir() and any(checkpoints.iterdir()))


def find_run(name: str | Path | None, runs: Path, accept: Callable[[Path], bool] = lambda run: True) -> Path:
    """Return a run by path, by name under ``runs``, or the one that saved last.

    Args:
        name: a path, a name such as "digits-imb50/ce-001" or "ce-001", or None / "last".
        runs: the folder of runs.
        accept: which runs may be the one that saved last.

    Raises:
        DataError: there is none.
    """
    if name is None or str(name) == "last":
        for run in _latest_first(runs):
            if accept(run):
                return run
        raise DataError(f"no run under {runs}", "Train one first: ltk train ce --dataset digits")
    if Path(name).exists():
        return _refuse_folder_of_runs(Path(name))
    patterns = () if Path(name).is_absolute() else (glob.escape(str(name)), f"*/{glob.escape(str(name))}")
    found = [path for pattern in patterns for path in sorted(runs.glob(pattern)) if path.is_dir()]
    if len(found) != 1:
        listing = f"; it could be {', '.join(map(str, found))}" if found else ""
        hint = _suggest_runs(str(name), runs) or "Give the path of a run directory."
        raise DataError(f"no run {str(name)!r} here or under {runs}{listing}", hint)
    return found[0]


def _refuse_folder_of_runs(path: Path) -> Path:
    places = (f"*/{CONFIG}", f"*/*/{CONFIG}") if path.is_dir() and not (path / CONFIG).exists() else ()
    inside = sorted(str(file.parent) for place in places for file in path.glob(place))
    if inside:
        listing = ", ".join(inside[:_SHOWN]) + (", ..." if len(inside) > _SHOWN else "")
        raise DataError(f"{path} is a folder of runs, not a run", f"Give one: {listing}")
    return path


def _suggest_runs(name: str, runs: Path) -> str:
    paths = [file.parent for file in runs.glob(f"*/*/{CONFIG}")]
    named = {written: str(path) for path in paths for written in (path.name, "/".join(path.parts[-2:]), str(path))}
    near = difflib.get_close_matches(name, named, n=1, cutoff=0.8)
    return f"Did you mean {named[near[0]]}?" if near else ""


def _latest_first(runs: Path) -> list[Path]:
    saved = [path for file in (LAST, PREVIOUS) for path in runs.glob(f"*/*/{CHECKPOINT_FOLDER}/{file}")]
    saved += runs.glob(f"*/*/{MODEL}")
    saved.sort(key=lambda path: path.stat().st_mtime_ns, reverse=True)
    return [path.parent.parent if path.parent.name == CHECKPOINT_FOLDER else path.parent for path in saved]


def describe_environment(threads: int, device: str, precision: str) -> dict[str, Any]:
    """Return versions and hardware: what exact repetition depends on."""
    import timm
    import torch
    import torchvision

    import ltk

    versions = {
        "command": as_text(shlex.join(["ltk", *sys.argv[1:]])),
        "ltk": ltk.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    versions |= {"torchvision": torchvision.__version__, "timm": timm.__version__}
    return versions | {
        "platform": platform.platform(),
        "device": torch.cuda.get_device_name() if device.startswith("cuda") else device,
        "precision": precision,
        "threads": threads,
    }
