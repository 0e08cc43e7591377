"""A run without a card is judged by its own rules and labelled; logits belong to the weights they were made from."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from ltk.cli import app
from ltk.engine.amend import amend_config
from ltk.engine.fit import fit, resume
from ltk.evaluation.choose import create_request
from ltk.evaluation.evaluate import ensure_logits
from ltk.evaluation.logits import load_current_logits, read_checksum
from ltk.evaluation.pipeline import Judge
from ltk.evaluation.report import create_report
from ltk.evaluation.runs import read_run
from ltk.resolve import resolve_config
from ltk.run_files import read_run_config

FINISH = ("card.json", "model.safetensors", "logits")


def train(method: str, out: Path, epochs: int = 2, **options: object) -> Path:
    fixed = {"optim.epochs": epochs, "run.device": "cpu", "run.precision": "fp32", "run.threads": 1, "model.width": 4}
    return fit(resolve_config(method, dataset="digits", options={**fixed, **options}).config, out=out).folder


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of balanced softmax with all that the first of two epochs leaves."""
    folder = train("balanced-softmax", tmp_path_factory.mktemp("runs") / "digits" / "st-001")
    for name in FINISH:
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    first, _ = (folder / "metrics.jsonl").read_text().splitlines()
    (folder / "metrics.jsonl").write_text(first + "\n")
    return folder


def test_an_unfinished_run_corrects_no_prior_twice(stopped: Path) -> None:
    result = Judge().evaluate(stopped, create_request(prior="uniform"))
    np.testing.assert_allclose(result.adjustment.offset_K, result.adjustment.offset_K[0])
    assert result.run.rules["prior"] == "training counts"


def test_an_unfinished_run_is_labelled(stopped: Path, tmp_path: Path) -> None:
    ce = train("ce", tmp_path / "digits" / "ce-001", 1)
    assert Judge().evaluate(ce).marks == ()
    text = CliRunner().invoke(app, ["eval", str(stopped)], env={"COLUMNS": "200"}).stdout
    assert "test images · unfinished, epoch 1 of 2" in text
    assert "note: the run is unfinished: epoch 1 of 2" in text
    for style in ("csv", "markdown"):
        assert "top-1 (unfinished)" in CliRunner().invoke(app, ["eval", str(stopped), "--format", style]).stdout
    found = json.loads(CliRunner().invoke(app, ["eval", str(stopped), "--json"]).stdout)
    assert (found["unfinished"], found["card"]["method"]) == ("epoch 1 of 2", "balanced-softmax")
    both = CliRunner().invoke(app, ["eval", str(ce), str(stopped)], env={"COLUMNS": "200"}).stdout
    assert "balanced-softmax (unfinished)" in both
    assert "None" not in both
    assert "note: unfinished, epoch 1 of 2: digits/st-001" in both
    assert "unfinished: epoch 1 of 2" in create_report([Judge().evaluate(stopped)]).html()


def copy_without_logits(run: Path, target: Path) -> Path:
    return Path(shutil.copytree(run, target, ignore=shutil.ignore_patterns("logits")))


def test_logits_of_other_weights_are_made_again(stopped: Path, tmp_path: Path) -> None:
    folder = copy_without_logits(stopped, tmp_path / "run")
    weights, other = folder / "checkpoints" / "last.safetensors", folder / "checkpoints" / "previous.safetensors"
    saved = ensure_logits(folder)
    assert saved.weights_sha256 == read_checksum(weights)
    old = weights.stat().st_mtime - 100
    os.utime(weights, (old + 1000,) * 2)
    assert load_current_logits(folder, "test") is not None  # of these weights, whatever the clock says
    shutil.copyfile(other, weights)
    os.utime(weights, (old,) * 2)
    assert load_current_logits(folder, "test") is None  # of others, though they look younger
    again = ensure_logits(folder)
    assert again.weights_sha256 == read_checksum(other) != saved.weights_sha256
    assert not np.array_equal(again.logits_NK, saved.logits_NK)


def test_logits_made_while_the_weights_change_are_not_current(
    stopped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ltk.evaluation import evaluate

    folder = copy_without_logits(stopped, tmp_path / "run")
    weights, other = folder / "checkpoints" / "last.safetensors", folder / "checkpoints" / "previous.safetensors"
    compute = evaluate.compute_logits

    def compute_meanwhile(*arguments: object, **options: object) -> object:
        shutil.copyfile(other, weights)  # the next save of a run that still trains
        return compute(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(evaluate, "compute_logits", compute_meanwhile)
    ensure_logits(folder)
    assert load_current_logits(folder, "test") is None


def test_the_card_holds_the_optimiser(tmp_path: Path) -> None:
    first = train("ce", tmp_path / "digits" / "a", 1)
    second = train(
        "ce",
        tmp_path / "digits" / "b",
        1,
        **{"optim.lr": 0.001, "optim.weight_decay": 0.01, "optim.optimizer": "adamw"},
    )
    found = json.loads(CliRunner().invoke(app, ["eval", str(first), str(second), "--json"]).stdout)
    assert [recipe["seeds"] for recipe in found["recipes"]] == [1, 1]
    assert {"optimizer", "lr", "weight_decay"} <= set(found["differences"])
    assert found["differences"]["lr"]["digits/b"] == "0.001"
    assert found["verdicts"]
    copy = shutil.copytree(first, tmp_path / "digits" / "copy")
    found = json.loads(CliRunner().invoke(app, ["eval", str(first), str(copy), "--json"]).stdout)
    (recipe,) = found["recipes"]
    assert (recipe["seeds"], recipe["repeated"]) == (1, ["digits/copy"])
    assert "the same seed again, not counted: digits/copy (ce)" in found["notes"]


def test_a_finished_run_that_gets_more_epochs_is_unfinished_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = train("ce", tmp_path / "digits" / "ce-001", 1)
    assert read_run(run).unfinished == ""
    longer = amend_config(read_run_config(run), [("optim.epochs", 3)])
    monkeypatch.setattr("ltk.engine.fit._finish", lambda trainer, origin: None)  # killed before its end
    resume(run, config=longer)
    assert read_run(run).unfinished == "epoch 3 of 3"
    monkeypatch.undo()
    resume(run)
    assert json.loads((run / "card.json").read_text())["epochs"] == 3
