"""``--devices 2`` as a user sees it: one voice, one error, one exit code, and nobody left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch

from ltk import distributed
from ltk.config import OptimSettings, RunSettings
from ltk.engine.parallel import check_batch_size, process_group
from ltk.errors import UsageError

ROOT = Path(__file__).parents[2]
TRAIN = ["train", "ce", "--dataset", "digits", "--device", "cpu", "--precision", "fp32", "--set", "run.threads=1"]
FAULT = """
import os
if os.environ.get("RANK") == "1":
    from ltk.engine.meters import Meters
    from ltk.errors import DataError
    def add(*arguments):
        raise DataError("image 7 is torn", "Mend it.")
    Meters.add = add
"""


def start_command(*arguments: str, python_path: Path = ROOT) -> subprocess.Popen[str]:
    """Start the command line in two processes."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join((str(ROOT), str(python_path)))}
    command = [sys.executable, "-m", "ltk", *arguments, "--devices", "2"]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def start(run: Path, *arguments: str, python_path: Path = ROOT) -> subprocess.Popen[str]:
    """Start a new run in two processes."""
    return start_command(*TRAIN, "--out", str(run), *arguments, python_path=python_path)


def wait_for_epoch(run: Path, process: subprocess.Popen[str]) -> None:
    """Wait until the run has written its first epoch."""
    for _ in range(1200):
        if (run / "metrics.jsonl").exists():
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    raise AssertionError("no epoch in a minute")


def ranks_of(process: subprocess.Popen[str]) -> dict[str, psutil.Process]:
    """The training processes by rank."""
    return {child.environ().get("RANK", ""): child for child in psutil.Process(process.pid).children(recursive=True)}


def test_a_killed_rank_ends_the_job_which_goes_on_until_it_is_told_to_stop(tmp_path: Path) -> None:
    process = start(tmp_path / "run", "--epochs", "500")
    wait_for_epoch(tmp_path / "run", process)
    ranks_of(process)["1"].kill()
    began = time.monotonic()
    _, errors = process.communicate(timeout=60)
    assert time.monotonic() - began < 45
    assert process.returncode == 6
    assert "Error: process 1 was killed by SIGKILL" in errors
    (tmp_path / "run" / "metrics.jsonl").unlink()
    process = start_command("train", "--resume", str(tmp_path / "run"))
    wait_for_epoch(tmp_path / "run", process)
    children = list(ranks_of(process).values())
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143, errors
    assert "checkpoint saved" in errors
    assert "Traceback" not in errors
    assert not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children)


def test_the_error_of_a_rank_is_the_error_of_the_job(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(FAULT)
    process = start(tmp_path / "run", python_path=tmp_path)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 3, errors
    assert "Error: process 1: image 7 is torn" in errors
    assert errors.count("Error:") == 1
    assert "Mend it." in errors


@pytest.mark.parametrize(
    ("size", "world", "expected"), [(63, 2, "62 or 64"), (6, 4, "8:"), (2, 2, "4:"), (100, 8, "96 or 104")]
)
def test_a_batch_that_cannot_be_shared_out(
    size: int, world: int, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distributed, "world_size", lambda: world)
    with pytest.raises(UsageError, match=f"{size} images cannot be shared out equally among {world}") as refused:
        check_batch_size(size)
    assert f"Use --batch-size {expected}" in refused.value.hint
    check_batch_size(2 * world)


def test_every_rank_waits_for_devices_that_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr("ltk.engine.parallel.choose_device", lambda name: torch.device("mps"))
    with pytest.raises(UsageError, match="mps cannot be shared out"), process_group(RunSettings(device="mps")):
        pass


def test_learning_rate_rule() -> None:
    assert OptimSettings(lr=0.1, batch_size=256).scaled_lr == 0.1
    assert OptimSettings(lr=0.1, batch_size=256, lr_rule="linear", reference_batch=64).scaled_lr == pytest.approx(0.4)
    with pytest.raises(ValueError, match="reference_batch"):
        OptimSettings(lr_rule="linear")
