"""Where a split's images wait to be drawn: in the device's memory, or on the disk with readers ahead of training."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from ltk.data.base import Split
from ltk.machine import count_cores, host_memory

_SHARE_OF_MEMORY = 0.4
_READ_AT_ONCE = 4096  # images; a GPU may take more than the memory of the machine
_CPU = torch.device("cpu")
_BATCHES_AHEAD = 4

Cut = Callable[[Sequence[Tensor], Tensor], Tensor]
"""``(images, key_B) -> crops_BCHW``: one square of each whole image, uint8 [C, H, W]; see ``View.cut_crop``."""


@dataclass(frozen=True)
class CropRequest:
    """Crops asked of a bank, to be cut out of whole images.

    Attributes:
        index_B: int64 positions in the split, on the CPU.
        key_BV: int64 keys of the views, on the CPU.
        cuts: one per view; None asks for the stored images.
    """

    index_B: Tensor
    key_BV: Tensor
    cuts: Sequence[Cut | None]

    def split(self, parts: int) -> Iterator[CropRequest]:
        """Share the request out."""
        shares = zip(self.index_B.tensor_split(parts), self.key_BV.tensor_split(parts), strict=True)
        return (CropRequest(index_B, key_BV, self.cuts) for index_B, key_BV in shares)


class Bank(Protocol):
    """Images of a split by position.

    Attributes:
        target_N: int64 class labels, on the device.
    """

    target_N: Tensor

    def stream(self, requests: Iterable[Tensor]) -> Iterator[Tensor]:
        """Yield images_BCHW, uint8 on the device, for each int64 tensor of positions, in order.

        Args:
            requests: on the device of ``request_device``, so that nothing waits for a copy.
        """


class MemoryBank:
    """All images of a split as one uint8 tensor on the device.

    Args:
        split: the images; read once, here.
        size: side in pixels at which they are stored.
        device: where they live.
    """

    def __init__(self, split: Split, size: int, device: torch.device) -> None:
        self.images_NCHW = _read_all(split, size, device)
        self.target_N = torch.as_tensor(split.labels_N, device=device)

    def stream(self, requests: Iterable[Tensor]) -> Iterator[Tensor]:
        """Yield the images of each request."""
        for index_B in requests:
            yield self.images_NCHW.index_select(0, index_B)


def _read_all(split: Split, size: int, device: torch.device) -> Tensor:
    """Read a split part by part, so that beside the whole on the device only a part is in the machine's memory."""
    images = len(split)
    part_BCHW = split.read(range(min(images, _READ_AT_ONCE)), size)
    images_NCHW = part_BCHW.new_empty((images, *part_BCHW.shape[1:]), device=device)
    images_NCHW[: len(part_BCHW)] = part_BCHW
    for start in range(_READ_AT_ONCE, images, _READ_AT_ONCE):
        part_BCHW = split.read(range(start, min(start + _READ_AT_ONCE, images)), size)
        images_NCHW[start : start + len(part_BCHW)] = part_BCHW
    return images_NCHW


class DiskBank:
    """Images read when they are needed, some batches ahead, by threads (decoding leaves Python's lock).

    Args:
        split: the images.
        size: side in pixels at which they are read.
        device: where they are needed.
        workers: threads that read; 0 takes as many as there are cores for this process.
    """

    def __init__(self, split: Split, size: int, device: torch.device, workers: int = 0) -> None:
        self._split, self._size, self._device, self._workers = split, size, device, workers or count_cores()
        self.target_N = torch.as_tensor(split.labels_N, device=device)

    def stream(self, requests: Iterable[Tensor]) -> Iterator[Tensor]:
        """Yield the images of each request."""
        shares = (index_B.tensor_split(self._count_parts(index_B)) for index_B in requests)
        for (images_BCHW,) in self._read_ahead([partial(self._read, part_B) for part_B in parts] for parts in shares):
            yield images_BCHW

    def stream_crops(self, requests: Iterable[CropRequest]) -> Iterator[list[Tensor]]:
        """Yield crops_BCHW, uint8 on the device, for each view of each request; an image is decoded once for all."""
        shares = (request.split(self._count_parts(request.index_B)) for request in requests)
        return self._read_ahead([partial(self._cut, part) for part in parts] for parts in shares)

    def _count_parts(self, index_B: Tensor) -> int:
        return min(self._workers, len(index_B))

    def _read(self, index_B: Tensor) -> list[Tensor]:
        return [self._split.read(index_B.tolist(), self._size)]

    def _cut(self, request: CropRequest) -> list[Tensor]:
        index = request.index_B.tolist()
        whole = self._split.read_whole(index)
        keys = request.key_BV.unbind(1)
        return [
            cut(whole, key_B) if cut else self._split.read(index, self._size)
            for cut, key_B in zip(request.cuts, keys, strict=True)
        ]

    def _read_ahead(self, jobs: Iterable[list[Callable[[], list[Tensor]]]]) -> Iterator[list[Tensor]]:
        """Yield what the parts of each job give, put together; the threads end with the iteration."""
        waiting: deque[list[Future[list[Tensor]]]] = deque()
        with ThreadPoolExecutor(self._workers, thread_name_prefix="ltk-read") as pool:
            try:
                for parts in jobs:
                    waiting.append([pool.submit(part) for part in parts])
                    if len(waiting) > _BATCHES_AHEAD:
                        yield self._collect(waiting.popleft())
                while waiting:
                    yield self._collect(waiting.popleft())
            finally:
                pool.shutdown(cancel_futures=True)

    def _collect(self, parts: list[Future[list[Tensor]]]) -> list[Tensor]:
        return [self._to_device(torch.cat(tensors)) for tensors in zip(*(part.result() for part in parts), strict=True)]

    def _to_device(self, images_BCHW: Tensor) -> Tensor:
        if self._device.type != "cuda":
            return images_BCHW.to(self._device)
        return images_BCHW.pin_memory().to(self._device, non_blocking=True)


def request_device(bank: Bank) -> torch.device:
    """Return where a bank looks at positions: the CPU when it reads from the disk, else where the images are."""
    return _CPU if isinstance(bank, DiskBank) else bank.target_N.device


def open_bank(split: Split, size: int, channels: int, device: torch.device, workers: int = 0) -> Bank:
    """Return a bank in memory when the images take less than 40 % of ``free_memory``, else one on the disk.

    Args:
        split: the images.
        size: side in pixels at which they are stored.
        channels: 1 or 3.
        device: where they are needed.
        workers: as of ``DiskBank``.
    """
    if fits_in_memory(len(split), size, channels, device):
        return MemoryBank(split, size, device)
    return DiskBank(split, size, device, workers)


def fits_in_memory(images: int, size: int, channels: int, device: torch.device) -> bool:
    """Return whether images take less than 40 % of ``free_memory``, so that ``open_bank`` keeps them there."""
    return images * channels * size * size <= _SHARE_OF_MEMORY * free_memory(device)


def free_memory(device: torch.device) -> int:
    """Return the bytes free on a CUDA device, or half of what this process may use of the machine's memory."""
    return int(torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else host_memory() // 2
