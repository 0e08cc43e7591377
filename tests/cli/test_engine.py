"""``--engine`` and ``--profile`` reach the run."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from ltk.cli import app
from ltk.errors import UsageError

runner = CliRunner()


def test_options_become_settings() -> None:
    arguments = ["train", "ce", "--dataset", "digits", "--engine", "compile", "--profile", "--dry-run", "--json"]
    run = json.loads(runner.invoke(app, arguments).stdout)["config"]["run"]
    assert (run["engine"], run["profile"]) == ("compile", True)


def test_an_unknown_engine_is_refused() -> None:
    result = runner.invoke(app, ["train", "ce", "--dataset", "digits", "--engine", "fast"])
    assert isinstance(result.exception, UsageError)
    assert "run.engine" in result.exception.message


def test_a_profiled_run(tmp_path: Path) -> None:
    """The reason why no graph is captured is printed, then the summary, which is also kept."""
    arguments = ["train", "ce", "--dataset", "digits", "--epochs", "3", "--device", "cpu", "--set", "run.threads=1"]
    options = ["--engine", "graph", "--profile", "--out", str(tmp_path / "run")]
    result = runner.invoke(app, [*arguments, *options])
    assert result.exit_code == 0
    said = " ".join(result.stderr.split())
    assert "a CUDA graph needs a CUDA device" in said
    summary = (tmp_path / "run" / "profile.txt").read_text()
    assert " ".join(summary.split()) in said
    assert (tmp_path / "run" / "profile.json.gz").stat().st_size > 1000
