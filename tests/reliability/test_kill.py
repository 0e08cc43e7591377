"""A run that is killed at random moments ends with the bytes of one that was not.

The suite kills five times; ``make kill-test`` two hundred times (LTK_KILLS) over twenty runs (LTK_KILL_RUNS).
"""

from __future__ import annotations

import os
import random
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ltk.checkpoint import load_newest
from ltk.errors import DataError
from tests.reliability.processes import Launcher

KILLS = int(os.environ.get("LTK_KILLS", "5"))
RUNS = int(os.environ.get("LTK_KILL_RUNS", "1"))
METHODS = ("paco", "glmc", "bagmar", "reslt", "stage two of gcl", "gcl")
RESULTS = (
    "metrics.jsonl",
    "config.toml",
    "split.json",
    "card.json",
    "model.safetensors",
    "checkpoints/last.safetensors",
    "checkpoints/previous.safetensors",
    "checkpoints/best.safetensors",
    "logits/test.safetensors",
)


@dataclass
class Tally:
    """What happened: kills, legs that ended before they were killed, kills inside a save."""

    kills: int = 0
    survived: int = 0
    inside_save: int = 0
    differing: list[str] = field(default_factory=list)


def command(method: str, seed: int, out: Path) -> list[str]:
    """A short run that saves after every update; a second stage starts from the run ``parent`` beside it."""
    options: dict[str, object] = {"run.save_steps": 1, "run.device": "cpu", "run.threads": 1}
    start = ["train", method, "--dataset", "digits", "--set", "model.width=4", "--seed", str(seed)]
    if method.startswith("stage two"):
        start = ["finetune-classifier", str(out.parent / "parent"), "--method", method.rpartition(" ")[2]]
    settings = [part for key, value in options.items() for part in ("--set", f"{key}={value}")]
    return [*start, "--epochs", "5", "--quiet", *settings, "--out", str(out)]


def is_resumable(folder: Path) -> bool:
    """Whether a whole checkpoint is there, or the run had not begun."""
    checkpoints = folder / "checkpoints"
    if not (checkpoints.is_dir() and any(checkpoints.iterdir())):
        return not (folder / "metrics.jsonl").exists()
    if all(path.suffix == ".tmp" for path in checkpoints.iterdir()):
        return not (folder / "metrics.jsonl").exists()
    try:
        load_newest(checkpoints)
    except DataError:
        return False
    return True


def wait_for_a_save(folder: Path, pid: int) -> None:
    """Return while a process writes a checkpoint, so that half of the kills hit one."""
    end = time.monotonic() + 10
    finished = folder / "model.safetensors"
    while time.monotonic() < end and not any((folder / "checkpoints").glob(f".*.{pid}.tmp")) and not finished.exists():
        pass


def run_with_kills(launcher: Launcher, arguments: list[str], folder: Path, delays: list[float], tally: Tally) -> None:
    """Start a run, kill it after each delay, go on, and let it end."""
    for delay in [*delays, 1e9]:
        begun = (folder / "config.toml").exists()
        leg = launcher.start(*(["train", "--resume", str(folder), "--quiet"] if begun else arguments))
        if delay < 1e9:
            time.sleep(delay)
            if tally.kills % 2:
                wait_for_a_save(folder, leg.pid)
            leg.send(signal.SIGKILL)
        done = leg.wait()
        if done.code == -signal.SIGKILL:
            tally.kills += 1
            tally.inside_save += any((folder / "checkpoints").glob(f".*.{leg.pid}.tmp"))
            assert is_resumable(folder), sorted(folder.rglob("*"))
        else:
            assert done.code == 0, done.err
            tally.survived += 1


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("number", range(RUNS))
def test_a_killed_run_ends_with_the_same_bytes(launcher: Launcher, tmp_path: Path, number: int) -> None:
    chance = random.Random(number)
    method, kills = METHODS[number % len(METHODS)], KILLS // RUNS
    if method.startswith("stage two"):
        parent = launcher.run(*command(method.rpartition(" ")[2], number, tmp_path / "parent"))
        assert parent.code == 0, parent.err
    began = time.monotonic()
    whole = launcher.run(*command(method, number, tmp_path / "whole"))
    assert whole.code == 0, whole.err
    duration = time.monotonic() - began
    tally = Tally()
    folder = tmp_path / "killed"
    delays = [chance.uniform(0, 2 * duration / (kills + 1)) for _ in range(kills)]
    run_with_kills(launcher, command(method, number, folder), folder, delays, tally)
    for name in RESULTS:
        if (folder / name).read_bytes() != (tmp_path / "whole" / name).read_bytes():
            tally.differing.append(name)
    left = [path for path in folder.rglob(".*") if path.name.endswith(".tmp") or path.name.startswith(".new")]
    print(f"\n{method}: {tally}")  # noqa: T201 - the figure `make kill-test` is run for
    assert tally.differing == []
    assert left == []
    assert tally.kills > 0
