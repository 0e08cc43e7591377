"""Odd surroundings: no reader, no terminal, no home, no folder, other encodings."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.reliability.processes import ROOT, Launcher

TRAIN = ("train", "ce", "--dataset", "digits", "--set", "model.width=4", "--epochs", "2", "--set", "run.device=cpu")


def is_finished(run: Path) -> bool:
    return len((run / "metrics.jsonl").read_text().splitlines()) == 2 and (run / "model.safetensors").exists()


@pytest.mark.parametrize("streams", [(1,), (2,), (1, 2)], ids=str)
@pytest.mark.parametrize("how", ["no reader", "closed", "full disk"])
def test_training_goes_on_without_a_reader(
    launcher: Launcher, tmp_path: Path, streams: tuple[int, ...], how: str
) -> None:
    done = launcher.run(*TRAIN, "--out", tmp_path / "run", streams=dict.fromkeys(streams, how))
    assert is_finished(tmp_path / "run")
    assert done.code == (6 if how == "full disk" and 1 in streams else 0), done.err
    assert "Traceback" not in done.err + done.out
    assert "BrokenPipe" not in done.err


@pytest.mark.parametrize("arguments", [("config",), ("config", "--json"), ("data", "stats", "digits"), TRAIN])
def test_results_without_a_reader(launcher: Launcher, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """As in ``ltk config | head -1``."""
    done = launcher.run(*arguments, cwd=tmp_path, streams={1: "no reader"})
    assert done.code == 0, done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    "env",
    [
        {"COLUMNS": "0"},
        {"COLUMNS": "x"},
        {"COLUMNS": "1"},
        {"NO_COLOR": "1"},
        {"TERM": "dumb"},
        {"HOME": None},
        {"HOME": "/nowhere"},
        {"LANG": "C", "LC_ALL": "C"},
        {"LTK_RUNS": "elsewhere"},
        {"PYTHONHASHSEED": "7"},
        {"TMPDIR": "/nowhere"},
    ],
    ids=str,
)
def test_odd_environments(launcher: Launcher, tmp_path: Path, env: dict[str, str | None]) -> None:
    done = launcher.run(*TRAIN, cwd=tmp_path, env=env)
    assert done.code == 0, done.err
    (run,) = tmp_path.glob("*/*/ce-001")
    assert is_finished(run)


def test_a_bug_without_a_place_for_its_traceback(launcher: Launcher, tmp_path: Path) -> None:
    before = "import tempfile, ltk.resolve; ltk.resolve.resolve_config = None; tempfile.tempdir = '/nowhere'"
    done = launcher.run(*TRAIN, cwd=tmp_path, before=before)
    assert done.code == 1
    assert "this is a bug in ltk" in done.err
    assert "Traceback" not in done.err


def test_a_folder_that_is_gone(launcher: Launcher, tmp_path: Path) -> None:
    before = "import os; os.mkdir('gone'); os.chdir('gone'); os.rmdir('../gone')"
    for arguments in (TRAIN, ("eval",), ("data", "stats", "photos")):
        done = launcher.run(*arguments, cwd=tmp_path, before=before)
        assert done.code in (2, 3, 6), done.err
        assert "Traceback" not in done.err
        assert "bug" not in done.err


def test_a_forbidding_mask(launcher: Launcher, tmp_path: Path) -> None:
    done = launcher.run(*TRAIN, "--out", tmp_path / "run", before="import os; os.umask(0o777)")
    assert done.code in (0, 6), done.err
    assert "Traceback" not in done.err


def test_names_are_shown_as_they_are(launcher: Launcher, tmp_path: Path) -> None:
    """What looks like markup or a symbol in a name is neither."""
    for name in (":cat:", "[bold]x[", "\x1b[31mred"):
        done = launcher.run("eval", tmp_path / name)
        assert done.code == 3, done.err
        assert "\x1b" not in done.err
        assert name.replace("\x1b", "\\x1b") in done.err


def test_a_narrow_encoding(tmp_path: Path) -> None:
    """A plain C locale with Python told not to help: names of classes are not ASCII."""
    images = tmp_path / "images"
    for part in ("train", "test"):
        for name in ("\u00c4sche", "\u68ee"):
            (images / part / name).mkdir(parents=True)
            Image.new("RGB", (12, 12)).save(images / part / name / "a.png")
    environment = {**os.environ, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "ltk", "data", "stats", "images"],
        capture_output=True,
        cwd=tmp_path,
        env=environment,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in done.stderr


def test_without_assertions(tmp_path: Path) -> None:
    """``python -O``: no check is an assert."""
    command = [sys.executable, "-O", "-m", "ltk", "train", "ce", "--imb", "0.5"]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert done.returncode == 2, done.stderr


def test_the_engine_asks_no_clock_that_jumps() -> None:
    for path in (ROOT / "ltk" / "engine").glob("*.py"):
        assert "time.time(" not in path.read_text(encoding="utf-8"), path
