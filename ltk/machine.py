"""What a process takes of its machine: a device, cores and memory, beside the other processes of its run."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from ltk.errors import EnvironmentFault, UsageError
from ltk.launch import read_number
from ltk.settings import DEVICES

_OWN_GROUPS, _GROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


def choose_device(name: str) -> torch.device:
    """Return the device of a name: auto takes CUDA, else the CPU.

    Raises:
        EnvironmentFault: the device asked for is not there, or cannot compute what ltk needs; never a silent fall-back
            to the CPU.
        UsageError: no device has such a name.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "mps":
        raise EnvironmentFault("mps computes no float64, which sampling and views need", "Use --device cpu.")
    if not re.fullmatch(DEVICES, name):
        raise UsageError(f"no device is called {name!r}", "Use auto, cpu, cuda or cuda:N.")
    device = torch.device(name)
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            have = f"{count} CUDA devices" if count else "no CUDA device"
            raise EnvironmentFault(f"{name} was asked for; this machine has {have}", "Use --device cpu or auto.")
    return device


def use_device(name: str) -> torch.device:
    """Return the device of a name and take it for the whole process: what names no device (a stream) is made there.

    float32 is float32 there, as in ``exact_float32``, to the end of the process.
    """
    device = choose_device(name)
    if device.index is not None and device.type == "cuda":
        torch.cuda.set_device(device)
    _allow_tf32(False, False)
    return device


@contextmanager
def exact_float32() -> Iterator[None]:
    """Compute in float32 where float32 is asked for.

    Else convolutions on CUDA round what they multiply to TF32, with 10 bits behind the point instead of 23: torch's
    default from Ampere on, and that of products of matrices in some containers.
    """
    # The older of torch's two interfaces: part of torch reads it, and refuses where the newer one was used as well.
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    _allow_tf32(False, False)
    try:
        yield
    finally:
        _allow_tf32(*before)


def _allow_tf32(convolutions: bool, products: bool) -> None:
    torch.backends.cudnn.allow_tf32 = convolutions
    torch.backends.cuda.matmul.allow_tf32 = products


def count_cores() -> int:
    """Return how many cores this process may use: its share of what its run may use on this machine."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = map(math.ceil, core_quotas(_OWN_GROUPS, _GROUPS))
    return max(1, min([cores, *quotas]) // _count_processes())


def host_memory() -> int:
    """Return how many bytes of this machine's memory this process may use: its share of what the run may use."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([physical, *memory_limits(_OWN_GROUPS, _GROUPS)]) // _count_processes()


def memory_limits(own: Path, mount: Path) -> list[int]:
    """Return the limits in bytes of the control groups of this process and of those above them (Slurm, containers).

    Args:
        own: the file that names its groups; without it there are no limits.
        mount: where groups are folders.
    """
    limits: list[int] = []
    for folder in _groups(own, mount, "memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            with suppress(OSError, ValueError):  # no such file; no limit ("max")
                limits.append(int((folder / name).read_text()))
    return limits


def core_quotas(own: Path, mount: Path) -> list[float]:
    """Return how many cores' time these groups may take (``docker --cpus``, Kubernetes); see ``memory_limits``."""
    quotas: list[float] = []
    for folder in _groups(own, mount, "cpu"):
        with suppress(OSError, ValueError):
            quota, period = (folder / "cpu.max").read_text().split()
            quotas.append(int(quota) / int(period))
        with suppress(OSError, ValueError):
            quota, period = ((folder / f"cpu.cfs_{part}_us").read_text() for part in ("quota", "period"))
            quotas.append(int(quota) / int(period))
    return [quota for quota in quotas if quota > 0]  # -1: none


def _groups(own: Path, mount: Path, controller: str) -> Iterator[Path]:
    """The folders of the groups, of either version of control groups, that may limit a process."""
    for line in own.read_text().splitlines() if own.exists() else []:
        _, controllers, path = line.split(":", 2)
        if not controllers or controller in controllers.split(","):
            group = (mount / controller if controllers else mount) / path.lstrip("/")
            yield from (group, *group.parents)  # in a container the path is that of the host, its own group the root


def _count_processes() -> int:
    """How many processes of this run there are on this machine, as torchrun says."""
    return read_number("LOCAL_WORLD_SIZE", 1, least=1)
