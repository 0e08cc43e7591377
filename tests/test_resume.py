"""A run that was stopped and continued ends with the same bits as one that was not."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from ltk.checkpoint import load_checkpoint
from ltk.config import RunConfig
from ltk.engine import trainer
from ltk.engine.fit import fit, resume
from ltk.engine.meters import Meters
from ltk.engine.position import read_position
from ltk.engine.reporter import SilentReporter
from ltk.errors import StoppedError
from ltk.resolve import resolve_config
from ltk.run_files import LAST

EPOCHS = 4


def create_config(method: str, *overrides: str) -> RunConfig:
    options = {"optim.epochs": EPOCHS, "run.device": "cpu", "run.precision": "fp32", "run.threads": 1}
    return resolve_config(method, dataset="digits", options=options, overrides=overrides).config


class Interrupter(SilentReporter):
    """Sends a signal to this process after an epoch, or in the middle of one."""

    def __init__(self, epoch: int, step: int | None = None, number: int = signal.SIGINT) -> None:
        self._epoch, self._step, self._number = epoch, step, number

    def step(self, epoch: int, done: int, steps: int, images: int) -> None:
        if epoch == self._epoch and done == self._step:
            os.kill(os.getpid(), self._number)

    def epoch(self, record: Mapping[str, Any], times: Mapping[str, Any]) -> None:
        if record["epoch"] == self._epoch and self._step is None:
            os.kill(os.getpid(), self._number)


def read_end(folder: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any], str]:
    checkpoint = load_checkpoint(folder / "checkpoints" / LAST)
    return checkpoint.tensors, checkpoint.state, (folder / "metrics.jsonl").read_text()


def assert_same_end(first: Path, second: Path) -> None:
    (tensors, state, metrics), (other, other_state, other_metrics) = read_end(first), read_end(second)
    assert tensors.keys() == other.keys()
    assert [name for name in tensors if not torch.equal(tensors[name], other[name])] == []
    assert metrics == other_metrics
    assert state == other_state


@pytest.mark.parametrize("method", ["ce", "glmc"])
@pytest.mark.parametrize(("epoch", "step"), [(1, None), (2, 3)], ids=["between epochs", "within an epoch"])
def test_resumed_run_is_the_uninterrupted_run(tmp_path: Path, method: str, epoch: int, step: int | None) -> None:
    fit(create_config(method), out=tmp_path / "whole")
    with pytest.raises(StoppedError) as stopped:
        fit(create_config(method), out=tmp_path / "parts", reporter=Interrupter(epoch, step))
    assert stopped.value.exit_code == 130
    assert str(tmp_path / "parts") in stopped.value.hint
    resume(tmp_path / "parts")
    assert_same_end(tmp_path / "whole", tmp_path / "parts")


def test_same_seed_same_run_other_seed_other_run(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        fit(create_config("glmc", f"run.seed={seed}"), out=tmp_path / name)
    assert_same_end(tmp_path / "a", tmp_path / "b")
    assert read_end(tmp_path / "a")[2] != read_end(tmp_path / "c")[2]


def test_evaluating_less_often_does_not_change_the_weights(tmp_path: Path) -> None:
    fit(create_config("ce"), out=tmp_path / "often")
    fit(create_config("ce", "run.eval_every=4"), out=tmp_path / "once")
    often, once = (read_end(tmp_path / name)[0] for name in ("often", "once"))
    assert [name for name in often if not torch.equal(often[name], once[name])] == []


@pytest.mark.parametrize("left_out", ["optim", "model", "position", "meter"])
def test_every_part_of_the_state_matters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left_out: str) -> None:
    """Negative controls: with one part of the checkpoint not restored, the end differs."""
    fit(create_config("glmc"), out=tmp_path / "whole")
    with pytest.raises(StoppedError):
        fit(create_config("glmc"), out=tmp_path / "parts", reporter=Interrupter(2, 3))
    replacements: dict[str, tuple[object, str, Any]] = {
        "optim": (trainer, "load_optimizer_tensors", lambda optimizer, tensors: None),
        "model": (nn.Module, "load_state_dict", lambda self, tensors, strict=True: ([], [])),
        "meter": (Meters, "load", lambda self, tensors, device: None),
        "position": (trainer, "read_position", lambda stored, loader: read_position(stored | {"step": 0}, loader)),
    }
    monkeypatch.setattr(*replacements[left_out])
    resume(tmp_path / "parts")
    with pytest.raises(AssertionError):
        assert_same_end(tmp_path / "whole", tmp_path / "parts")
