"""A small run of any method, to be carried out by any runner on any device."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ltk import draws
from ltk.config import OptimSettings
from ltk.data.banks import MemoryBank
from ltk.data.base import ArraySplit
from ltk.data.loaders import Loader, StreamSource
from ltk.data.samplers import create_sampler
from ltk.data.transforms import create_view
from ltk.engine.meters import Meters
from ltk.engine.optim import create_optimizer, optimizer_tensors, set_learning_rate
from ltk.engine.runner import EagerRunner, Runner
from ltk.engine.step import TrainStep
from ltk.methods.base import Method

CPU = torch.device("cpu")
CLASSES, IMAGES, BATCH = 5, 50, 8  # 6 whole batches and one of 2 images
EPOCHS = 8
OPTIONS: dict[str, dict[str, Any]] = {
    "paco": {"queue_size": 20, "embedding": 8},
    "gpaco": {"queue_size": 20, "embedding": 8},
    "glmc": {"embedding": 8},
}


class Run:
    """A small run of a method on the device of its parameters."""

    def __init__(self, method: Method, *, optimizer: str = "sgd", precision: str = "fp32", clip: float = 0.0) -> None:
        self.method = method.train()
        device = next(method.parameters()).device
        pixels = np.random.RandomState(0).randint(0, 256, (IMAGES, 3, 8, 8)).astype(np.uint8)
        split = ArraySplit(pixels, np.arange(IMAGES) % CLASSES, "x")
        view = create_view("crop-flip", size=8, mean=(0.5,) * 3, std=(0.5,) * 3)
        streams = {
            name: StreamSource(
                create_sampler(stream.sampler, split.labels_N, **dict[str, Any](stream.options or {})),
                [view] * stream.views,
            )
            for name, stream in method.streams.items()
        }
        self.loader = Loader(MemoryBank(split, 8, device), streams, BATCH, drop_last=False, seed=0)
        settings = OptimSettings.model_validate({"optimizer": optimizer, "lr": 0.05, "clip": clip})
        self.optimizer = create_optimizer(settings, method.parameters())
        self.step = TrainStep(method, self.optimizer, precision=precision, device=device, clip=clip, undo_bad=True)
        self.meters = Meters()
        self.eager = EagerRunner(
            self.loader, self.step, self.meters, draws.make_key(3, device), epochs=EPOCHS, finite_only=True
        )
        self.means: list[dict[str, float]] = []
        self.images: list[int] = []

    def train(self, runner: Runner, epochs: range = range(EPOCHS), start: int = 0) -> None:
        for epoch in epochs:
            set_learning_rate(self.optimizer, 0.05 / (epoch + 1))
            self.images += runner.epoch(epoch, start, epoch * self.loader.steps + start)
            self.means.append(self.meters.means())
            self.meters.reset()
            start = 0

    def state(self) -> dict[str, Tensor]:
        state = dict(self.method.state_dict())
        return state | {f"optim.{name}": value for name, value in optimizer_tensors(self.optimizer).items()}


def assert_same(first: Run, second: Run, tolerance: float = 0.0) -> None:
    assert first.images == second.images
    for mine, theirs in zip(first.means, second.means, strict=True):
        assert mine == pytest.approx(theirs, rel=tolerance, abs=tolerance)
    state, other = first.state(), second.state()
    assert state.keys() == other.keys()
    differing = [name for name in state if not torch.allclose(state[name], other[name], tolerance, tolerance)]
    assert differing == []
