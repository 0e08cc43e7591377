"""``ltk finetune-classifier`` as it is used: defaults, files, before and after, mistakes, continuation."""

from __future__ import annotations

import inspect
import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from ltk.cli import app
from ltk.cli._options import complete_recipe
from ltk.cli.finetune_classifier import finetune_classifier
from ltk.engine.fit import fit
from ltk.engine.stage_two import StageTwoRequest, resolve_stage_two
from ltk.errors import LtkError, StoppedError
from ltk.resolve import resolve_config
from tests.test_resume import Interrupter, assert_same_end

OPTIONS = {
    "parent", "recipe", "rule", "tau", "checkpoint", "cache", "epochs", "batch_size", "lr", "dataset", "root", "imb",
    "seed", "device", "devices", "out", "resume", "settings", "runs", "quiet", "as_json",
}  # fmt: skip
CHEAP = {"run.device": "cpu", "run.precision": "fp32", "run.threads": 1}
runner = CliRunner()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    for method in ("ce", "glmc"):
        config = resolve_config(method, dataset="digits", options={**CHEAP, "optim.epochs": 2}).config
        fit(config, out=folder / "runs" / "digits-imb50" / f"{method}-001")
    return folder


@pytest.fixture
def place(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with two trained runs; glmc is the latest."""
    shutil.copytree(trained / "runs", tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs" / "digits-imb50"


def finetune(*arguments: str) -> Result:
    return runner.invoke(app, ["finetune-classifier", *arguments], catch_exceptions=True)


def test_the_set_of_options_is_frozen() -> None:
    assert set(inspect.signature(finetune_classifier).parameters) == OPTIONS


def test_by_default_the_latest_run_gets_the_second_stage_of_its_method(place: Path) -> None:
    result = finetune("--epochs", "2")
    assert result.exit_code == 0, result.output
    child = place / "glmc-001-maxnorm-001"
    assert (child / "model.safetensors").exists()
    assert "glmc + maxnorm" in result.stdout
    assert "maxnorm on runs/digits-imb50/glmc-001 (glmc, last epoch), preset stage2-maxnorm/digits" in result.stderr
    assert "features are made once" in result.stderr
    assert "optim.epochs = 2 (preset: 10)" in result.stderr
    assert "saved runs/digits-imb50/glmc-001-maxnorm-001" in result.stderr
    again = finetune("--epochs", "2", "--method", "crt", "--rule", "class-aware", "-q")
    assert again.stderr == ""
    assert (place / "glmc-001-crt-001").is_dir()  # of the latest first stage, not of the second stage before
    assert 'rule = "class-aware"' in (place / "glmc-001-crt-001" / "config.toml").read_text()


def test_it_is_evaluated_like_any_run(place: Path) -> None:
    finetune("ce-001", "--method", "crt", "--epochs", "2")
    result = runner.invoke(app, ["eval", "ce-001-crt-001", "ce-001", "--json"])
    comparison = json.loads(result.stdout)
    assert [recipe["name"] for recipe in comparison["recipes"]] == ["ce + crt", "ce"]
    single = json.loads(runner.invoke(app, ["eval", "--json"]).stdout)
    assert single["run"] == "runs/digits-imb50/ce-001-crt-001"
    assert single["card"]["epochs"] == 4


def test_json_names_the_run_and_both_figures(place: Path) -> None:
    result = finetune("ce-001", "--method", "balanced-softmax", "--epochs", "2", "--json", "-q", "--seed", "5")
    shown = json.loads(result.stdout)
    assert shown["run"] == "runs/digits-imb50/ce-001-balanced-softmax-001"
    assert shown["baseline"] == "ce"
    assert [len(recipe["top1"]) for recipe in shown["recipes"]] == [4, 4]
    assert json.loads((place / "ce-001-balanced-softmax-001" / "card.json").read_text())["seed"] == 5


def test_a_model_file_with_its_images(place: Path) -> None:
    file = shutil.copy(place / "ce-001" / "model.safetensors", place.parents[1] / "old.safetensors")
    data = ["--dataset", "digits", "--imb", "50"]
    result = finetune("old.safetensors", *data, "--method", "lws", "--epochs", "2", "--out", "new")
    assert result.exit_code == 0, result.output
    assert "ce + lws" in result.stdout
    card = json.loads(Path("new/card.json").read_text())
    assert card["epochs"] is None  # what the file had before is not known
    assert card["train_images"] == 342
    assert Path(file).exists()


@pytest.mark.parametrize("command", ["train", "finetune-classifier"])
def test_both_commands_continue_it(place: Path, command: str) -> None:
    request = StageTwoRequest(place / "ce-001", "gcl", options={**CHEAP, "optim.epochs": 3})
    config = resolve_stage_two(request).config
    fit(config, out=Path("whole"))
    with pytest.raises(StoppedError) as stopped:
        fit(config, out=Path("parts"), reporter=Interrupter(1, 2))
    assert "ltk train --resume parts" in stopped.value.hint
    assert runner.invoke(app, [command, "--resume", "parts", "-q"]).exit_code == 0
    assert_same_end(Path("whole"), Path("parts"))


def test_tau_is_given_or_said(place: Path) -> None:
    result = finetune("ce-001", "--method", "tau-norm")
    assert "tau = 1: there are no validation images" in result.stderr
    result = finetune("ce-001", "--method", "tau-norm", "--tau", "0.5")
    assert "method.tau = 0.5 (preset: 1.0)" in result.stderr
    assert "tau = 0.5" in (place / "ce-001-tau-norm-002" / "config.toml").read_text()


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (["absent"], 3, "absent"),
        (["ce-001", "--method", "crtt"], 2, "'crt'"),
        (["ce-001", "--rule", "balanced"], 2, "balanced-rs"),
        (["ce-001", "--from", "bset"], 2, "best"),
        (["ce-001", "--dataset", "digits"], 2, "--dataset does not go with a run"),
        (["ce-001", "--imb", "10"], 2, "--imb"),
        (["ce-001", "--epochs", "0"], 2, "optim.epochs"),
        (["ce-001", "--lr", "nan"], 2, "optim.lr"),
        (["ce-001", "--tau", "1"], 2, "--method tau-norm"),
        (["ce-001", "--method", "tau-norm", "--lr", "1"], 2, "--lr"),
        (["ce-001", "--method", "tau-norm", "--tau", "-1"], 2, "tau"),
        (["ce-001", "--batch-size", "100000"], 2, "larger than"),
        (["ce-001", "--set", "method.recpie=crt"], 2, "recipe"),
        (["ce-001", "--set", "data.imb=10"], 3, "not the images"),
        (["ce-001", "--out", "runs/digits-imb50/glmc-001"], 5, "holds a run"),
        (["ce-001", "--device", "cuda:99"], 6, "cuda:99"),
        (["ce-001", "--resume", "ce-001"], 2, "RUN does not go with --resume"),
        (["--resume", "absent"], 3, "absent"),
        (["old.safetensors"], 2, "--dataset"),
        (["torn.safetensors", "--dataset", "digits"], 3, "torn.safetensors"),
    ],
)
def test_user_mistakes(place: Path, arguments: list[str], code: int, expected: str) -> None:
    """One clear line, a hint, the exit code; nothing half-written."""
    model = (place / "ce-001" / "model.safetensors").read_bytes()
    Path("old.safetensors").write_bytes(model)
    Path("torn.safetensors").write_bytes(model[: len(model) // 2])
    before = sorted(place.parents[1].rglob("*"))
    result = finetune(*arguments)
    assert isinstance(result.exception, LtkError), result.output
    assert result.exception.exit_code == code
    assert expected in f"{result.exception.message} {result.exception.hint}"
    assert sorted(place.parents[1].rglob("*")) == before


def test_without_any_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = finetune()
    assert isinstance(result.exception, LtkError)
    assert "no run" in result.exception.message


def test_recipes_complete() -> None:
    assert complete_recipe("") == ["balanced-softmax", "crt", "gcl", "lws", "maxnorm", "tau-norm"]
    assert complete_recipe("c") == ["crt"]
