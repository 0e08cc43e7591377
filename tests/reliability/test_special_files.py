"""Pipes and devices among the files of a run, and as the place to write to: nothing hangs, nothing is replaced."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.reliability.processes import Launcher
from tests.reliability.test_bad_input import make_images

SMALL = ("--quiet", "--set", "model.width=4", "--set", "run.device=cpu", "--epochs", "1", "--batch-size", "4")
FILES = (
    "card.json",
    "config.toml",
    "split.json",
    "metrics.jsonl",
    "environment.json",
    "run.lock",
    "checkpoints/last.safetensors",
    "checkpoints/.new-last.safetensors",
    "logits/test.safetensors",
    "model.safetensors",
)


@pytest.fixture(scope="module")
def place(launcher: Launcher, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images and a run."""
    folder = tmp_path_factory.mktemp("special")
    make_images(folder / "images")
    done = launcher.run("train", "ce", "--dataset", "images", *SMALL, "--out", "run", cwd=folder)
    assert done.code == 0, done.err
    return folder


@pytest.mark.parametrize("kind", ["pipe", "endless"])
@pytest.mark.parametrize("file", FILES)
def test_every_command_ends(launcher: Launcher, place: Path, tmp_path: Path, file: str, kind: str) -> None:
    run = shutil.copytree(place / "run", tmp_path / "run")
    (run / file).unlink(missing_ok=True)
    os.mkfifo(run / file) if kind == "pipe" else (run / file).symlink_to("/dev/zero")
    for command in (("eval", run), ("train", "--resume", run, "--quiet")):
        done = launcher.run(*command, cwd=place)
        assert done.code in (0, 2, 3, 5, 6), done.err
        assert "Traceback" not in done.err


def test_answers_go_through_a_link(launcher: Launcher, place: Path, tmp_path: Path) -> None:
    (tmp_path / "link.csv").symlink_to("there.csv")
    done = launcher.run("predict", place / "run", place / "images/test", "-o", tmp_path / "link.csv")
    assert done.code == 0, done.err
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "there.csv").read_text().startswith("image,class")


def test_a_folder_is_refused(launcher: Launcher, place: Path, tmp_path: Path) -> None:
    done = launcher.run("predict", place / "run", place / "images/test", "-o", tmp_path)
    assert done.code == 2, done.err
    assert "is no file to write to" in done.err
