"""What never changes the weights: where images wait, who reads them, how often a run is judged and saved."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ltk.config import RunConfig
from ltk.data import banks
from ltk.engine.fit import fit, resume
from ltk.errors import StoppedError
from ltk.resolve import resolve_config
from tests.test_resume import Interrupter

EPOCHS = 3


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    chance = random.Random(0)
    for part, count in (("train", 20), ("test", 5)):
        for name in ("ash", "beech"):
            place = folder / part / name
            place.mkdir(parents=True)
            for i in range(count):
                Image.frombytes("RGB", (12, 12), chance.randbytes(12 * 12 * 3)).save(place / f"{i}.png")
    return folder


def create_config(images: Path, **run: Any) -> RunConfig:
    options: dict[str, Any] = {"optim.epochs": EPOCHS, "optim.batch_size": 8, "model.width": 4}
    options |= {"run.device": "cpu", "run.precision": "fp32", "run.threads": 1}
    options |= {f"run.{key}": value for key, value in run.items()}
    return resolve_config("glmc", dataset=str(images), options=options).config


@pytest.fixture(scope="module")
def plain(images: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The model of a run from memory."""
    folder = tmp_path_factory.mktemp("plain") / "run"
    fit(create_config(images), out=folder)
    return (folder / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    "run",
    [{"eval_every": 3}, {"eval_batch_size": 3}, {"save_steps": 2}, {"save_every": 3}, {"on_nan": "skip:3"}],
    ids=str,
)
def test_how_a_run_is_watched(images: Path, plain: bytes, tmp_path: Path, run: Mapping[str, Any]) -> None:
    fit(create_config(images, **run), out=tmp_path / "run")
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == plain


@pytest.mark.parametrize("workers", [1, 3])
def test_how_images_are_read(
    images: Path, plain: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    monkeypatch.setattr(banks, "free_memory", lambda device: 0)
    fit(create_config(images, workers=workers), out=tmp_path / "run")
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == plain


def test_a_run_may_be_continued_with_other_workers(
    images: Path, plain: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped within an epoch while three threads read ahead, continued from memory."""
    with monkeypatch.context() as patch:
        patch.setattr(banks, "free_memory", lambda device: 0)
        with pytest.raises(StoppedError):
            fit(create_config(images, workers=3), out=tmp_path / "run", reporter=Interrupter(1, 2))
    resume(tmp_path / "run")
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == plain
