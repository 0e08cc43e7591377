"""How fast training is said to be, and how long it is said to take."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ltk.cli import _progress
from ltk.engine.build import build, plan_data
from ltk.resolve import resolve_config

OPTIONS = {"optim.epochs": 3, "run.device": "cpu", "run.precision": "fp32", "run.threads": 1, "model.width": 4}


class Bar:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.text = ""

    def update(self, task: object, *, description: str, **fields: object) -> None:
        self.text = description


def test_reading_images_is_no_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, bar = SimpleNamespace(now=50.0), Bar()
    monkeypatch.setattr(_progress, "time", SimpleNamespace(monotonic=lambda: clock.now))
    display: Any = _progress.TrainingDisplay()
    clock.now += 100
    display.start(build(plan_data(resolve_config("ce", dataset="digits", options=OPTIONS).config)), tmp_path, 0)
    display._bar = bar
    clock.now += 2
    display.step(0, 1, 6, 64)
    assert bar.text.split()[-2:] == ["32", "images/s"]


def test_what_is_left_follows_from_a_whole_epoch(capsys: pytest.CaptureFixture[str]) -> None:
    display: Any = _progress.TrainingDisplay()
    display._epochs = 5
    display.epoch({"epoch": 1, "loss": 1.0, "lr": 0.1}, {"seconds": 40.0, "images_per_second": 8.5})
    assert "8 images/s  left 2:00" in capsys.readouterr().err
