"""The first steps of a run, timed, and what they keep in memory: what ``--dry-run`` estimates from.

A few images of the run are read, or made up in the right shape where the data set is not on this machine, and used over
and over: reading and training are timed apart. Where a step of the whole batch would take too long, one of a part of
it is timed and scaled. Nothing is written.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ltk import draws
from ltk.config import RunConfig
from ltk.data.banks import CropRequest, Cut, DiskBank, MemoryBank
from ltk.data.base import IntArray, Split
from ltk.data.image import ImageSpec
from ltk.data.loaders import Loader, StreamSource
from ltk.engine.device import create_autocast
from ltk.engine.engines import choose_runner
from ltk.engine.meters import Meters
from ltk.engine.optim import create_optimizer
from ltk.engine.runner import EagerRunner
from ltk.engine.step import TrainStep
from ltk.engine.streams import create_streams
from ltk.errors import UsageError
from ltk.machine import use_device
from ltk.methods.base import Method

STEPS, SECONDS = 50, 10.0  # at most so many steps, and about so long in all
_IMAGES, _READ_SECONDS, _READ_AT_ONCE = 512, 2.0, 32
_LEAST, _WARM_UPS, _GRAPH_WARM_UPS = 4, 1, 4


@dataclass(frozen=True)
class Rehearsal:
    """What was measured.

    Attributes:
        steps: timed.
        images: in each of them.
        step_seconds: of a step of the whole share of this device, scaled where ``images`` is less.
        eval_seconds: of an image at evaluation.
        images_read: per second from the disk, all crops of each included; None where images were made up.
        memory: bytes of training on this device, the stored images aside.
    """

    steps: int
    images: int
    step_seconds: float
    eval_seconds: float
    images_read: float | None
    memory: int


class _FewImages(MemoryBank):
    """A bank that hands out some images in the place of all."""

    def __init__(self, images_NCHW: Tensor, labels_N: IntArray, device: torch.device) -> None:
        self.images_NCHW = images_NCHW.to(device)
        self.target_N = torch.as_tensor(labels_N, device=device)

    def stream(self, requests: Iterable[Tensor]) -> Iterator[Tensor]:
        for index_B in requests:
            yield self.images_NCHW.index_select(0, index_B % len(self.images_NCHW))


class _Stage:
    """The steps of a run, of any batch size.

    Args:
        config: resolved for this machine.
        method: on the device.
        streams: whose crops, where they are cut out of whole images, are the images of the bank.
        bank: images and all labels.
    """

    def __init__(
        self, config: RunConfig, method: Method, streams: Mapping[str, StreamSource], bank: _FewImages
    ) -> None:
        self.device = torch.device(config.run.device)
        self._config, self._bank, self._method = config, bank, method
        optimizer = create_optimizer(config.optim, method.parameters())
        precision = config.run.precision
        self._step = TrainStep(method, optimizer, precision=precision, device=self.device, clip=config.optim.clip)
        self._streams = {name: replace(source, cuts=()) for name, source in streams.items()}

    def runner(self, batch_size: int) -> Iterator[int]:
        """Carry out steps without end."""
        loader = Loader(self._bank, self._streams, batch_size, drop_last=True, seed=0)
        root = draws.make_key(0, self.device)
        eager = EagerRunner(loader, self._step, Meters(), root, epochs=self._config.optim.epochs)
        runner = choose_runner(self._config.run, eager, lambda text: None)
        for epoch in itertools.count():
            yield from runner.epoch(epoch, 0, epoch * loader.steps)

    def kept_bytes(self, batch_size: int) -> int:
        """Return what autograd keeps of one step, the method's own state aside."""
        own = {value.untyped_storage().data_ptr() for value in (*self._method.parameters(), *self._method.buffers())}
        kept: dict[int, int] = {}

        def count(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in own:
                kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            next(self.runner(batch_size))
        return sum(kept.values())

    def wait(self) -> None:
        """Wait for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def rehearse(
    config: RunConfig,
    method: Method,
    image: ImageSpec,
    labels_N: IntArray,
    *,
    share: int,
    split: Split | None = None,
    seconds: float = SECONDS,
) -> Rehearsal:
    """Time the first steps of a run.

    Args:
        config: with device, precision, engine and threads resolved.
        method: on the CPU.
        image: size and normalisation.
        labels_N: of all training images.
        share: images of this device in a step.
        split: the training images; None makes some up.
        seconds: about how long to measure; a network too large for that is timed for two steps.
    """
    end = time.perf_counter() + seconds
    device = use_device(config.run.device)
    torch.set_num_threads(config.run.threads)
    streams = create_streams(config, method, image, labels_N)
    cuts = next(iter(streams.values())).cuts
    made_up = _make_some(image, image.size if cuts else image.stored), None
    images_NCHW, read = _read_some(split, image, config.run.workers, cuts) if split else made_up
    method = method.to(device=device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    stage = _Stage(config, method, streams, _FewImages(images_NCHW, labels_N, device))
    sizes = list(_batch_sizes(share))
    memory = _estimate_memory(stage, method, config, sizes, share)
    steps, images, step_seconds = _time_steps(stage, sizes, end)
    return Rehearsal(
        steps, images, step_seconds * share / images, _time_evaluation(config, method, image, stage), read, memory
    )


def _batch_sizes(share: int) -> list[int]:
    """The share and its halves, down to a few images, ascending."""
    sizes = [share]
    while sizes[-1] % 2 == 0 and sizes[-1] // 2 >= _LEAST:
        sizes.append(sizes[-1] // 2)
    return sizes[::-1]


def _read_some(split: Split, image: ImageSpec, workers: int, cuts: Sequence[Cut | None]) -> tuple[Tensor, float]:
    """Read images spread over the split, as training reads them; return them, and how many were read per second."""
    chosen_M = np.linspace(0, len(split) - 1, min(_IMAGES, len(split))).astype(np.int64)
    bank = DiskBank(split, image.stored, torch.device("cpu"), workers)
    requests = torch.from_numpy(chosen_M).split(_READ_AT_ONCE)
    if not cuts:
        return _take(bank.stream(requests))
    crops = (CropRequest(index_B, index_B[:, None].expand(-1, len(cuts)), cuts) for index_B in requests)
    return _take(of_views[0] for of_views in bank.stream_crops(crops))


def _take(batches: Iterator[Tensor]) -> tuple[Tensor, float]:
    """Take batches of images for a while; return them, and how many came per second."""
    parts, began = [], time.perf_counter()
    for part_BCHW in batches:
        parts.append(part_BCHW)
        if time.perf_counter() - began > _READ_SECONDS:
            break
    images_NCHW = torch.cat(parts)
    return images_NCHW, len(images_NCHW) / (time.perf_counter() - began)


def _make_some(image: ImageSpec, side: int) -> Tensor:
    shape = (_READ_AT_ONCE, image.channels, side, side)
    return torch.randint(256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def _estimate_memory(stage: _Stage, method: Method, config: RunConfig, sizes: list[int], share: int) -> int:
    """State, gradients and the optimiser's, and what autograd keeps: from two small steps, drawn out to the share."""
    slots = {"sgd": 1, "adamw": 2}[config.optim.optimizer]
    state = sum(value.nbytes for value in (*method.parameters(), *method.buffers()))
    learnt = sum(value.nbytes for value in method.parameters() if value.requires_grad)
    kept: dict[int, int] = {}
    for size in sizes:
        try:
            kept[size] = stage.kept_bytes(size)
        except UsageError:  # a method that splits its batch asks for more
            continue
        if len(kept) == 2:
            break
    (small, least), *more = kept.items()
    slope = (more[0][1] - least) / (more[0][0] - small) if more else least / small
    state *= 2 if config.optim.ema else 1  # the averaged network is a copy
    return int(state + (1 + slots) * learnt + least + slope * (share - small))


def _time_steps(stage: _Stage, sizes: list[int], end: float) -> tuple[int, int, float]:
    """Return steps, images in each, and median seconds; of the largest batch of which a few steps fit in."""
    warm_ups = _WARM_UPS if stage.device.type == "cpu" else _GRAPH_WARM_UPS
    for size, larger in itertools.zip_longest(sizes, sizes[1:]):
        steps = stage.runner(size)
        try:
            for _ in range(warm_ups):
                next(steps)
        except UsageError:
            continue
        times = [_time_one(stage, steps)]
        left = end - time.perf_counter()
        if larger is None or (warm_ups + 3) * times[0] * larger / size > left:
            break
    while len(times) < STEPS and time.perf_counter() + times[-1] < end:
        times.append(_time_one(stage, steps))
    return len(times), size, statistics.median(times)


def _time_one(stage: _Stage, steps: Iterator[int]) -> float:
    stage.wait()
    began = time.perf_counter()
    next(steps)
    stage.wait()
    return time.perf_counter() - began


@torch.inference_mode()
def _time_evaluation(config: RunConfig, method: Method, image: ImageSpec, stage: _Stage) -> float:
    x_BCHW = torch.zeros(_LEAST * 2, image.channels, image.size, image.size, device=stage.device)
    method.eval()
    times = []
    for _ in range(3):
        stage.wait()
        began = time.perf_counter()
        with create_autocast(config.run.precision, stage.device)():
            method.predict(x_BCHW)
        stage.wait()
        times.append(time.perf_counter() - began)
    return min(times) / len(x_BCHW)
