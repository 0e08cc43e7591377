"""Several processes as one run: their group, the method under DDP, the files and words that are rank 0's alone.

The processes are started by ``torchrun``, by Slurm or by ``ltk train --devices N``; each trains on its part of every
batch. Batch normalisation keeps statistics per device, as in the papers; those of rank 0 are evaluated and saved.
Random draws are keyed by (seed, epoch, position in the global batch), so that they do not depend on the number of
processes; only dropout draws from each process's own generator (``ltk.engine.generators``).
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from timm.layers.norm_act import convert_sync_batchnorm
from torch import Tensor, nn
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from ltk import distributed
from ltk.config import RunSettings
from ltk.engine.elastic import count_restarts
from ltk.engine.reporter import Reporter, SilentReporter
from ltk.engine.run_dir import RunDir
from ltk.errors import DataError, EnvironmentFault, PeerLostError, UsageError
from ltk.launch import find_place, read_number
from ltk.machine import choose_device
from ltk.methods.base import Method
from ltk.run_files import CHECKPOINT_FOLDER
from ltk.types import Batch, Progress, StepOutput

Forward = Callable[[Mapping[str, Batch], Progress], StepOutput]
_LOST = (
    *("connection closed", "connection reset", "broken pipe", "timed out", "connection refused", "remote process"),
    "pair closure",  # gloo, in the operation after the one that timed out
)
_SLOWEST_START = 60  # seconds that processes may take to start, however short the timeout of the run is


@contextmanager
def process_group(run: RunSettings) -> Iterator[None]:
    """Join the processes that were started together, named by RANK and WORLD_SIZE; does nothing for a single one.

    Args:
        run: device and timeout.

    Raises:
        EnvironmentFault: the processes do not find each other, or there is no device for this one.
        PeerLostError: another process ended, or did not answer in time.
        UsageError: the device cannot be shared out.
    """
    rank, world = find_place()
    if world == 1 or distributed.is_distributed():
        yield
        return
    backend = _choose_backend(run.device)
    try:
        store, timeout = _meet(rank, world, run.timeout), timedelta(seconds=run.timeout)
        dist.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=timeout)
    except (RuntimeError, ValueError) as error:
        address = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        raise EnvironmentFault(
            f"{world} processes did not meet at {address}: {str(error).splitlines()[0][:200]}",
            "Check MASTER_ADDR, a free MASTER_PORT, and that all of them were started.",
        ) from error
    try:
        yield
    except RuntimeError as error:
        if any(phrase in str(error).lower() for phrase in _LOST):
            raise PeerLostError(
                f"another process ended, or did not answer within {run.timeout} s",
                "Its own message says why; the last checkpoint is whole.",
            ) from error
        raise
    dist.destroy_process_group()  # after an error the others learn of this process's end when it has ended


def _meet(rank: int, world: int, timeout: int) -> Any:
    """Wait until all processes are there and return the store in which they meet.

    It is a new one after each restart: torchrun's own still holds the addresses of those that ended.
    """
    patience = timedelta(seconds=max(timeout, _SLOWEST_START))
    store, _, _ = next(rendezvous("env://", rank, world, timeout=patience))
    own = dist.PrefixStore(f"restart {count_restarts()}", store)  # type: ignore[attr-defined]
    if own.add("there", 1) == world:
        own.set("all are there", "")
    own.wait(["all are there"], patience)
    return own


def _choose_backend(name: str) -> str:
    """Take this process's device and return the backend; host values travel by gloo, without waiting for the device."""
    device = choose_device(name)
    if device.type == "cpu":
        return "gloo"
    if device.type != "cuda" or device.index is not None:
        raise UsageError(f"run.device = {name} cannot be shared out among processes", "Use --device cuda or cpu.")
    local, count = read_number("LOCAL_RANK", 0), torch.cuda.device_count()
    if local >= count:
        raise EnvironmentFault(f"process {local} of this machine has no CUDA device: there are {count}", "Start fewer.")
    torch.cuda.set_device(local)  # from here on "cuda" is this device
    return "cpu:gloo,cuda:nccl"


class _Step(nn.Module):
    """A method whose step returns a tuple: what DDP looks into."""

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.method = method

    def forward(self, batches: Mapping[str, Batch], progress: Progress) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        output: StepOutput = self.method(batches, progress)
        logs = {name: value.detach() for name, value in output.logs.items()}
        return output.loss, output.logits_BK.detach(), logs  # DDP expects the gradients of all that has some


def distribute(method: Method) -> Forward:
    """Return the step of a method; with several processes its gradients are means over all of them.

    Parts of the batch are equally large, so that the mean of the processes' losses is the loss of the batch. Buffers
    are not sent around: batch statistics are per device, and methods agree on the others themselves.

    Three processes or more add up in an order that follows from a gradient's place in its bucket. DDP lays the buckets
    out anew after its first step, which is another one in a resumed run, unless it looks for unused parameters.
    """
    if distributed.world_size() == 1 or not any(parameter.requires_grad for parameter in method.parameters()):
        return method
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # its new name, forward_sync_buffers, is not in torch 2.6
        parallel = DistributedDataParallel(
            _Step(method), broadcast_buffers=False, gradient_as_bucket_view=True, find_unused_parameters=True
        )

    def forward(batches: Mapping[str, Batch], progress: Progress) -> StepOutput:
        return StepOutput(*parallel(batches, progress))

    return forward


def synchronise_batch_norm(method: Method, run: RunSettings) -> Method:
    """Return the method with batch statistics over all devices, where ``run.sync_bn`` asks for it.

    timm's own conversion keeps the activations that many of its networks hold inside their BatchNorm.

    Raises:
        UsageError: the devices are not CUDA.
    """
    if not run.sync_bn or distributed.world_size() == 1:
        return method
    if not run.device.startswith("cuda"):
        raise UsageError("run.sync_bn = true works on CUDA devices alone", "Leave it out: statistics are per device.")
    converted: Method = convert_sync_batchnorm(method)  # type: ignore[no-untyped-call]
    return converted


def check_batch_size(batch_size: int, world: int | None = None) -> None:
    """Check that a batch can be shared out equally, with two images or more for each process.

    Args:
        batch_size: images of all processes.
        world: number of processes; None for those that run.

    Raises:
        UsageError: it cannot; the nearest sizes that can are named.
    """
    world = world or distributed.world_size()
    if batch_size % world == 0 and batch_size >= 2 * world:
        return
    below, above = batch_size // world * world, -(-batch_size // world) * world
    good = sorted({max(size, 2 * world) for size in (below, above)})
    raise UsageError(
        f"a batch of {batch_size} images cannot be shared out equally among {world} processes, two or more to each",
        f"Use --batch-size {' or '.join(map(str, good))}: it counts the images of all processes together.",
    )


def describe_other_world(before: int) -> list[str]:
    """Say that a run goes on with another number of processes than wrote its checkpoint, where that is so."""
    now = distributed.world_size()
    if now == before:
        return []
    return [f"{now} processes (the checkpoint: {before}): no longer exact to the last bit, shares of a batch differ"]


def check_alike(what: str, value: Any) -> None:
    """Check that all processes have the same.

    Raises:
        DataError: they differ.
    """
    if not distributed.is_alike(str(value)):
        raise DataError(f"the processes do not see the same {what}", "Give all of them the same files.")


def leading_reporter(reporter: Reporter | None) -> Reporter:
    """Return the reporter on rank 0, and one that says nothing on the others."""
    return reporter if reporter and distributed.is_leader() else SilentReporter()


class FollowedRunDir(RunDir):
    """The run directory as the other ranks see it: it is rank 0's, and they write nothing.

    Args:
        path: of the run directory.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / CHECKPOINT_FOLDER

    def close(self) -> None:
        """Hold no lock."""


def open_run_dir(opened: Callable[[], RunDir]) -> RunDir:
    """Return the run directory that rank 0 makes or locks, on every rank.

    Args:
        opened: makes or locks it; called on rank 0 alone.
    """
    own = opened() if distributed.is_leader() else None
    path = Path(distributed.from_leader(str(own.path) if own else None))
    return own or FollowedRunDir(path)
