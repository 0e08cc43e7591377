"""Run directories: locked, never overwritten, continued as they began."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path

import pytest

from ltk.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from ltk.config_text import read_toml
from ltk.run_files import LAST
from tests.reliability.processes import Launcher, Process

SMALL = ("--dataset", "digits", "--quiet", "--set", "model.width=4", "--set", "run.device=cpu")
SLOW = "import time, ltk.engine.trainer as t; t.Trainer._evaluate = lambda self: time.sleep(60)"


@pytest.fixture(scope="module")
def trained(launcher: Launcher, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two epochs; it is copied before it is continued."""
    folder = tmp_path_factory.mktemp("run_dir") / "run"
    done = launcher.run("train", "ce", *SMALL, "--epochs", "2", "--out", folder)
    assert done.code == 0, done.err
    return folder


def hold(launcher: Launcher, folder: Path) -> Process:
    """A process that trains in ``folder``, for a minute if it is let."""
    run = launcher.start("train", "ce", *SMALL, "--epochs", "2", "--out", folder, before=SLOW)
    run.wait_until((folder / "checkpoints" / LAST).exists)
    return run


def test_two_processes_never_share_a_run(launcher: Launcher, tmp_path: Path) -> None:
    first = hold(launcher, tmp_path / "run")
    for arguments in (("train", "--resume", tmp_path / "run"), ("train", "ce", *SMALL, "--out", tmp_path / "run")):
        second = launcher.run(*arguments)
        assert second.code == 5, second.err
        assert "Traceback" not in second.err
    holder = launcher.run("train", "--resume", tmp_path / "run")
    assert f"in use by process {first.pid}" in holder.err
    first.send(signal.SIGKILL)
    first.wait()
    third = launcher.run("train", "--resume", tmp_path / "run", "--quiet")
    assert third.code == 0, third.err


def test_a_run_whose_folder_is_removed_ends_with_an_error(launcher: Launcher, tmp_path: Path) -> None:
    before = "import ltk.engine.trainer as t, shutil; t.Trainer._evaluate = lambda self: shutil.rmtree('run')"
    done = launcher.run("train", "ce", *SMALL, "--out", "run", cwd=tmp_path, before=before)
    assert done.code == 6, done.err
    assert "cannot write run" in done.err
    assert "Traceback" not in done.err


def test_two_starts_at_once_get_two_folders(launcher: Launcher, tmp_path: Path) -> None:
    starts = [launcher.start("train", "ce", *SMALL, "--epochs", "1", cwd=tmp_path) for _ in range(3)]
    assert [start.wait().code for start in starts] == [0, 0, 0]
    assert len(list(tmp_path.glob("runs/*/*/model.safetensors"))) == 3


def test_a_start_killed_at_once_leaves_nothing_in_the_way(launcher: Launcher, tmp_path: Path) -> None:
    stop = "import os, ltk.engine.run_dir as r; r.RunDir.write_config = lambda *a: os.kill(os.getpid(), 9)"
    arguments = ("train", "ce", *SMALL, "--epochs", "1", "--out", tmp_path / "run")
    assert launcher.run(*arguments, before=stop).code == -signal.SIGKILL
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) != []
    again = launcher.run(*arguments)
    assert again.code == 0, again.err


def test_a_start_killed_before_its_first_checkpoint_is_continued(launcher: Launcher, tmp_path: Path) -> None:
    stop = "import os, ltk.engine.trainer as t; t.save_checkpoint = lambda *a: os.kill(os.getpid(), 9)"
    arguments = ("train", "ce", *SMALL, "--epochs", "2", "--out")
    assert launcher.run(*arguments, tmp_path / "run", before=stop).code == -signal.SIGKILL
    assert launcher.run(*arguments, tmp_path / "whole").code == 0
    again = launcher.run("train", "--resume", tmp_path / "run")
    assert again.code == 0, again.err
    assert "starts from the beginning" in again.err
    for name in ("metrics.jsonl", "model.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.parametrize("state", ["finished", "unfinished"])
def test_a_run_is_never_overwritten(launcher: Launcher, trained: Path, tmp_path: Path, state: str) -> None:
    run = shutil.copytree(trained, tmp_path / "run")
    if state == "unfinished":
        (run / "model.safetensors").unlink()
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    done = launcher.run("train", "ce", *SMALL, "--out", run)
    assert done.code == 5
    assert f"ltk train --resume {run}" in done.err
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--lr", "0.2"), "optim.lr = 0.2 (the run: 0.1)"),
        (("--seed", "7"), "run.seed = 7 (the run: 0)"),
        (("--imb", "20"), "data.imb = 20.0 (the run: 50.0)"),
        (("--dataset", "cifar10"), "data.dataset = cifar10 (the run: digits)"),
        (("--set", "model.width=8"), "model.width = 8 (the run: 4)"),
        (("--set", "method.name=focal"), "method.name = focal (the run: ce)"),
        (("--epochs", "1"), "optim.epochs = 1 (the run: 2)"),
        (("--set", "optim.schedule.warmup_epochs=2", "--batch-size", "32"), "optim.batch_size = 32 (the run: 64)"),
    ],
)
def test_what_would_make_another_run_of_it_is_refused(
    launcher: Launcher, trained: Path, arguments: tuple[str, ...], words: str
) -> None:
    done = launcher.run("train", "--resume", trained, *arguments)
    assert done.code == 5, done.err
    assert words in done.err
    assert "run.* except run.seed" in done.err


def test_what_may_change_is_said_and_kept(launcher: Launcher, trained: Path, tmp_path: Path) -> None:
    run = shutil.copytree(trained, tmp_path / "run")
    changes = ("--epochs", "3", "--set", "run.precision=bf16", "--set", "run.save_every=3")
    done = launcher.run("train", "--resume", run, *changes)
    assert done.code == 0, done.err
    assert "run.save_every = 3 (the run: 1)\n" in done.err
    for key in ("optim.epochs = 3 (the run: 2)", "run.precision = bf16 (the run: fp32)"):
        assert f"{key}: no longer exact to the last bit" in done.err
    config = read_toml(run / "config.toml")
    assert (config["optim"]["epochs"], config["run"]["precision"], config["run"]["save_every"]) == (3, "bf16", 3)
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 3
    quiet = launcher.run("train", "--resume", run)
    assert quiet.code == 0
    assert "Warning" not in quiet.err


def test_a_change_by_hand_is_found_too(launcher: Launcher, trained: Path, tmp_path: Path) -> None:
    run = shutil.copytree(trained, tmp_path / "run")
    text = (run / "config.toml").read_text()
    (run / "config.toml").write_text(text.replace("weight_decay = 0.0005", "weight_decay = 0.1"))
    done = launcher.run("train", "--resume", run)
    assert done.code == 5, done.err
    assert "optim.weight_decay = 0.1 (the run: 0.0005)" in done.err


def test_other_images_are_refused(launcher: Launcher, trained: Path, tmp_path: Path) -> None:
    """The split of another run: as many classes, other images."""
    run = shutil.copytree(trained, tmp_path / "run")
    other = launcher.run("train", "ce", *SMALL, "--epochs", "1", "--imb", "20", "--out", tmp_path / "other")
    assert other.code == 0, other.err
    shutil.copy(tmp_path / "other" / "split.json", run / "split.json")
    done = launcher.run("train", "--resume", run)
    assert done.code == 3, done.err
    assert "is another run's: other images" in done.err or "other class_counts" in done.err


def rewrite(run: Path, change: dict[str, str]) -> None:
    """Give the checkpoints of a run other metadata."""
    for _ in range(2):
        old = load_checkpoint(run / "checkpoints" / LAST)
        save_checkpoint(run / "checkpoints", Checkpoint(old.tensors, old.state, old.metadata | change))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"backbone": json.dumps({"name": "resnet18", "options": {}})}, "other backbone"),
        ({"class_counts": json.dumps([1] * 10)}, "other class_counts"),
        ({"method": "focal"}, "other method"),
    ],
)
def test_a_checkpoint_of_another_network_is_refused(
    launcher: Launcher, trained: Path, tmp_path: Path, change: dict[str, str], words: str
) -> None:
    run = shutil.copytree(trained, tmp_path / "run")
    rewrite(run, change)
    done = launcher.run("train", "--resume", run)
    assert done.code == 3, done.err
    assert words in done.err


def test_a_checkpoint_of_a_newer_version_is_passed_over(launcher: Launcher, trained: Path, tmp_path: Path) -> None:
    run = shutil.copytree(trained, tmp_path / "run")
    path = run / "checkpoints" / LAST
    data = path.read_bytes().replace(b"checkpoint/1", b"checkpoint/9")
    digest = data[data.index(b'"sha256":"') + 10 :][:64]
    path.write_bytes(seal(data.replace(digest, b"0" * 64)))
    done = launcher.run("train", "--resume", run)
    assert done.code == 0, done.err
    assert "is checkpoint/9, not checkpoint/1" in done.err


def seal(data: bytes) -> bytes:
    import hashlib

    return data.replace(b"0" * 64, hashlib.sha256(data).hexdigest().encode(), 1)


def test_a_torn_last_line_of_the_journal_is_written_again(launcher: Launcher, trained: Path, tmp_path: Path) -> None:
    run = shutil.copytree(trained, tmp_path / "run")
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 2, "lo')
    done = launcher.run("train", "--resume", run, "--epochs", "3", "--quiet")
    assert done.code == 0, done.err
    lines = (run / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [0, 1, 2]


def test_other_versions_are_said(launcher: Launcher, trained: Path, tmp_path: Path) -> None:
    run = shutil.copytree(trained, tmp_path / "run")
    environment = json.loads((run / "environment.json").read_text())
    (run / "environment.json").write_text(json.dumps(environment | {"torch": "1.0"}))
    done = launcher.run("train", "--resume", run, "--quiet")
    assert done.code == 0, done.err
    assert "(the run: 1.0): exact to the last bit no longer" in done.err
