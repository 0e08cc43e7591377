"""What a second stage remembers of its first: read and checked before it goes on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ltk.engine.amend import amend_config
from ltk.engine.fit import FitResult, fit, resume
from ltk.engine.stage_two import StageTwoRequest, resolve_stage_two
from ltk.errors import DataError
from ltk.resolve import resolve_config
from ltk.run_files import read_run_config

CHEAP = {"optim.epochs": 1, "run.device": "cpu", "run.precision": "fp32", "run.threads": 1}
DAMAGES: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "nothing": (dict.clear, "path"),
    "no checksum": (lambda origin: origin.pop("sha256"), "sha256"),
    "epochs as text": (lambda origin: origin["card"].update(epochs="2"), "card.epochs"),
    "no card": (lambda origin: origin.update(card=[]), "card"),
    "no first stage": (lambda origin: origin["card"].update(stage_one="ce"), "card.stage_one"),
}


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stages")
    config = resolve_config("ce", dataset="digits", options=CHEAP, overrides=("model.width=4",)).config
    first = fit(config, out=folder / "first").folder
    return fit(resolve_stage_two(StageTwoRequest(first, "crt", options=CHEAP)).config, out=folder / "second").folder


def go_on(run: Path) -> FitResult:
    return resume(run, config=amend_config(read_run_config(run), [("optim.epochs", 2)]))


def test_more_epochs_are_added_to_those_of_all_stages(second: Path, tmp_path: Path) -> None:
    run = shutil.copytree(second, tmp_path / "run")
    go_on(run)
    card = json.loads((run / "card.json").read_text())
    assert (card["method"], card["epochs"], card["images_seen"]) == ("ce + crt", 3, 3 * 342)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_one_is_refused_before_an_epoch_is_trained(second: Path, tmp_path: Path, damage: str) -> None:
    run = shutil.copytree(second, tmp_path / "run")
    change, place = DAMAGES[damage]
    origin = json.loads((run / "parent.json").read_text())
    change(origin)
    (run / "parent.json").write_text(json.dumps(origin))
    with pytest.raises(DataError, match=rf"parent\.json is damaged: {place}"):
        go_on(run)
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 1
    assert (run / "card.json").exists()


def test_a_missing_one_is_refused(second: Path, tmp_path: Path) -> None:
    run = shutil.copytree(second, tmp_path / "run")
    (run / "parent.json").unlink()
    with pytest.raises(DataError, match=r"parent\.json is missing"):
        go_on(run)
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 1
