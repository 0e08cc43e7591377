"""What several processes share; on one process, with no process group, everything here does nothing."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn


def is_distributed() -> bool:
    """Return whether a process group runs."""
    return dist.is_available() and dist.is_initialized()


def rank() -> int:
    """Return which process this is, from 0."""
    return dist.get_rank() if is_distributed() else 0


def is_leader() -> bool:
    """Return whether this process writes and speaks for all: rank 0."""
    return rank() == 0


def world_size() -> int:
    """Return how many processes train together."""
    return dist.get_world_size() if is_distributed() else 1


@torch.no_grad()
def gather(x: Tensor) -> Tensor:
    """Return the tensors of all processes, joined along the first dimension in order of rank; no gradient flows.

    Args:
        x: of the same shape on every process. With one process it is returned as it is.
    """
    if world_size() == 1:
        return x
    parts = [torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(world_size())]
    dist.all_gather(parts, x.detach().contiguous())
    return torch.cat(parts)


@torch.no_grad()
def add_up(x: Tensor) -> Tensor:
    """Return the sum of the tensors of all processes; ``x`` stays as it is.

    Args:
        x: of the same shape on every process. With one process it is returned as it is.
    """
    if world_size() == 1:
        return x
    total = x.detach().clone()
    dist.all_reduce(total)
    return total


@torch.no_grad()
def all_true(flag: Tensor) -> Tensor:
    """Return whether a 0-dim bool tensor is true on all processes, without waiting for the device."""
    if world_size() == 1:
        return flag
    true = flag.to(torch.int32)
    dist.all_reduce(true, dist.ReduceOp.MIN)
    return true.bool()


def largest(number: int) -> int:
    """Return the largest of the numbers that the processes give; by way of the host alone."""
    if world_size() == 1:
        return number
    value = torch.tensor(number)
    dist.all_reduce(value, dist.ReduceOp.MAX)
    return int(value)


def from_leader(text: str | None) -> str:
    """Return the text that rank 0 gives; what the others give does not count."""
    texts = [text]
    if world_size() > 1:
        dist.broadcast_object_list(texts, src=0)
    assert texts[0] is not None
    return texts[0]


def is_alike(text: str) -> bool:
    """Return whether all processes give the same text."""
    if world_size() == 1:
        return True
    texts: list[str] = [""] * world_size()
    dist.all_gather_object(texts, text)
    return len(set(texts)) == 1


@torch.no_grad()
def share_running_statistics(module: nn.Module) -> None:
    """Give all processes the running statistics of rank 0: those that are saved, so those that are evaluated."""
    if world_size() == 1:
        return
    names = ("running_mean", "running_var")
    running = [buffer for name, buffer in module.named_buffers() if name.rpartition(".")[2] in names]
    if not running:
        return
    flat = torch.cat([buffer.flatten() for buffer in running])
    dist.broadcast(flat, src=0)
    for buffer, part in zip(running, flat.split([buffer.numel() for buffer in running]), strict=True):
        buffer.copy_(part.view_as(buffer))
