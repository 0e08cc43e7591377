"""Names of files and folders that are not UTF-8, and locales that know ASCII alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.reliability.processes import ROOT, Launcher
from tests.reliability.test_bad_input import make_images

BAD = "ro\udcffot"  # as Python has the byte 0xff
SMALL = ("--quiet", "--set", "model.width=4", "--set", "run.device=cpu", "--epochs", "1", "--batch-size", "4")
NARROW = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}


@pytest.fixture(scope="module")
def place(launcher: Launcher, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images, one with a name that is not UTF-8, and a run."""
    folder = tmp_path_factory.mktemp("names")
    make_images(folder / "images")
    make_images(folder / BAD)
    done = launcher.run("train", "ce", "--dataset", "images", *SMALL, "--out", "run", cwd=folder)
    assert done.code == 0, done.err
    return folder


@pytest.mark.parametrize(
    ("arguments", "where"),
    [
        (("--dataset", BAD), "root = "),
        (("--dataset", "images", "--out", BAD + "/run"), "--out "),
        (("--dataset", "images", "--runs", BAD), "--runs "),
    ],
)
def test_a_run_is_not_begun(launcher: Launcher, place: Path, arguments: tuple[str, ...], where: str) -> None:
    before = sorted(place.rglob("*"))
    done = launcher.run("train", "ce", *SMALL, *arguments, cwd=place)
    assert done.code == 2, done.err
    assert where in done.err
    assert r"ro\xffot" in done.err
    assert "is not UTF-8" in done.err
    assert sorted(place.rglob("*")) == before


def test_a_run_keeps_a_configuration_that_can_be_read(launcher: Launcher, place: Path) -> None:
    before = (place / "run/config.toml").read_bytes()
    done = launcher.run("train", "--resume", "run", "--epochs", "2", "--root", BAD, cwd=place)
    assert done.code == 2, done.err
    assert (place / "run/config.toml").read_bytes() == before


def test_answers_name_every_image(launcher: Launcher, place: Path, tmp_path: Path) -> None:
    (tmp_path / f"{BAD}.png").symlink_to(place / "images/test/ash/0.png")
    done = launcher.run("predict", place / "run", tmp_path, "--out", place / "rows.csv", cwd=place)
    assert done.code == 0, done.err
    assert b"/ro\xffot.png," in (place / "rows.csv").read_bytes()


def test_an_ordinary_name_in_a_narrow_locale(tmp_path: Path) -> None:
    make_images(tmp_path / "B\u00e4ume")
    environment = {**os.environ, **NARROW, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}

    def run(*arguments: str) -> subprocess.CompletedProcess[bytes]:
        command = [sys.executable, "-m", "ltk", "train", *arguments]
        return subprocess.run(command, capture_output=True, cwd=tmp_path, env=environment, timeout=120)

    done = run("ce", "--dataset", "B\u00e4ume", *SMALL, "--out", "run")
    assert done.returncode == 0, done.stderr
    assert f'root = "{tmp_path}/B\u00e4ume"\n' in (tmp_path / "run/config.toml").read_text(encoding="utf-8")
    assert "B\u00e4ume" in (tmp_path / "run/environment.json").read_text(encoding="utf-8")
    done = run("--resume", "run", "--epochs", "2")
    assert done.returncode == 6, done.stderr
    assert b"Set LC_ALL=C.UTF-8" in done.stderr
