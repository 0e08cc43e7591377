"""How a run computes: precision, engine, threads."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
import torch.nn.functional as F

from ltk.machine import count_cores

_SMALL_IMAGE = 16  # below this, threads wait for each other longer than they work
_BF16_IMAGE = 24
_LEAST_PROBES = 4
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def choose_precision(name: str, device: torch.device, image_size: int) -> str:
    """Return fp32, bf16 or fp16: auto takes bf16 where the hardware multiplies it natively and images are not tiny."""
    if name != "auto":
        return name
    if device.type == "cuda":
        with torch.cuda.device(device):
            return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    return "bf16" if device.type == "cpu" and image_size >= _BF16_IMAGE and _multiplies_bf16() else "fp32"


def _multiplies_bf16() -> bool:
    """Whether this CPU has bf16 matrix or dot-product instructions (AMX, AVX-512 BF16)."""
    checks = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return any(getattr(torch.cpu, check, lambda: False)() for check in checks)


def choose_engine(name: str, device: torch.device) -> str:
    """Return eager, compile or graph: auto takes graph on CUDA, eager elsewhere.

    Compiling does not pay on a CPU: it costs minutes and gains less than a tenth (docs/performance.md).
    """
    if name != "auto":
        return name
    return "graph" if device.type == "cuda" else "eager"


def choose_threads(threads: int, device: torch.device, image_size: int) -> int:
    """Return how many CPU threads to use: as asked; else one for tiny images; else the fastest number, tried out.

    Threads that share a core with another program wait for each other: two are then several times slower than one.
    """
    if threads:
        return threads
    if device.type != "cpu":
        return count_cores()
    return 1 if image_size <= _SMALL_IMAGE else probe_threads(count_cores())


def probe_threads(cores: int, seconds: float = 0.2) -> int:
    """Return with how many threads a convolution runs fastest just now.

    Args:
        cores: how many there are; tried are all, all but one, and halves down to one.
        seconds: about how long to try.
    """
    candidates = sorted({cores, max(1, cores - 1), *(max(1, cores >> shift) for shift in range(1, 8))})
    if len(candidates) == 1:
        return candidates[0]
    images_BCHW, weight = torch.zeros(32, 32, 32, 32), torch.zeros(32, 32, 3, 3)
    before = torch.get_num_threads()
    times: dict[int, list[float]] = {threads: [] for threads in candidates}
    end = time.perf_counter() + seconds
    try:
        while time.perf_counter() < end or min(map(len, times.values())) < _LEAST_PROBES:
            for threads, spent in times.items():
                torch.set_num_threads(threads)
                began = time.perf_counter()
                F.conv2d(images_BCHW, weight, padding=1)
                spent.append(time.perf_counter() - began)
    finally:
        torch.set_num_threads(before)
    medians = {threads: statistics.median(spent[1:]) for threads, spent in times.items()}  # the first one warms up
    return min(medians, key=lambda threads: medians[threads])


def create_autocast(precision: str, device: torch.device) -> Callable[[], AbstractContextManager[object]]:
    """Return a factory of the context in which forward passes run."""
    if precision == "fp32":
        return contextlib.nullcontext
    return lambda: torch.autocast(device.type, dtype=_DTYPES[precision])
