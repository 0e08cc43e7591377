"""Who carries out the steps of an epoch: kernel by kernel, or as one captured CUDA graph; with the same numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from ltk import draws
from ltk.data.loaders import Loader
from ltk.engine.capture import Recorder, make_warm_up, record_cuda_graph
from ltk.engine.meters import Meters
from ltk.engine.optim import allow_capture
from ltk.engine.step import TrainStep
from ltk.types import Batch, Progress

_WARM_UPS = 3  # true steps before the capture: they make what is made once (constants, workspaces, the meters' names)


class Runner(Protocol):
    """Carries out the steps of an epoch."""

    def epoch(self, epoch: int, start: int, update: int) -> Iterator[int]:
        """Carry out the steps of an epoch; yield after each one how many images of this process it had.

        Args:
            epoch: from 0.
            start: the first step to carry out, from 0.
            update: that step's number in the run, from 0.
        """


class EagerRunner:
    """Carries out every step kernel by kernel.

    Args:
        loader: the batches.
        step: one optimisation step.
        meters: told what each step gives.
        root: 0-dim int64 key of the run; update u draws from ``fold(root, u)``.
        epochs: how many the run has.
        finite_only: count only steps that are finite.
    """

    def __init__(
        self, loader: Loader, step: TrainStep, meters: Meters, root: Tensor, *, epochs: int, finite_only: bool = False
    ) -> None:
        self.loader, self.step, self._meters = loader, step, meters
        self._root, self._epochs, self._finite_only = root, epochs, finite_only
        self._epoch = torch.zeros((), device=root.device)

    def epoch(self, epoch: int, start: int, update: int) -> Iterator[int]:
        """Carry out the steps of an epoch; see ``Runner``."""
        self.begin(epoch)
        for number, batches in enumerate(self.loader.epoch(epoch, start), start=update):
            self.train(batches, number)
            yield len(next(iter(batches.values())).target_B)

    def begin(self, epoch: int) -> None:
        """Let the steps from here on be those of an epoch."""
        self._epoch.fill_(epoch)

    def train(self, batches: Mapping[str, Batch], update: int | Tensor) -> None:
        """Carry out one step and count it."""
        progress = Progress(self._epoch, self._epochs, draws.fold(self._root, update))
        output = self.step(batches, progress, update)
        target_B = next(iter(batches.values())).target_B
        self._meters.add(output, target_B, self.step.finite if self._finite_only else None)


class GraphRunner:
    """Captures a whole step and replays it: sampling, views, forward, backward, update, meters.

    What changes from step to step (epoch, step, update, order, learning rate) lies in tensors that the graph reads anew
    and, where it can, counts on itself; no generator is involved, so a run is continued from its counters alone. The
    first steps are carried out kernel by kernel, as the warm-up a capture needs, and so is a last, smaller batch.

    Args:
        eager: carries out the steps that are not replayed; its images are on the device.
        warn: told the reason when a step cannot be captured; training then goes on kernel by kernel.
        record: how work is recorded; None makes a CUDA graph.
    """

    def __init__(self, eager: EagerRunner, warn: Callable[[str], None], record: Recorder | None = None) -> None:
        self._eager, self._loader, self._warn = eager, eager.loader, warn
        device = eager.step.first_bad.device
        self._record = record or partial(record_cuda_graph, device)
        self._counters = torch.zeros(3, dtype=torch.int64, device=device)
        self._epoch, self._step, self._update = self._counters.unbind()
        self._orders: dict[str, Tensor] = {}
        self._warm_up = make_warm_up(device)
        self._warm_ups = _WARM_UPS
        self._replay: Callable[[], None] | None = None

    def epoch(self, epoch: int, start: int, update: int) -> Iterator[int]:
        """Carry out the steps of an epoch; see ``Runner``."""
        self._begin(epoch, start, update)
        for step in range(start, self._loader.steps):
            images = self._loader.share(step)
            if images == self._loader.batch_size:
                self._run_whole()
            else:
                self._run(images)
            yield images

    def _begin(self, epoch: int, start: int, update: int) -> None:
        self._eager.begin(epoch)
        for counter, value in zip(self._counters.unbind(), (epoch, start, update), strict=True):
            counter.fill_(value)
        for name, order_N in self._loader.orders(epoch).items():
            if name not in self._orders:
                self._orders[name] = torch.empty_like(order_N)
            self._orders[name].copy_(order_N)

    def _run_whole(self) -> None:
        """Carry out a step of full size: the warm-ups, then the capture, then its replays."""
        if self._warm_ups:
            self._warm_ups -= 1
            with self._warm_up():
                self._run_eagerly()
        elif self._replay is None:
            self._replay = self._replay_first()
        else:
            self._replay()

    def _run_eagerly(self) -> None:
        self._run(self._loader.batch_size)

    def _replay_first(self) -> Callable[[], None]:
        """Capture the step and carry it out once; return its replay, if it counted itself as a whole step does.

        A capture on the wrong device or stream records nothing, and says nothing.
        """
        before = int(self._update)
        replay = self._capture()
        if int(self._update) == before:  # else the step was carried out in the place of being recorded
            replay()
            if int(self._update) == before + 1:
                return replay
            self._run_eagerly()
        self._warn("the captured step does nothing, steps run kernel by kernel")
        return self._run_eagerly

    def _capture(self) -> Callable[[], None]:
        optimizer = self._eager.step.optimizer
        optimizer.zero_grad(set_to_none=True)  # so that the captured gradients lie in the graph's own memory
        try:
            with allow_capture(optimizer):
                return self._record(self._run_eagerly)
        except RuntimeError as error:
            self._warn(f"the step cannot be captured, it runs kernel by kernel: {str(error).splitlines()[0]}")
            return self._run_eagerly

    def _run(self, images: int) -> None:
        first = self._step * self._loader.batch_size
        position_B = first + torch.arange(images, device=first.device)
        self._eager.train(self._loader.draw(self._orders, self._epoch, position_B), self._update)
        self._step.add_(1)
        self._update.add_(1)
