"""Where a split's images wait to be drawn: in the device's memory, or on the disk with readers ahead of training."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

import torch
from torch import Tensor

from ltk.data.base import Split

_SHARE_OF_MEMORY = 0.4
_BATCHES_AHEAD = 4


class Bank(Protocol):
    """Images of a split by position.

    Attributes:
        target_N: int64 class labels, on the device.
    """

    target_N: Tensor

    def stream(self, requests: Iterable[Tensor]) -> Iterator[Tensor]:
        """Yield images_BCHW, uint8 on the device, for each int64 tensor of positions, in order."""


class MemoryBank:
    """All images of a split as one uint8 tensor on the device.

    Args:
        split: the images; read once, here.
        size: side in pixels at which they are stored.
        device: where they live.
    """

    def __init__(self, split: Split, size: int, device: torch.device) -> None:
        self.images_NCHW = split.read(range(len(split)), size).to(device)
        self.target_N = torch.as_tensor(split.labels_N, device=device)

    def stream(self, requests: Iterable[Tensor]) -> Iterator[Tensor]:
        """Yield the images of each request."""
        for index_B in requests:
            yield self.images_NCHW.index_select(0, index_B)


class DiskBank:
    """Images read when they are needed, some batches ahead, by threads (decoding leaves Python's lock).

    Args:
        split: the images.
        size: side in pixels at which they are read.
        device: where they are needed.
        workers: threads that read.
    """

    def __init__(self, split: Split, size: int, device: torch.device, workers: int) -> None:
        self._split, self._size, self._device, self._workers = split, size, device, max(1, workers)
        self.target_N = torch.as_tensor(split.labels_N, device=device)

    def stream(self, requests: Iterable[Tensor]) -> Iterator[Tensor]:
        """Yield the images of each request, reading ahead; the threads end with the iteration."""
        waiting: deque[list[Future[Tensor]]] = deque()
        with ThreadPoolExecutor(self._workers, thread_name_prefix="ltk-read") as pool:
            try:
                for index_B in requests:
                    parts = index_B.cpu().tensor_split(min(self._workers, len(index_B)))
                    waiting.append([pool.submit(self._split.read, part.tolist(), self._size) for part in parts])
                    if len(waiting) > _BATCHES_AHEAD:
                        yield self._collect(waiting.popleft())
                while waiting:
                    yield self._collect(waiting.popleft())
            finally:
                pool.shutdown(cancel_futures=True)

    def _collect(self, parts: list[Future[Tensor]]) -> Tensor:
        images_BCHW = torch.cat([part.result() for part in parts])
        if self._device.type != "cuda":
            return images_BCHW.to(self._device)
        return images_BCHW.pin_memory().to(self._device, non_blocking=True)


def open_bank(split: Split, size: int, channels: int, device: torch.device, workers: int = 0) -> Bank:
    """Return a bank in memory when the images take less than 40 % of ``free_memory``, else one on the disk.

    Args:
        split: the images.
        size: side in pixels at which they are stored.
        channels: 1 or 3.
        device: where they are needed.
        workers: threads that read from the disk; 0 takes as many as there are cores.
    """
    if fits_in_memory(len(split), size, channels, device):
        return MemoryBank(split, size, device)
    return DiskBank(split, size, device, workers or len(os.sched_getaffinity(0)))


def fits_in_memory(images: int, size: int, channels: int, device: torch.device) -> bool:
    """Return whether images take less than 40 % of ``free_memory``, so that ``open_bank`` keeps them there."""
    return images * channels * size * size <= _SHARE_OF_MEMORY * free_memory(device)


def free_memory(device: torch.device) -> int:
    """Return the bytes free on a CUDA device, or half the memory of this machine."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
