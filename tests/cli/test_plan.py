"""``ltk train --dry-run`` warns of what the run would warn of."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from ltk.cli import app

SMALL = ("--model", "cifar_resnet8", "--set", "model.width=4", "--batch-size", "8", "--device", "cpu")


@pytest.mark.parametrize("as_json", [False, True])
def test_notes_on_the_images_are_told(as_json: bool, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for part in ("train", "valid", "test"):
        for i in range(8):
            path = tmp_path / "photos" / part / "ab"[i % 2] / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(generator.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)
    options = ("--dry-run", "--json") if as_json else ("--dry-run",)
    done = CliRunner().invoke(app, ["train", "ce", "--dataset", f"{tmp_path / 'photos'}/", *SMALL, *options])
    assert done.exit_code == 0, done.output
    note = "1 folder beside train/ and left out: valid (did you mean val?)"
    assert f"Warning: {note}" in done.stderr
    if as_json:
        assert json.loads(done.stdout)["warnings"] == [note]


def test_published_counts_are_enough_without_the_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LTK_DATA", str(tmp_path))
    done = CliRunner().invoke(
        app, ["train", "ce", "--dataset", "cifar10", "--imb", "100", *SMALL, "--dry-run", "--json"]
    )
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["warnings"] == []
