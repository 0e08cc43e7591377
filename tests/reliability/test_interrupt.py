"""Ctrl-C before training, where no signal is waited for yet: at any moment quiet, whatever libraries make of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.reliability.processes import ROOT, Launcher

INTERRUPT = "import signal\nsignal.raise_signal(signal.SIGINT)\n"
SWALLOW = f"""
try:
    {INTERRUPT.replace(chr(10), chr(10) + "    ")}
except KeyboardInterrupt:
    raise ImportError("initialization failed") from None
"""
QUIET = (130, -signal.SIGINT)  # 130 to a shell


@pytest.mark.parametrize("content", [INTERRUPT, SWALLOW], ids=["raised", "made an ImportError"])
def test_while_the_command_line_is_imported(tmp_path: Path, content: str) -> None:
    (tmp_path / "typer.py").write_text(content)
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    done = subprocess.run([sys.executable, "-m", "ltk"], capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode in QUIET, done.stderr
    assert done.stderr == ""


def test_other_faults_of_an_import_are_shown(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text("raise ImportError('damaged')")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    done = subprocess.run([sys.executable, "-m", "ltk"], capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode == 1
    assert "damaged" in done.stderr


@pytest.mark.parametrize("content", [INTERRUPT, SWALLOW], ids=["raised", "made an ImportError"])
def test_while_libraries_are_imported(launcher: Launcher, tmp_path: Path, content: str) -> None:
    before = f"import ltk.resolve\ndef resolve(*a, **b): exec({content!r})\nltk.resolve.resolve_config = resolve"
    done = launcher.run("train", "ce", "--dataset", "digits", cwd=tmp_path, before=before)
    assert done.code == 130, done.err
    assert done.err == ""


def test_one_that_is_ignored_stays_ignored(launcher: Launcher, tmp_path: Path) -> None:
    """As in what a shell starts in the background."""
    ignore = "import signal, ltk.cli\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"
    before = f"{ignore}ltk.cli.app = lambda: exec({INTERRUPT!r})"
    assert launcher.run(cwd=tmp_path, before=before).code == 0


def test_the_installed_command_begins_where_nothing_is_imported() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {"ltk": "ltk.__main__:main"}
