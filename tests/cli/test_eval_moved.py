"""What ``ltk eval`` does with a run whose images have moved, and with options that are for model files."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from ltk.cli import app
from ltk.engine.fit import fit
from ltk.errors import DataError, LtkError, UsageError
from ltk.resolve import resolve_config

SMALL = {"optim.epochs": 1, "optim.batch_size": 4, "model.width": 4, "run.device": "cpu", "run.threads": 1}


def write_images(root: Path, names: tuple[str, ...]) -> Path:
    generator = np.random.default_rng(0)
    for name in names:
        (root / name).mkdir(parents=True)
        for i in range(8):
            Image.fromarray(generator.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(root / name / f"{i}.png")
    return root


@functools.cache
def train_once() -> Path:
    """A folder with images and a run on them, which remembers where they were."""
    place = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, place)
    images = write_images(place / "photos", ("ant", "bee"))
    fit(resolve_config("ce", dataset=str(images), options=SMALL).config, out=place / "run")
    return images.rename(place / "moved").parent


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(train_once(), tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(app, ["eval", *map(str, arguments)])
    if result.exception and not isinstance(result.exception, SystemExit | LtkError):
        raise result.exception
    return result


def test_moved_images_are_given_by_their_root(place: Path) -> None:
    fault = run("run", "--on", "train").exception
    assert isinstance(fault, DataError)
    assert "photos" in fault.message
    assert "ltk eval run --root DIR" in fault.hint
    assert run("run", "--on", "train", "--root", "moved").exit_code == 0
    assert run("run", "--on", "train").exit_code == 0  # the logits are saved


def test_other_images_are_refused(place: Path) -> None:
    write_images(place / "others", ("ant", "cow"))
    fault = run("run", "--on", "train", "--root", "others").exception
    assert isinstance(fault, DataError)
    assert "not those of the manifest" in fault.message


@pytest.mark.parametrize("option", [("--dataset", "digits"), ("--imb", "10")])
def test_options_for_model_files_are_refused_with_a_run(place: Path, option: tuple[str, str]) -> None:
    fault = run("run", *option).exception
    assert isinstance(fault, UsageError)
    assert f"{option[0]} is for model files" in fault.message


def test_a_model_file_beside_a_run_takes_them(place: Path) -> None:
    result = run("run/model.safetensors", "run", "--dataset", "moved", "--runs", "judged")
    assert result.exit_code == 0, result.exception


@pytest.fixture
def tabled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder with images, a table of them beside, and a run that was given relative paths."""
    project = tmp_path / "project"
    write_images(project / "images", ("ant", "bee"))
    rows = [f"{name}/{i}.png,{name}" for name in ("ant", "bee") for i in range(8)]
    (project / "t.csv").write_text("\n".join(["path,label", *rows]) + "\n")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(project)
    options = SMALL | {"data.source.csv": "t.csv"}
    fit(resolve_config("ce", dataset="csv", root=Path("images"), options=options).config, out=Path("run"))
    return project


def resume(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["train", "--quiet", "--resume", *map(str, arguments)])


def test_a_run_from_a_table_is_used_from_any_folder(tabled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tabled.parent / "elsewhere")
    assert run(tabled / "run", "--on", "train").exit_code == 0
    assert resume(tabled / "run", "--epochs", 2).exit_code == 0
    stage_two = ["finetune-classifier", str(tabled / "run"), "--method", "crt", "--epochs", "1", "--batch-size", "4"]
    assert CliRunner().invoke(app, stage_two).exit_code == 0


def test_a_run_that_remembers_a_relative_path_is_used_where_it_was_made(tabled: Path) -> None:
    written = (tabled / "run" / "config.toml").read_text()
    assert f'csv = "{tabled}/t.csv"' in written
    (tabled / "run" / "config.toml").write_text(written.replace(f"{tabled}/t.csv", "t.csv"))
    assert run("run", "--on", "train").exit_code == 0
    assert resume("run", "--epochs", 2, "--csv", "t.csv").exit_code == 0


def test_a_table_moves_with_its_images(tabled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moved = tabled.rename(tabled.with_name("moved"))
    monkeypatch.chdir(moved)
    assert run("run", "--on", "train", "--root", "images").exit_code == 0
    assert resume("run", "--epochs", 2, "--root", "images").exit_code == 0
    (moved / "t.csv").rename(moved.parent / "other.csv")
    assert resume("run", "--epochs", 3, "--csv", moved.parent / "other.csv").exit_code == 0
    (moved.parent / "other.csv").write_text("path,label\nant/0.png,ant\nbee/0.png,bee\n")
    fault = resume("run", "--epochs", 4).exception
    assert isinstance(fault, DataError)
