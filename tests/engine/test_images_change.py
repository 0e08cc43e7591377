"""Images that are added to the folder of a run while it trains: what it learnt of the others stays of use."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ltk.cli import app
from ltk.engine.fit import fit
from ltk.engine.reporter import SilentReporter
from ltk.errors import DataError
from ltk.evaluation.evaluate import ensure_logits
from ltk.resolve import resolve_config
from tests.cli.test_eval_moved import SMALL, write_images


class Adding(SilentReporter):
    """Adds an image when an epoch is over."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def epoch(self, record: Mapping[str, Any], times: Mapping[str, Any]) -> None:
        (self._folder / "new.png").write_bytes((self._folder / "0.png").read_bytes())


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    images = write_images(tmp_path / "photos", ("ant", "bee"))
    config = resolve_config("ce", dataset=str(images), options=SMALL).config
    return fit(config, out=tmp_path / "run", reporter=Adding(images / "ant")).folder


def invoke(*arguments: object) -> str:
    result = CliRunner().invoke(app, [*map(str, arguments)])
    if result.exception:
        raise result.exception
    return " ".join(result.output.split())


def test_the_run_is_finished_with_the_images_it_began_with(run: Path) -> None:
    card = json.loads((run / "card.json").read_text())
    saved = ensure_logits(run)
    assert card["epochs"] == 1
    assert sum(saved.class_counts) == card["train_images"]
    assert len(saved.target_N) + card["train_images"] == 16


def test_it_judges_other_images_and_is_exported(run: Path) -> None:
    assert "new.png" in invoke("predict", run, run.parent / "photos" / "ant" / "new.png")
    assert "checked on 64 random images" in invoke("export", run, "--format", "pt2")


def test_what_needs_the_images_says_how_to_go_on(run: Path) -> None:
    with pytest.raises(DataError, match="are not those of the manifest") as fault:
        ensure_logits(run, "train")
    assert "The network is whole" in fault.value.hint
    command = shlex.split(fault.value.hint[fault.value.hint.index("ltk eval") :])
    assert str(run / "model.safetensors") in command
    assert "top1" in invoke(*command[1:], "--json")
