"""Saving on a disk that is full, forbidden or was left in disorder by a kill."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from ltk.checkpoint import load_checkpoint, load_newest, write_tensors
from ltk.run_files import LAST, PREVIOUS
from tests.reliability.processes import Launcher
from tests.reliability.test_bad_input import make_images

SMALL = ("--dataset", "digits", "--quiet", "--set", "model.width=4", "--set", "run.device=cpu")
LIMITS = 20


def temporaries(folder: Path) -> list[Path]:
    return [path for path in folder.rglob(".*") if path.is_file()]


@pytest.fixture(scope="module")
def trained(launcher: Launcher, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two epochs; it is copied before it is continued."""
    folder = tmp_path_factory.mktemp("saving") / "run"
    done = launcher.run("train", "ce", *SMALL, "--epochs", "2", "--out", folder)
    assert done.code == 0, done.err
    return folder


def test_files_are_plain_safetensors(tmp_path: Path) -> None:
    kinds = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16]
    kinds += [torch.int8, torch.uint8, torch.bool, torch.uint16, torch.uint32, torch.uint64]
    tensors = {f"x{i}": (torch.arange(i + 1) % 2).to(kind) for i, kind in enumerate(kinds)}
    tensors |= {"float8": torch.ones(3).to(torch.float8_e4m3fn), "other8": torch.ones(3).to(torch.float8_e5m2)}
    tensors |= {"scalar": torch.tensor(2.5), "empty": torch.zeros(0, 4), "turned": torch.rand(5, 3).t()}
    write_tensors(tmp_path / "x", tensors, {"key": "Wert\u00e4"})
    read = load_file(tmp_path / "x")
    assert read.keys() == tensors.keys()
    for name, value in tensors.items():
        assert read[name].dtype == value.dtype
        assert torch.equal(read[name].double(), value.double()), name
    with safe_open(tmp_path / "x", framework="pt") as file:
        assert file.metadata()["key"] == "Wert\u00e4"


@pytest.mark.parametrize("part", range(LIMITS))
def test_a_full_disk_loses_nothing(launcher: Launcher, trained: Path, tmp_path: Path, part: int) -> None:
    """At each of twenty limits on the size of a file, up to one byte less than a checkpoint has."""
    run = shutil.copytree(trained, tmp_path / "run")
    size = (run / "checkpoints" / LAST).stat().st_size
    smallest = 2_000  # less would cut the message short: it is written to a file too
    limit = smallest + (size - 1 - smallest) * part // (LIMITS - 1)
    done = launcher.run("train", "--resume", run, "--epochs", "6", "--set", "run.save_steps=1", file_limit=limit)
    assert done.code == 6, done.err
    assert "disk full" in done.err
    assert "Traceback" not in done.err
    assert temporaries(run) == []
    assert load_newest(run / "checkpoints")[0].state["position"]["epoch"] >= 2


def test_a_disk_full_from_the_start_leaves_no_temporary(launcher: Launcher, tmp_path: Path) -> None:
    done = launcher.run("train", "ce", *SMALL, "--epochs", "2", "--out", tmp_path / "run", file_limit=1_500)
    assert done.code == 6, done.err
    assert "disk full" in done.err
    assert temporaries(tmp_path) == []
    again = launcher.run("train", "ce", *SMALL, "--epochs", "1", "--out", tmp_path / "run")
    assert again.code == 0, again.err


@pytest.mark.parametrize("out", ["/proc/ltk-run", "/proc/self/status/run"])
def test_a_folder_that_cannot_be_written(launcher: Launcher, out: str) -> None:
    done = launcher.run("train", "ce", *SMALL, "--epochs", "1", "--out", out)
    assert done.code == 6, done.err
    assert out in done.err
    assert "Traceback" not in done.err


def test_what_a_kill_left_is_removed(launcher: Launcher, trained: Path, tmp_path: Path) -> None:
    run = shutil.copytree(trained, tmp_path / "run")
    for folder in (run, run / "checkpoints", run / "logits"):
        (folder / ".something.12345.tmp").write_bytes(b"half")
    done = launcher.run("train", "--resume", run, "--epochs", "3", "--quiet")
    assert done.code == 0, done.err
    assert temporaries(run) == []


def test_a_torn_checkpoint_is_named_and_the_one_before_it_used(
    launcher: Launcher, trained: Path, tmp_path: Path
) -> None:
    whole = shutil.copytree(trained, tmp_path / "whole")
    torn = shutil.copytree(trained, tmp_path / "torn")
    data = bytearray((torn / "checkpoints" / LAST).read_bytes())
    data[len(data) // 2] ^= 1
    (torn / "checkpoints" / LAST).write_bytes(data)
    for run in (whole, torn):
        done = launcher.run("train", "--resume", run, "--epochs", "4", "--quiet")
        assert done.code == 0, done.err
    assert f"{torn / 'checkpoints' / LAST} is damaged" in done.err.replace("\n", " ")
    assert "using the checkpoint before it" in done.err
    assert load_checkpoint(torn / "checkpoints" / LAST).state["position"]["epoch"] == 4


@pytest.mark.parametrize(
    ("damaged", "arguments"),
    [("logits/test.safetensors", ()), ("checkpoints/best.safetensors", ("--checkpoint", "best"))],
)
@pytest.mark.parametrize("damage", ["flip", "cut", "append"])
def test_damage_is_found_by_evaluation(
    launcher: Launcher, trained: Path, tmp_path: Path, damaged: str, arguments: tuple[str, ...], damage: str
) -> None:
    run = shutil.copytree(trained, tmp_path / "run")
    data = bytearray((run / damaged).read_bytes())
    if damage == "flip":
        data[-100] ^= 4
    (run / damaged).write_bytes({"flip": data, "cut": data[:-7], "append": data + b"?"}[damage])
    done = launcher.run("eval", run, *arguments)
    assert done.code == 3, done.err
    assert str(run / damaged) in done.err
    assert "Traceback" not in done.err


def test_without_any_whole_checkpoint_the_run_is_refused(launcher: Launcher, trained: Path, tmp_path: Path) -> None:
    run = shutil.copytree(trained, tmp_path / "run")
    for name in (LAST, PREVIOUS):
        (run / "checkpoints" / name).write_bytes(b"torn")
    done = launcher.run("train", "--resume", run, "--quiet")
    assert done.code == 3, done.err
    assert "no usable checkpoint" in done.err


def test_a_kill_between_two_renames_is_made_good(trained: Path, tmp_path: Path) -> None:
    checkpoints = shutil.copytree(trained / "checkpoints", tmp_path / "checkpoints")
    newest = (checkpoints / LAST).read_bytes()
    for killed_after_first_rename in (False, True):
        fresh = checkpoints / f".new-{LAST}"
        (checkpoints / LAST).rename(fresh)
        if not killed_after_first_rename:
            (checkpoints / PREVIOUS).rename(checkpoints / LAST)
        load_newest(checkpoints)
        assert (checkpoints / LAST).read_bytes() == newest
        assert not fresh.exists()


@pytest.mark.parametrize("limit", [300, 3_000, 9_000])
def test_a_full_disk_is_said_wherever_something_is_written(
    launcher: Launcher, trained: Path, tmp_path: Path, limit: int
) -> None:
    """Logits, report, export, pack, second stage; what was there stays, and nothing half written takes a name."""
    run = shutil.copytree(trained, tmp_path / "run")
    shutil.rmtree(run / "logits")
    make_images(tmp_path / "images", classes={"ash": 60, "beech": 60})
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for command in (
        ("eval", run),
        ("report", run, "--out", "x.html"),
        ("convert", run / "model.safetensors", "--to", "timm", "--out", "x.safetensors"),
        ("data", "pack", "images"),
        ("predict", run, "images/test/ash", "--out", "x.csv"),
    ):
        done = launcher.run(*command, cwd=tmp_path, file_limit=limit)
        if command[0] != "predict" or limit < 2_000:
            assert done.code == 6, (command, done.err)
            assert "disk full" in done.err
        assert "Traceback" not in done.err
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    new = {path.name for path in after if path not in before and ".ltk-packs" not in path.parts}
    assert new <= {"x.csv"}
    assert {path: after[path] for path in before} == before
    again = launcher.run("data", "pack", "images", cwd=tmp_path)
    assert again.code == 0, again.err


@pytest.mark.parametrize(
    "command",
    [("preview", "-o", "out.png"), ("stats", "--plot", "out.png"), ("verify", "--write-bad", "out.png")],
    ids=lambda command: command[0],
)
def test_a_full_disk_leaves_the_old_picture(launcher: Launcher, tmp_path: Path, command: tuple[str, ...]) -> None:
    """Or the old list of what is wrong, of which there is more than fits."""
    images = tmp_path / "images"
    make_images(images)
    for i in range(60 if command[0] == "verify" else 0):
        (images / "train/ash" / f"{i}-{'x' * 60}.png").write_bytes(b"none")
    out = tmp_path / "out.png"
    out.write_text("old")
    done = launcher.run("data", command[0], images, *command[1:], cwd=tmp_path, file_limit=2048)
    assert done.code == 6, done.err
    assert "disk full while writing out.png" in done.err
    assert out.read_text() == "old"
    assert temporaries(tmp_path) == []
