"""Images of the same names are the same images only if they show the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ltk.data.banks import DiskBank, MemoryBank
from ltk.data.base import ArraySplit
from ltk.engine.fit import fit
from ltk.errors import DataError
from ltk.evaluation.compare import compare_entries
from ltk.evaluation.logits import SavedLogits, load_logits, save_logits
from ltk.evaluation.pipeline import Judge
from ltk.evaluation.pixels import ReadSplit, show_other_images
from ltk.resolve import resolve_config

CreateSaved = Callable[..., SavedLogits]
CreateRun = Callable[..., Path]
CPU = torch.device("cpu")
PIXELS = np.random.default_rng(0).integers(0, 256, (50, 3, 8, 8)).astype(np.uint8)


def open_split(pixels: np.ndarray = PIXELS) -> ReadSplit:
    return ReadSplit(ArraySplit(pixels, np.zeros(len(pixels)), "x"))


def describe(pixels: np.ndarray = PIXELS, size: int = 8) -> str:
    split = open_split(pixels)
    MemoryBank(split, size, CPU)
    return split.describe_pixels()


def test_the_checksum_depends_on_pixels_alone() -> None:
    whole = describe()
    assert whole.startswith("8:")
    split = open_split()
    list(DiskBank(split, 8, CPU, workers=3).stream(torch.randperm(50).split(7)))
    assert split.describe_pixels() == whole
    other = PIXELS.copy()
    other[17, 1, 2, 3] ^= 1
    assert show_other_images(describe(other), whole)
    assert show_other_images(describe(PIXELS[::-1]), whole)


def test_what_was_read_otherwise_tells_nothing() -> None:
    assert not show_other_images(describe(), describe(size=4))
    assert not show_other_images(describe(), "")
    assert not show_other_images("", "")


def test_the_checksum_is_saved_beside_the_logits(saved: SavedLogits, tmp_path: Path) -> None:
    for pixels in ("8:0123", ""):
        save_logits(replace(saved, pixels=pixels), tmp_path / "test.safetensors")
        assert load_logits(tmp_path / "test.safetensors").pixels == pixels


@pytest.mark.parametrize("upright", [False, True])
def test_runs_on_other_pixels_are_not_compared(
    create_run: CreateRun, create_saved: CreateSaved, *, upright: bool
) -> None:
    def enter(name: str, pixels: str, **card: object) -> Path:
        return create_run(name, create_saved(pixels=pixels), **card)

    cards = {"image_size": 8, "upright": upright}
    runs = [enter("a", "8:aa", **cards), enter("b", "8:bb", **{**cards, "upright": False}), enter("c", "", **cards)]
    first, other, unknown = (Judge().evaluate(run).entry() for run in runs)
    compare_entries([first, unknown], first.groups)
    if upright:  # the same files, turned otherwise: a difference between the runs, which is listed
        assert [row.key for row in compare_entries([first, other], first.groups).differences] == ["upright"]
        return
    with pytest.raises(DataError, match="a and toy-imb20/b were tested on images of the same names with other pixels"):
        compare_entries([first, other], first.groups)


def test_two_folders_of_the_same_names(tmp_path: Path) -> None:
    generator, runs = np.random.default_rng(0), []
    for i in range(24):
        pixels = generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        for root, shown in (("a", pixels), ("b", 255 - pixels)):
            path = tmp_path / root / "photos" / f"class {i % 3}" / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(shown).save(path)
    options = {"optim.epochs": 1, "run.device": "cpu", "run.precision": "fp32", "run.threads": 1, "model.width": 4}
    for seed, root in enumerate("aab"):
        place = {"data.root": tmp_path / root / "photos", "optim.batch_size": 4, "run.seed": seed}
        config = resolve_config("ce", dataset="folder", options={**options, **place}).config
        runs.append(fit(config, out=tmp_path / "runs" / f"{seed}").folder)
    first, second, other = (Judge().evaluate(run).entry() for run in runs)
    (recipe,) = compare_entries([first, second], first.groups).recipes
    assert len(recipe.entries) == 2
    with pytest.raises(DataError, match="with other pixels"):
        compare_entries([first, other], first.groups)
