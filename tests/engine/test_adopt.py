"""A model file is judged like the run it came from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from ltk.checkpoint import read_tensors, write_tensors
from ltk.cli import app
from ltk.engine.adopt import adopt_model
from ltk.engine.fit import fit, resume
from ltk.errors import DataError, UsageError
from ltk.evaluation.deploy import create_deployment
from ltk.evaluation.evaluate import ensure_logits
from ltk.evaluation.pipeline import Judge
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


def test_a_file_keeps_the_counts_it_was_trained_with(run: Path, tmp_path: Path) -> None:
    """They make the groups, whatever the data set holds for training; an imbalance that contradicts them is refused."""
    path = adopt_model(run / "model.safetensors", tmp_path, dataset="digits", root=None, imb=None)
    assert ensure_logits(path).class_counts == ensure_logits(run).class_counts
    assert json.loads((path / "card.json").read_text())["train_images"] == sum(ensure_logits(run).class_counts)
    with pytest.raises(DataError, match="124 to 2 images a class, digits at imbalance 10 has 124 to 12"):
        adopt_model(run / "model.safetensors", tmp_path, dataset="digits", root=None, imb=10)


def train_on_trees(path: Path) -> tuple[Path, Path]:
    """Return a folder of images of two classes with names, and a model file that learnt from it."""
    folder, file = path / "images", path / "run" / "model.safetensors"
    for part in ("train", "test"):
        for name in ("ash", "beech"):
            (folder / part / name).mkdir(parents=True)
            for i in range(4):
                Image.new("RGB", (8, 8), (i, i, i)).save(folder / part / name / f"{i}.png")
    options = {"optim.epochs": 1, "optim.batch_size": 4, "run.device": "cpu", "model.width": 2}
    fit(resolve_config("ce", dataset=str(folder), options=options).config, out=file.parent)
    return folder, file


def test_names_that_are_not_mere_numbers_must_agree(tmp_path: Path) -> None:
    folder, file = train_on_trees(tmp_path)
    assert adopt_model(file, tmp_path, dataset=str(folder), root=None, imb=None)
    renamed = folder.rename(tmp_path / "others")
    for part in ("train", "test"):
        (renamed / part / "ash").rename(renamed / part / "cedar")
    with pytest.raises(DataError, match=r"class 0 of model\.safetensors is 'ash', that of others is 'beech'"):
        adopt_model(file, tmp_path, dataset=str(renamed), root=None, imb=None)
    for part in ("train", "test"):
        for old, new in (("beech", "0"), ("cedar", "1")):
            (renamed / part / old).rename(renamed / part / new)
    assert adopt_model(file, tmp_path, dataset=str(renamed), root=None, imb=None)


def test_a_file_judged_on_images_with_names_is_deployed(tmp_path: Path) -> None:
    """A converted file calls its classes by number."""
    folder, file = train_on_trees(tmp_path)
    tensors, metadata = read_tensors(file)
    write_tensors(file, tensors, metadata | {"class_names": '["0", "1"]', "class_counts": "null"})
    path = adopt_model(file, tmp_path, dataset=str(folder), root=None, imb=None)
    assert create_deployment(Judge().evaluate(path)).class_names == ("ash", "beech")


def test_a_model_file_made_a_run_is_not_trained(run: Path, tmp_path: Path) -> None:
    path = adopt_model(run / "model.safetensors", tmp_path, dataset="digits", root=None, imb=None)
    before = {each: each.read_bytes() for each in path.rglob("*") if each.is_file() and each.name != "run.lock"}
    with pytest.raises(DataError, match="holds a model file that is judged there"):
        resume(path)
    assert all(each.read_bytes() == data for each, data in before.items())
