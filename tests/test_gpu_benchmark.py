"""The benchmark on a GPU times steps within one epoch, whatever the batch."""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Any

import pytest

from benchmarks.gpu import _STEPS, _time_steps


class Recorded:
    """A trainer whose steps note where they were asked for."""

    def __init__(self, steps: int) -> None:
        self.built = types.SimpleNamespace(loader=types.SimpleNamespace(steps=steps))
        self.runner = self
        self.mode = "default"
        self.modes: list[str] = []

    def epoch(self, epoch: int, start: int, update: int) -> Iterator[int]:
        for _ in range(self.built.loader.steps):
            self.modes.append(self.mode)
            yield 1


@pytest.mark.parametrize(
    ("steps", "timed"), [(170, _STEPS), (85, _STEPS), (22, _STEPS), (12, 10), (3, 1), (2, 1), (1, 1)]
)
def test_a_stretch_lies_within_an_epoch(steps: int, timed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the start of an epoch nor its last batch, which may be smaller, is timed where there are others."""
    trainer: Any = Recorded(steps)
    monkeypatch.setattr("torch.cuda.synchronize", lambda: None)
    monkeypatch.setattr("torch.cuda.set_sync_debug_mode", lambda mode: setattr(trainer, "mode", mode))
    for _ in range(5):
        trainer.modes.clear()
        assert min(_time_steps(trainer)) >= 0
        assert trainer.modes == ["default"] * (steps > 1) + ["error"] * timed
        assert trainer.mode == "default"
