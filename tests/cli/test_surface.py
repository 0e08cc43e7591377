"""The command line as a whole: what exists, what it costs to ask, how it refuses."""

from __future__ import annotations

import inspect
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from ltk.cli import app, main
from ltk.cli.completions import completion_script
from ltk.cli.train import train
from ltk.errors import LtkError

ROOT = Path(__file__).parents[2]
TRAIN_OPTIONS = {
    "method", "dataset", "root", "train_list", "val_list", "test_list", "csv", "imb", "imb_type", "subset", "val",
    "groups", "backbone", "epochs", "batch_size", "lr", "lr_rule", "seed", "device", "devices", "precision", "engine",
    "profile", "out", "resume", "settings", "dry_run", "runs", "quiet", "as_json",
}  # fmt: skip
COMPLETIONS_FROM = "0.29.2"
runner = CliRunner()


def run(*arguments: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own."""
    command = [sys.executable, "-m", "ltk", *arguments]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=env, timeout=120)


def test_the_set_of_train_options_is_frozen() -> None:
    """Few flags: all else is --set. Change this list knowingly."""
    assert set(inspect.signature(train).parameters) == TRAIN_OPTIONS


def test_help_imports_no_torch() -> None:
    code = (
        "import sys; sys.argv = ['ltk', '--help']\n"
        "import ltk.cli\n"
        "try: ltk.cli.main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'timm', 'torchvision', 'matplotlib', 'sklearn', 'scipy'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "Usage" in done.stdout


def commands() -> list[list[str]]:
    """Return every command and sub-command."""
    found = []
    for info in app.registered_commands:
        assert info.callback is not None
        found.append([info.name or info.callback.__name__])
    for group in app.registered_groups:
        for info in group.typer_instance.registered_commands if group.typer_instance else []:
            assert info.callback is not None
            found.append([str(group.name), info.name or info.callback.__name__])
    return found


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_every_command_has_help_with_an_example(command: list[str]) -> None:
    result = runner.invoke(app, [*command, "--help"], env={"COLUMNS": "160"})
    assert result.exit_code == 0
    assert f"ltk {' '.join(command)}" in result.output.split("Usage")[1].split("\n", 1)[1], "no example"


def test_version_names_what_matters() -> None:
    output = runner.invoke(app, ["--version"]).output
    for name in ("ltk", "python", "torch", "torchvision", "timm", "device"):
        assert f"{name} " in output


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (["train", "glcm"], 2, "glmc"),
        (["train"], 2, "--resume"),
        (["train", "ce", "--dataset", "cifar-10"], 2, "cifar10"),
        (["train", "ce", "--set", "optim.momentun=0.9"], 2, "momentum"),
        (["train", "ce", "--set", "lr"], 2, "section.key=value"),
        (["train", "glmc", "--set", "method.contrast_wieght=1"], 2, "contrast_weight"),
        (["train", "glmc", "--set", "method.gama=0.5"], 2, "ltk config METHOD"),
        (["train", "ce", "--imb", "0"], 2, "imbalance"),
        (["train", "ce", "--imb", "-1"], 2, "imbalance"),
        (["train", "ce", "--imb", "nan"], 2, "imbalance"),
        (["train", "ce", "--imb", "0.01"], 2, "100"),
        (["train", "ce", "--imb", "1000000"], 2, "without images"),
        (["train", "ce", "--lr", "inf"], 2, "optim.lr"),
        (["train", "ce", "--epochs", "0"], 2, "optim.epochs"),
        (["train", "ce", "--batch-size", "100000"], 2, "larger than"),
        (["train", "ce", "--model", "resnet51"], 2, "resnet50"),
        (["train", "ce", "--imb-type", "expo"], 2, "exp"),
        (["train", "ce", "--groups", "10,90"], 2, "10,90"),
        (["train", "ce", "--device", "cuda:99"], 6, "cuda:99"),
        (["train", "ce", "--dataset", "folder", "--root", "absent"], 3, "absent"),
        (["train", "--resume", "absent"], 3, "absent"),
        (["train", "absent.toml"], 2, "absent.toml"),
        (["eval", "absent"], 3, "absent"),
        (["eval"], 3, "no run"),
        (["eval", "--adjust", "logit-adjustment"], 2, "--adjust: Input should be 'none', 'la'"),
        (["eval", "--adjust", "logit-adjustment"], 2, "See: ltk eval --help"),
        (["completions", "bsh"], 2, "unknown shell 'bsh' Did you mean 'bash'"),
    ],
)
def test_user_mistakes(arguments: list[str], code: int, expected: str, tmp_path: Path) -> None:
    """One clear line, a hint, the exit code, no traceback, nothing half-written."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        result = runner.invoke(app, arguments)
    assert isinstance(result.exception, LtkError), result.output
    assert result.exception.exit_code == code
    assert expected in f"{result.exception.message} {result.exception.hint}"
    assert list(tmp_path.iterdir()) == []


def test_errors_are_printed_with_their_exit_code(tmp_path: Path) -> None:
    done = run("train", "glcm", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "Error: unknown method or preset 'glcm'" in done.stderr
    assert "Did you mean 'glmc'" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("torch") == 0


def test_a_second_stage_is_not_trained_from_scratch() -> None:
    done = run("train", "lws", "--dataset", "digits")
    assert done.returncode == 2
    assert "lws is a second stage" in done.stderr
    assert "ltk finetune-classifier RUN --method lws" in done.stderr


def test_a_bug_is_one_line_and_a_file(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def broken() -> None:
        raise ZeroDivisionError("x")

    monkeypatch.setattr("ltk.cli.app", broken)
    monkeypatch.delenv("LTK_DEBUG", raising=False)
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 1
    printed = capsys.readouterr().err
    assert "this is a bug in ltk (ZeroDivisionError: x)" in printed
    log = Path(printed.split("report it with ")[1].strip())
    assert "ZeroDivisionError" in log.read_text()
    log.unlink()


@pytest.mark.skipif(typer.__version__ != COMPLETIONS_FROM, reason="the scripts are typer's, of one version")
@pytest.mark.parametrize(("shell", "file"), [("bash", "ltk.bash"), ("zsh", "_ltk"), ("fish", "ltk.fish")])
def test_completion_scripts_are_current(shell: str, file: str) -> None:
    assert (ROOT / "completions" / file).read_text() == completion_script(shell), "run: make completions"


BASH = f"""
source {ROOT / "completions" / "ltk.bash"}
COMP_WORDS=(ltk train gl); COMP_CWORD=2; COMP_LINE="ltk train gl"; COMP_POINT=12
_ltk_completion ltk
echo "${{COMPREPLY[@]}}"
"""


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_bash_completes() -> None:
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(["bash", "--norc", "-c", BASH], capture_output=True, text=True, env=env, timeout=60)
    assert done.stderr == ""
    assert done.stdout.split()[0] == "glmc"
    assert all(word.startswith("gl") for word in done.stdout.split())


@pytest.mark.parametrize(
    ("shell", "words"),
    [
        ("bash", {"COMP_WORDS": "ltk train --imb-", "COMP_CWORD": "2"}),
        ("zsh", {"_TYPER_COMPLETE_ARGS": "ltk train --imb-"}),
        ("fish", {"_TYPER_COMPLETE_ARGS": "ltk train --imb-", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}),
    ],
)
def test_completions_are_answered(shell: str, words: dict[str, str]) -> None:
    env = {**os.environ, **words, "_LTK_COMPLETE": f"complete_{shell}"}
    done = subprocess.run([Path(sys.executable).with_name("ltk")], capture_output=True, text=True, env=env, timeout=60)
    assert "--imb-type" in done.stdout
    assert "Usage" not in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("train --engine ", ["auto", "eager", "compile", "graph"]),
        ("train --precision b", ["bf16"]),
        ("train --lr-rule l", ["linear"]),
        ("train --imb-type s", ["step"]),
        ("train --subset g", ["glmc", "glmc-replacement"]),
        ("eval --adjust p", ["pn", "pn-inductive"]),
        ("completions z", ["zsh"]),
    ],
)
def test_values_are_completed(words: str, expected: list[str]) -> None:
    line = {"COMP_WORDS": f"ltk {words}", "COMP_CWORD": str(len(words.split(" "))), "_LTK_COMPLETE": "complete_bash"}
    env = {**os.environ, **line}
    done = subprocess.run([Path(sys.executable).with_name("ltk")], capture_output=True, text=True, env=env, timeout=60)
    assert done.stdout.split() == expected


def test_the_app_is_a_typer_app() -> None:
    assert isinstance(app, typer.Typer)
