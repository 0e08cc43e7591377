"""torchrun starts a job anew that lost a process: its run goes on, wherever it lies."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ltk.engine.elastic import find_begun_run, job_name
from tests.distributed.jobs import TORCHRUN, TRAIN, ranks_of, start_python, wait_for_epoch

EPOCHS = 40


def test_a_restarted_job_goes_on_with_its_run_and_has_a_second_stage(tmp_path: Path) -> None:
    torchrun = [*TORCHRUN, "--rdzv-endpoint", "localhost:0", "--max-restarts", "2"]
    process = start_python(*torchrun, "-m", "ltk", *TRAIN, "--epochs", str(EPOCHS), folder=tmp_path)
    run = tmp_path / "runs" / "digits-imb50" / "ce-001"
    wait_for_epoch(run, process)
    ranks_of(process)["1"].kill()
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert errors.count("restart 1: runs/digits-imb50/ce-001 goes on from its last checkpoint") == 1
    epochs = [json.loads(line)["epoch"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert epochs == list(range(EPOCHS))
    assert (run / "logits" / "test.safetensors").exists()
    assert [path.name for path in run.parent.iterdir()] == ["ce-001"]
    second = ["-m", "ltk", "finetune-classifier", str(run), "--epochs", "2", "--device", "cpu"]
    process = start_python(*torchrun, *second, folder=tmp_path)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert {path.name for path in run.parent.iterdir()} == {"ce-001", "ce-001-crt-001"}
    assert (run.parent / "ce-001-crt-001" / "logits" / "test.safetensors").exists()


def write_run(folder: Path, job: str | None) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.toml").touch()
    (folder / "environment.json").write_text(json.dumps({"job": job} if job else {}))
    return folder


def test_the_run_of_a_job_is_found_after_a_restart_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(tmp_path / "digits" / "ce-001", None)
    write_run(tmp_path / "digits" / "ce-002", "another")
    own = write_run(tmp_path / "digits" / "ce-003", "mine")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "mine")
    assert find_begun_run(None, tmp_path) is None
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert find_begun_run(None, tmp_path) == own
    assert find_begun_run(own, tmp_path) == own
    assert find_begun_run(tmp_path / "new", tmp_path) is None, "it was killed before it wrote its configuration"
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "third")
    assert find_begun_run(None, tmp_path) is None


def test_jobs_without_a_name_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    assert job_name() is None
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    first = job_name()
    assert first == job_name()
    monkeypatch.setattr("os.getppid", lambda: 1)
    assert first != job_name()
