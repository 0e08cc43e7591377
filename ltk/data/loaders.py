"""Batches of views: sampling, gathering and changing images on the training device.

What an image becomes is a pure function of (seed, stream, epoch, position): a run resumed in the middle of an epoch,
with other workers or over other devices, sees what the uninterrupted run sees.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.profiler import record_function

from ltk import draws
from ltk.data.banks import Bank, CropRequest, Cut, DiskBank, request_device
from ltk.data.samplers import Sampler
from ltk.types import Batch

View = Callable[[Tensor, Tensor], Tensor]
Images = Tensor | Sequence[Tensor]
_ORDER, _SAMPLE = range(2)


@dataclass(frozen=True)
class StreamSource:
    """One stream of a method: how images are chosen and which views are made of them.

    Attributes:
        sampler: chooses the images.
        views: what becomes of them.
        cuts: the crops that the views are made of, taken from whole images as they are read, one per view (None: made
            of the stored image); empty where all are made of stored images.
    """

    sampler: Sampler
    views: Sequence[View]
    cuts: Sequence[Cut | None] = ()


def count_steps(length: int, batch_size: int, *, drop_last: bool, world: int = 1) -> int:
    """Return how many steps an epoch has.

    Args:
        length: images of the first stream.
        batch_size: images per step, over all processes.
        drop_last: leave out a last, smaller batch; one that gives a process a single image is always left out.
        world: number of processes.
    """
    whole, rest = divmod(length, batch_size)
    return whole + (not drop_last and rest >= 2 * world)


class Loader:
    """Yields, for each step of an epoch, one batch per stream.

    Args:
        bank: the training images.
        streams: what a method asks for; the first one defines the length of an epoch.
        batch_size: images per step and stream, over all processes. Each takes an equal part, in order: a last, smaller
            batch is cut to a multiple of their number.
        drop_last: leave out a last, smaller batch. One that would give a process a single image is always left out:
            batch normalisation cannot take it.
        seed: of order and views.
        rank: of this process.
        world: number of processes.
    """

    def __init__(
        self,
        bank: Bank,
        streams: Mapping[str, StreamSource],
        batch_size: int,
        *,
        drop_last: bool,
        seed: int,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.bank, self.streams, self.batch_size = bank, dict(streams), batch_size
        self._rank, self._world = rank, world
        self.length = next(iter(self.streams.values())).sampler.length
        self.steps = count_steps(self.length, batch_size, drop_last=drop_last, world=world)
        self._end = min(self.steps * batch_size, self.length // world * world)
        self._keys = self._make_keys(seed, bank.target_N.device)
        self._host_keys = self._make_keys(seed, torch.device("cpu"))

    def _make_keys(self, seed: int, device: torch.device) -> dict[str, Tensor]:
        root = draws.make_key(seed, device)
        return {name: draws.fold(root, i) for i, name in enumerate(self.streams)}

    def epoch(self, epoch: int, start: int = 0) -> Generator[dict[str, Batch], None, None]:
        """Yield the batches of an epoch from step ``start`` on; for images on the disk it waits for the order, once."""
        orders = self.orders(epoch)
        steps = range(start, self.steps)
        images = self._read(orders, epoch, steps)
        for step in steps:
            position_B = self.positions(step)
            with record_function("ltk.data"):
                taken = {name: next(images) for name in self.streams}
            yield {name: self._batch(name, orders[name], epoch, position_B, taken[name]) for name in self.streams}

    def _read(self, orders: Mapping[str, Tensor], epoch: int, steps: range) -> Iterator[Images]:
        """Yield, step by step, the images of each stream, or those of each of its views."""
        asked = {name: order_N.to(request_device(self.bank)) for name, order_N in orders.items()}
        parts = ((name, self._part(step)) for step in steps for name in self.streams)
        if not any(source.cuts for source in self.streams.values()):
            return self.bank.stream(asked[name][part] for name, part in parts)
        assert isinstance(self.bank, DiskBank)
        return self.bank.stream_crops(self._request_crops(name, asked[name], epoch, part) for name, part in parts)

    def _request_crops(self, name: str, order_N: Tensor, epoch: int, part: slice) -> CropRequest:
        source = self.streams[name]
        cuts = source.cuts or [None] * len(source.views)
        key_B = draws.fold(self._host_keys[name], _SAMPLE, epoch, torch.arange(part.start, part.stop))
        return CropRequest(order_N[part], draws.fold(key_B[:, None], torch.arange(len(cuts))), cuts)

    def orders(self, epoch: int) -> dict[str, Tensor]:
        """Return, for each stream, the positions of an epoch's images in the order in which they are drawn."""
        return {
            name: source.sampler.order(draws.fold(self._keys[name], _ORDER), epoch)
            for name, source in self.streams.items()
        }

    def positions(self, step: int) -> Tensor:
        """Return where in the order this process's share of a step stands."""
        part = self._part(step)
        return torch.arange(part.start, part.stop, device=self.bank.target_N.device)

    def _part(self, step: int) -> slice:
        share = self.share(step)
        begin = step * self.batch_size + self._rank * share
        return slice(begin, begin + share)

    def share(self, step: int) -> int:
        """Return how many images this process takes in a step."""
        begin = step * self.batch_size
        return (min(begin + self.batch_size, self._end) - begin) // self._world

    def indices(self, epoch: int, step: int) -> dict[str, Tensor]:
        """Return which training images a step takes over all processes, for each stream; no image is read."""
        part = slice(step * self.batch_size, min((step + 1) * self.batch_size, self._end))
        return {name: order_N[part] for name, order_N in self.orders(epoch).items()}

    def draw(self, orders: Mapping[str, Tensor], epoch: Tensor, position_B: Tensor) -> dict[str, Batch]:
        """Return the batches that ``epoch`` yields, from tensors alone, so that a captured step reads fresh values.

        Args:
            orders: of ``orders``.
            epoch: 0-dim int64.
            position_B: of ``positions``.
        """
        images = self.bank.stream(order_N[position_B] for order_N in orders.values())
        return {name: self._batch(name, order_N, epoch, position_B, next(images)) for name, order_N in orders.items()}

    def _batch(self, name: str, order_N: Tensor, epoch: int | Tensor, position_B: Tensor, images: Images) -> Batch:
        index_B = order_N[position_B]
        key_B = draws.fold(self._keys[name], _SAMPLE, epoch, position_B)
        makers = self.streams[name].views
        own = zip(makers, [images] * len(makers) if isinstance(images, Tensor) else images, strict=True)
        with record_function("ltk.views"):
            views = tuple(view(of_view, draws.fold(key_B, v)) for v, (view, of_view) in enumerate(own))
        return Batch(views, self.bank.target_N[index_B], index_B, draws.fold(key_B, len(views)))
