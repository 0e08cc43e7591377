"""The first signal finishes the step and saves, the second stops at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ltk.checkpoint import load_newest
from tests.reliability.processes import ROOT, Launcher, Process

LONG = ("--dataset", "digits", "--epochs", "10000", "--set", "model.width=4", "--set", "run.device=cpu")
SLOW_SAVE = """
import os, time
import ltk.engine.trainer as trainer
save = trainer.save_checkpoint
def slow(*arguments):
    save(*arguments)
    if os.path.exists("slowly"):
        open("saving", "w").close()
        time.sleep(60)
trainer.save_checkpoint = slow
"""


def start(launcher: Launcher, folder: Path, before: str = "") -> Process:
    """Start a long run and return when it is under way."""
    run = launcher.start("train", "ce", *LONG, "--out", folder / "run", cwd=folder, before=before)
    run.wait_until(lambda: count_epochs(folder) > 2)
    return run


def count_epochs(folder: Path) -> int:
    """How many epochs are in the journal."""
    path = folder / "run" / "metrics.jsonl"
    return path.read_text().count("\n") if path.exists() else 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_saves_and_says_how_to_go_on(launcher: Launcher, tmp_path: Path, number: int) -> None:
    run = start(launcher, tmp_path)
    before = count_epochs(tmp_path)
    run.send(number)
    done = run.wait()
    assert done.code == 128 + number, done.err
    assert "checkpoint saved" in done.err
    assert f"Continue with: ltk train --resume {tmp_path / 'run'}" in done.err
    assert "Traceback" not in done.err
    assert load_newest(tmp_path / "run" / "checkpoints")[0].state["position"]["epoch"] >= before > 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)])
def test_the_second_signal_stops_at_once(launcher: Launcher, tmp_path: Path, number: int, code: int) -> None:
    """A process ended by SIGTERM itself is 143 to a shell."""
    run = start(launcher, tmp_path, SLOW_SAVE)
    (tmp_path / "slowly").touch()
    run.send(number)
    run.wait_until((tmp_path / "saving").exists)
    time.sleep(0.3)  # two signals of a kind that wait together are one
    run.send(number)
    done = run.wait()
    assert done.code == code, done.err
    assert "Traceback" not in done.err
    assert load_newest(tmp_path / "run" / "checkpoints")[0].state["position"]["update"] > 0


def test_a_hang_up_that_is_ignored_stays_ignored(launcher: Launcher, tmp_path: Path) -> None:
    """As ``nohup`` does it."""
    run = start(launcher, tmp_path, "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)")
    run.send(signal.SIGHUP)
    epochs = count_epochs(tmp_path)
    run.wait_until(lambda: count_epochs(tmp_path) > epochs + 3)
    run.send(signal.SIGTERM)
    assert run.wait().code == 143


def test_the_installed_command(tmp_path: Path) -> None:
    """The same with a process that was not forked from anything."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "ltk", "train", "ce", *LONG, "--out", str(tmp_path / "run")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as run:
        assert run.stderr
        while "epoch 1/" not in run.stderr.readline():
            assert run.poll() is None
        run.send_signal(signal.SIGINT)
        errors = run.communicate(timeout=60)[1]
    assert run.returncode == 130
    assert "ltk train --resume" in errors
    assert "Traceback" not in errors
