"""The live line of a training: what it shows on terminals of ordinary widths, and how a finished run begins."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from rich.console import Console

from ltk.cli import _console
from ltk.cli._progress import TrainingDisplay
from ltk.config import RunConfig

EPOCHS = 200
RECORD = {
    "epoch": 126,
    "loss": 0.0234,
    "lr": 0.0909,
    "test": {"top1": 0.812, "many": 0.993, "medium": 0.973, "few": 0.63},
}


def display_on(width: int, monkeypatch: pytest.MonkeyPatch) -> TrainingDisplay:
    console = Console(file=io.StringIO(), width=width, force_terminal=True, highlight=False, _environ={})
    monkeypatch.setattr(_console, "notes", lambda: console)
    return TrainingDisplay()


def begin(display: TrainingDisplay, epoch: int) -> None:
    config = RunConfig.model_validate({"optim": {"epochs": EPOCHS}})
    manifest = SimpleNamespace(counts=(5, 3))
    built: Any = SimpleNamespace(
        plan=SimpleNamespace(config=config, notes=(), selection="test", manifest=manifest),
        method=torch.nn.Linear(1, 1),
        loader=SimpleNamespace(steps=6),
    )
    display.start(built, Path("runs/x"), epoch)


def read_line(display: TrainingDisplay, width: int) -> str:
    """The line as it is drawn now, without colours."""
    assert display._bar is not None
    console = Console(file=io.StringIO(), width=width, _environ={})
    console.print(display._bar.get_renderable())
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().rstrip("\n")


@pytest.mark.parametrize("width", [80, 100, 120])
def test_what_matters_most_has_room(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    display = display_on(width, monkeypatch)
    begin(display, 120)
    display.epoch(RECORD, {"seconds": 1.0, "images_per_second": 1000.0})
    display._drawn = 0.0
    display.step(127, 3, 6, 64)
    line = read_line(display, width)
    display.close()
    assert line.startswith("epoch 128/200 ")
    assert ":" in line.partition("━")[0]  # the time left stands before the bar
    assert "━━━" in line
    assert "loss 0.023 many 99.3 med 97.3 few 63.0 best 81.2" in line
    assert len(line) == width - 2  # an interrupt's ^C has room, and wraps nothing
    assert line.endswith("…")


def test_a_finished_run_is_said_to_be_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    for epoch, words in {
        0: "run runs/x\n",
        7: "continued at epoch 8\n",
        EPOCHS: "already finished: 200 epochs\n",
    }.items():
        display = display_on(120, monkeypatch)
        begin(display, epoch)
        assert (display._bar is None) == (epoch == EPOCHS)
        display.close()
        file = display._console.file
        assert isinstance(file, io.StringIO)
        assert words in file.getvalue()
