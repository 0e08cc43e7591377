"""Every command in README.md and docs/ is run, small, in the order in which it stands; or a comment says why not."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from ltk.cli import app
from tests.convert import legacy_models
from tests.docs.blocks import LANGUAGES, PYTHON, SHELL, Block, expand, make_small, read_blocks, read_commands

ROOT = Path(__file__).parents[2]
MEASURED = {"results.md", "performance.md", "reliability.md"}  # written from measurements, with commands of hours
DOCUMENTS = [ROOT / "README.md", *sorted(p for p in (ROOT / "docs").glob("*.md") if p.name not in MEASURED)]
COUNTS = [40, 30, 24, 18, 14, 10, 8, 7, 6, 5, 4, 3]


def draw_photos(folder: Path, counts: list[int]) -> None:
    """Write a folder per class of small pictures, a colour per class under noise.

    They are not square, and so read with a margin that is cut away: networks see less than the files take.
    """
    generator = np.random.default_rng(0)
    for k, count in enumerate(counts):
        place = folder / f"class{k:02d}"
        place.mkdir(parents=True)
        colour = generator.integers(40, 216, size=3)
        for i in range(count):
            noise = generator.normal(0, 20, size=(32, 40, 3))
            Image.fromarray(np.clip(colour + noise, 0, 255).astype(np.uint8)).save(place / f"img{i:02d}.png")


def write_legacy(folder: Path) -> None:
    """Write checkpoints in the layout of GCL's official code: one of stage 1, and the classifier of stage 2."""
    old = legacy_models.gcl(legacy_models.resnet(), 10)
    torch.save(old.tree, folder / "old_gcl.pth")
    torch.save(old.tree, folder / "stage1.pth")
    weight = {"module.linear.weight": torch.randn(512, 10, generator=torch.Generator().manual_seed(0))}
    torch.save({"epoch": 1, "state_dict": weight}, folder / "stage2.pth")


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the documents take for granted: pictures, old checkpoints, the method of the guide."""
    folder = tmp_path_factory.mktemp("material")
    draw_photos(folder / "photos", COUNTS)
    new = folder / "new"
    new.mkdir()
    for i, path in enumerate(sorted((folder / "photos").rglob("*.png"))[:40:10]):
        shutil.copy(path, new / f"{i}.png")
    write_legacy(folder)
    shutil.copy(ROOT / "docs" / "examples" / "vs_loss.py", folder)
    return folder


@pytest.fixture
def desk(material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh working folder with the material, and nothing of this machine's home or data."""
    place = tmp_path / "desk"
    shutil.copytree(material, place)
    monkeypatch.chdir(place)
    monkeypatch.syspath_prepend(str(place))
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("LTK_RUNS", "LTK_DATA", "LTK_TRUST"):
        monkeypatch.delenv(name, raising=False)
    return place


def run_shell(block: Block, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for command in read_commands(block):
        with monkeypatch.context() as alone:
            target = alone if command.words else monkeypatch
            for name, value in command.environment.items():
                target.setenv(name, value)
            if not command.words:
                continue
            assert command.words[0] == "ltk", (
                f"line {block.line}: {command.words[0]} cannot be run here: mark the block"
            )
            words = make_small(expand(command.words, folder))
            alone.setattr(sys, "argv", words)  # which --devices gives to its processes
            result = CliRunner().invoke(app, words[1:])
            shown = f"line {block.line}: {' '.join(words)}\n{result.output}\n{result.exception!r}"
            assert result.exit_code == 0, shown
            if command.output:
                (folder / command.output).write_text(result.stdout, encoding="utf-8")
                assert result.stdout.strip()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_block_runs(document: Path, desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names: dict[str, Any] = {}
    for block in read_blocks(document.read_text(encoding="utf-8")):
        if block.reason:
            continue
        if block.language == SHELL:
            run_shell(block, desk, monkeypatch)
        elif block.language == PYTHON:
            source = "\n" * block.line + "\n".join(block.lines)  # so that a traceback names the line of the document
            exec(compile(source, str(document), "exec"), names)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_the_document_is_sound(document: Path) -> None:
    """Blocks are fenced and named, links lead somewhere, and nothing of a particular machine is in it."""
    text = document.read_text(encoding="utf-8")
    for block in read_blocks(text):
        assert block.language in LANGUAGES, f"{document.name}:{block.line}: which language?"
    assert not re.search(r"^    (ltk|make|pip) ", text, re.M), "an indented command is not run: fence it"
    for target in find_links(text):
        assert (document.parent / target).exists() or Path(target).name in MEASURED, f"{document.name}: {target}"
    assert not re.search(r"/(work|home|tmp|root)/", text)


def find_links(text: str) -> Iterator[str]:
    """Yield relative link targets, pictures included."""
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        if "://" not in target:
            yield target


def test_pictures_are_small() -> None:
    pictures = sorted((ROOT / "docs" / "images").iterdir())
    assert [path.name for path in pictures] == ["demo.svg", "report.png"]
    assert all(path.stat().st_size < 300_000 for path in pictures)


def test_a_broken_command_would_be_found(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = read_blocks("```sh\nltk train ce --dataset photos/ --epoch 3\n```")
    with pytest.raises(AssertionError, match="line 1: ltk train ce"):
        run_shell(block, desk, monkeypatch)
    (foreign,) = read_blocks("```sh\nrm photos\n```")
    with pytest.raises(AssertionError, match="rm cannot be run here"):
        run_shell(foreign, desk, monkeypatch)


def test_markers_need_a_reason() -> None:
    marked, bare = read_blocks("<!-- not run: needs a GPU -->\n```sh\nx\n```\n<!-- not run: -->\n```sh\ny\n```")
    assert marked.reason == "needs a GPU"
    assert bare.reason == ""
