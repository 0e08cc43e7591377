"""``--devices 2`` as a user sees it: one voice, one error, one exit code, and nobody left behind."""

from __future__ import annotations

import signal
import socket
import time
from pathlib import Path

import psutil
import pytest
import torch

from ltk import distributed
from ltk.cli.finetune_classifier import finetune_classifier
from ltk.config import OptimSettings, RunSettings
from ltk.engine.parallel import check_batch_size, describe_other_world, process_group
from ltk.errors import EnvironmentFault, UsageError
from tests.distributed.jobs import free_port, ranks_of, start, start_command, start_python, wait_for_epoch

FAULT = """
import os
if os.environ.get("RANK") == "1":
    from ltk.engine.meters import Meters
    from ltk.errors import DataError
    def add(*arguments):
        raise DataError("image 7 is torn", "Mend it.")
    Meters.add = add
"""

LATE = """
import time
from ltk.config import RunSettings
from ltk.engine.parallel import process_group
time.sleep(3)
with process_group(RunSettings(device="cpu", timeout=1)):
    pass
"""


def test_a_killed_rank_ends_the_job_which_goes_on_until_it_is_told_to_stop(tmp_path: Path) -> None:
    process = start(tmp_path / "run", "--epochs", "500")
    wait_for_epoch(tmp_path / "run", process)
    ranks_of(process)["1"].kill()
    began = time.monotonic()
    _, errors = process.communicate(timeout=60)
    assert time.monotonic() - began < 45
    assert process.returncode == 6
    assert "Error: process 1 was killed by SIGKILL" in errors
    assert "Warning" not in errors, "torch tells each process that it looks for unused parameters and finds none"
    for everyone in (True, False):  # as Slurm does, which the ranks get from their parent once more; as `kill` does
        (tmp_path / "run" / "metrics.jsonl").unlink()
        process = start_command("train", "--resume", str(tmp_path / "run"))
        wait_for_epoch(tmp_path / "run", process)
        children = list(ranks_of(process).values())
        for member in (*children, process) if everyone else (process,):
            member.send_signal(signal.SIGTERM)
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


def test_a_silent_rank_ends_the_job(tmp_path: Path) -> None:
    """The other one waits for ``run.timeout``; the silent one is woken here, which torch else kills 30 s later."""
    process = start(tmp_path / "run", "--epochs", "500", "--set", "run.timeout=5")
    wait_for_epoch(tmp_path / "run", process)
    ranks = ranks_of(process)
    ranks["1"].suspend()
    began = time.monotonic()
    psutil.wait_procs([ranks["0"]], timeout=30)
    assert time.monotonic() - began < 25
    ranks["1"].resume()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 6, errors
    assert "another process ended, or did not answer within 5 s" in errors
    assert "the last checkpoint is whole" in errors


def test_a_slow_start_is_no_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """However short the timeout of the run: one process comes three seconds late."""
    port = str(free_port())
    values = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    with monkeypatch.context() as other:
        other.setenv("RANK", "1")
        late = start_python("-c", LATE)
    with process_group(RunSettings(device="cpu", timeout=1)):
        assert distributed.world_size() == 2
    _, errors = late.communicate(timeout=60)
    assert late.returncode == 0, errors


def test_a_port_in_use_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        values = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        for name, value in values.items():
            monkeypatch.setenv(name, value)
        with (
            pytest.raises(EnvironmentFault, match=f"did not meet at 127.0.0.1:{port}") as refused,
            process_group(RunSettings(device="cpu", timeout=2)),
        ):
            pass
    assert "a free MASTER_PORT" in refused.value.hint


def test_another_number_of_processes_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "world_size", lambda: 4)
    assert describe_other_world(4) == []
    assert describe_other_world(2)[0].startswith("4 processes (the checkpoint: 2)")


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


def test_a_model_file_is_made_a_run_by_one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that torchrun started would all make it; ``--devices`` makes it before it starts them."""
    file = tmp_path / "old.safetensors"
    file.touch()
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="must become a run first") as refused:
        finetune_classifier(file, dataset="digits")
    assert "--devices" in refused.value.hint
