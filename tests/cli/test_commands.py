"""What all commands have in common: the home folder, names of checkpoints, commands that can be pasted."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from ltk.cli import app
from ltk.data.sources import default_root
from ltk.errors import DataError, LtkError, UsageError
from ltk.evaluation.logits import logits_path
from ltk.evaluation.pipeline import Judge

QUICK = ("train", "ce", "-d", "digits", "-e", "1", "--set", "model.width=4", "--device", "cpu")


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    if result.exception and not isinstance(result.exception, SystemExit | LtkError):
        raise result.exception
    return result


def hint_of(result: Result) -> str:
    assert isinstance(result.exception, LtkError), result.output
    return f"{result.exception.message} {result.exception.hint}"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, and an empty home elsewhere."""
    folder, place = tmp_path / "home", tmp_path / "desk"
    for each in (folder, place):
        each.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    for name in ("LTK_RUNS", "LTK_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(place)
    return folder


@pytest.mark.parametrize("option", ["--runs=~/runs", "--out=~/runs"])
def test_a_tilde_is_the_home_folder(home: Path, option: str) -> None:
    assert run(*QUICK, option).exit_code == 0
    assert (home / "runs").is_dir()
    assert list(Path.cwd().iterdir()) == []


def test_a_tilde_in_names_lists_and_variables(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert str(home / "photos") in hint_of(run("train", "ce", "--dataset=~/photos"))
    assert str(home / "photos") in hint_of(run("data", "stats", "~/photos"))
    assert str(home / "a") in hint_of(run("eval", "~/a", "~/b"))
    monkeypatch.setenv("LTK_RUNS", "~/x")
    assert str(home / "x") in hint_of(run("eval"))
    monkeypatch.setenv("LTK_DATA", "~/data")
    assert default_root() == home / "data"
    monkeypatch.setenv("LTK_DATA", "")
    assert default_root() == home / ".cache" / "ltk" / "data"


@pytest.mark.parametrize("command", ["eval", "report", "export", "predict", "finetune-classifier"])
@pytest.mark.parametrize("name", ["foo", "../../x", "Best"])
def test_checkpoints_are_known_by_name(command: str, name: str) -> None:
    flag = "--from" if command == "finetune-classifier" else "--checkpoint"
    fault = run(command, "absent", flag, name).exception
    assert isinstance(fault, UsageError)
    assert fault.message == f"unknown checkpoint {name!r}"
    assert "Known: best, last." in fault.hint


def test_python_knows_them_too(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('preset = ""\n')
    with pytest.raises(UsageError, match="unknown checkpoint 'foo'"):
        Judge(checkpoint="foo").evaluate(tmp_path)
    with pytest.raises(UsageError, match="unknown split 'test-best'"):
        Judge(split="test-best").evaluate(tmp_path)
    assert logits_path(tmp_path, "test", "best").name == "test-best.safetensors"


def test_resume_takes_no_method() -> None:
    fault = run("train", "ce", "--resume", "RUN").exception
    assert isinstance(fault, UsageError)
    assert fault.message == "--resume takes no method: the run keeps its own"


def test_suggested_commands_can_be_pasted() -> None:
    printed = run(*QUICK, "--out", "my runs/ce").stderr
    (line,) = re.findall(r"^next  (.*)$", printed, re.M)
    words = shlex.split(line)
    assert words[:3] == ["ltk", "eval", "my runs/ce"]
    assert words[4:] == ["ltk", "report", "my runs/ce"]
    taken = run(*QUICK, "--out", "my runs/ce").exception
    assert isinstance(taken, LtkError)
    assert "ltk train --resume 'my runs/ce'" in taken.hint
    Path("a b.safetensors").touch()
    assert "ltk eval 'a b.safetensors' --dataset NAME" in hint_of(run("report", "a b.safetensors"))


def test_what_is_no_model_is_no_run(tmp_path: Path) -> None:
    Path("report.html").touch()
    for command in ("eval", "finetune-classifier"):
        fault = run(command, "report.html").exception
        assert isinstance(fault, DataError)
        assert fault.message == "report.html is not a model file or run"


def test_the_demo_leaves_its_report_beside_the_runs() -> None:
    result = run("demo", "--seeds", "1", "--epochs", "1", "--runs", "runs")
    assert "ce: 1 run done" in result.stderr
    assert "1 seed each" in result.stderr
    assert sorted(path.name for path in Path("runs").iterdir()) == ["digits-imb50", "report.html"]
    folders = sorted(Path("runs/digits-imb50").iterdir())
    assert run("eval", *folders).exit_code == 0


def test_validation_images_that_classes_cannot_spare() -> None:
    printed = run("data", "split", "digits", "--imb", "50", "--val", "20").stderr
    assert printed.startswith("Warning: val: 7 of 10 classes cannot spare 20 images, and hold out fewer")
    assert "Warning" not in run("data", "split", "digits", "--imb", "50", "--val", "0.2").stderr
    assert "10 of 10 classes cannot spare 5000" in run("data", "stats", "digits", "--val", "5000").stderr
    assert "10 of 10 classes cannot spare 5000" in run(*QUICK, "--val", "5000", "--out", "r").stderr
