"""What ``ltk predict`` and ``ltk export`` take for what, before anything is computed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ltk.cli import app
from ltk.errors import DataError, LtkError, UsageError
from ltk.evaluation.predict import find_images


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of runs whose one run has no more than a name, and an empty folder of images."""
    run = tmp_path / "runs" / "toy" / "ce-001"
    (run / "checkpoints").mkdir(parents=True)
    (run / "checkpoints" / "last.safetensors").touch()
    (run / "config.toml").write_text('preset = ""\n')
    (tmp_path / "new").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def fault_of(*arguments: str) -> LtkError:
    fault = CliRunner().invoke(app, arguments).exception
    assert isinstance(fault, LtkError)
    return fault


@pytest.mark.parametrize("name", ["m.onnx", "m.pt2", "m.PT", "m.pth", "m.safetensors"])
@pytest.mark.parametrize("first", [True, False])
def test_an_exported_file_is_no_image(name: str, first: bool) -> None:
    Path(name).touch()
    fault = fault_of("predict", *([name, "new"] if first else ["runs/toy/ce-001", name]))
    assert isinstance(fault, UsageError)
    assert fault.message == f"{name}: predict takes a run, not an exported file"


@pytest.mark.parametrize("name", ["runs/toy/ce-001", "ce-001"])
def test_a_run_needs_images(name: str) -> None:
    fault = fault_of("predict", name)
    assert isinstance(fault, UsageError)
    assert fault.hint == "Give image files or folders after the run."


def test_what_is_not_there_is_neither_run_nor_image() -> None:
    fault = fault_of("predict", "runs/nope", "new")
    assert isinstance(fault, DataError)
    assert "no run 'runs/nope'" in fault.message
    assert "no image or folder of images" in fault.message


def test_hidden_files_are_left_out_as_in_training(place: Path) -> None:
    for name in ("new/a.png", "new/.hidden.png", "new/._a.jpg", "new/.cache/b.png", "new/sub/c.png"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).touch()
    assert find_images([Path("new")]) == [Path("new/a.png"), Path("new/sub/c.png")]
    (Path(".dot") / "in").mkdir(parents=True)
    Path(".dot/in/d.png").touch()
    assert find_images([Path(".dot"), Path("new/.hidden.png")]) == [Path(".dot/in/d.png"), Path("new/.hidden.png")]


def test_files_of_other_kinds_are_counted() -> None:
    for name in ("new/a.png", "new/b.HEIC", "new/sub/c.heic", "new/notes.txt"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).touch()
    others: Counter[str] = Counter()
    assert find_images([Path("new")], others) == [Path("new/a.png")]
    assert others == {".heic": 2}
    done = CliRunner().invoke(app, ["predict", "ce-001", "new"])
    assert "Warning: 2 files of kinds that ltk does not read, left out: 2 .heic" in done.stderr
    Path("new/a.png").unlink()
    with pytest.raises(DataError, match="no images in new") as caught:
        find_images([Path("new")])
    assert "2 .heic" in caught.value.hint


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--out", "x.pt"), "End its name in .onnx or .pt2"),
        (("--out", "x"), "End its name in .onnx or .pt2"),
        (("--format", "pt2", "--out", "y.onnx"), "End its name in .pt2"),
        (("--format", "onnx", "--out", "y.pt2"), "End its name in .onnx"),
        (("--format", "tflite"), "Known: onnx, pt2."),
    ],
)
def test_the_name_of_a_file_says_its_format(arguments: tuple[str, ...], expected: str, place: Path) -> None:
    before = sorted(place.rglob("*"))
    fault = fault_of("export", "ce-001", *arguments)
    assert isinstance(fault, UsageError)
    assert fault.hint == expected
    assert sorted(place.rglob("*")) == before


def test_links_are_followed_as_in_training(place: Path) -> None:
    for name in ("new/a/1.png", "real/2.png", "outside/3.png"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).touch()
    Path("new/ash").symlink_to("../real")
    Path("new/a/more").symlink_to(place / "outside")
    Path("new/gone.png").symlink_to("nowhere")
    expected = ["new/a/1.png", "new/a/more/3.png", "new/ash/2.png", "new/gone.png"]
    assert find_images([Path("new")]) == [Path(name) for name in expected]
    assert find_images([place / "new"]) == [place / name for name in expected]


def test_links_that_lead_around_are_an_error() -> None:
    for name in ("new/a", "b"):
        Path(name).mkdir()
    Path("new/a/over").symlink_to("../../b")
    Path("b/back").symlink_to("../new/a")
    with pytest.raises(DataError, match="new/a/over/back is a link to a folder it lies in"):
        find_images([Path("new")])


def test_an_export_needs_a_name_that_libraries_can_open() -> None:
    fault = fault_of("export", "ce-001", "--out", "\udcff.pt2")
    assert isinstance(fault, UsageError)
    assert fault.message == r"--out \xff.pt2 is not UTF-8"
