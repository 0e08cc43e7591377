"""A model file is judged like the run it came from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from ltk.cli import app
from ltk.engine.adopt import adopt_model
from ltk.engine.fit import fit
from ltk.errors import DataError, UsageError
from ltk.evaluation.evaluate import ensure_logits
from ltk.resolve import resolve_config


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    options = {"optim.epochs": 2, "run.device": "cpu", "run.threads": 1}
    folder = tmp_path_factory.mktemp("adopt") / "run"
    fit(resolve_config("glmc", dataset="digits", options=options).config, out=folder)
    return folder


def test_the_file_gives_the_logits_of_its_run(run: Path, tmp_path: Path) -> None:
    path = adopt_model(run / "model.safetensors", tmp_path, dataset="digits", root=None, imb=50)
    mine, theirs = ensure_logits(path), ensure_logits(run)
    assert (mine.logits_NK == theirs.logits_NK).all()
    assert mine.class_counts == theirs.class_counts
    assert mine.fingerprint == theirs.fingerprint
    assert adopt_model(run / "model.safetensors", tmp_path, dataset="digits", root=None, imb=50) == path


def test_command_line(run: Path, tmp_path: Path) -> None:
    command = ["eval", str(run / "model.safetensors"), "--dataset", "digits", "--imb", "50", "--json"]
    result = CliRunner().invoke(app, [*command, "--runs", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["splits"]["few"]["classes"] == 4


def test_mistakes(run: Path, tmp_path: Path) -> None:
    file = run / "model.safetensors"
    with pytest.raises(UsageError, match="which images"):
        adopt_model(file, tmp_path, dataset=None, root=None, imb=None)
    with pytest.raises(UsageError, match="digit"):
        adopt_model(file, tmp_path, dataset="digit", root=None, imb=None)
    for split in ("train", "test"):
        for digit in range(10):
            folder = tmp_path / "colour" / split / str(digit)
            folder.mkdir(parents=True)
            for i in range(3):
                Image.new("RGB", (8, 8), (digit, i, 9)).save(folder / f"{i}.png")
    with pytest.raises(DataError, match="channels"):
        adopt_model(file, tmp_path, dataset=str(tmp_path / "colour"), root=None, imb=None)
    (tmp_path / "broken.safetensors").write_bytes(file.read_bytes()[:-5])
    with pytest.raises(DataError, match="broken"):
        adopt_model(tmp_path / "broken.safetensors", tmp_path, dataset="digits", root=None, imb=None)
