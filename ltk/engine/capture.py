"""Capturing a step as a CUDA graph: when it can be done, and how."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import torch

from ltk.data.banks import Bank, DiskBank
from ltk.distributed import world_size

Recorder = Callable[[Callable[[], None]], Callable[[], None]]
"""Records the device work of a function, which is not carried out, and returns what carries it out."""


def explain_no_capture(device: torch.device, precision: str, bank: Bank) -> str:
    """Return why the steps of a run cannot be captured, or ""."""
    if device.type != "cuda":
        return f"a CUDA graph needs a CUDA device, and the run is on {device}"
    if precision == "fp16":
        return "the loss scale of fp16 is kept on the host"
    if isinstance(bank, DiskBank):
        return "the images are read from the disk"
    if world_size() > 1:
        return "several processes train together"
    return ""


def record_cuda_graph(device: torch.device, function: Callable[[], None]) -> Callable[[], None]:
    """Record a function as a CUDA graph.

    Args:
        device: where it works.
        function: reads and writes tensors that stay where they are, and never looks at a value.

    Returns:
        A function that replays it.

    Raises:
        RuntimeError: it cannot be captured.
    """
    graph = torch.cuda.CUDAGraph()
    # Other threads may go on allocating and copying (a checkpoint being written).
    with torch.cuda.graph(graph, stream=torch.cuda.Stream(device), capture_error_mode="thread_local"):
        function()
    return graph.replay


def make_warm_up(device: torch.device) -> Callable[[], AbstractContextManager[None]]:
    """Return a factory of the context of steps before a capture: on CUDA a stream beside the current one.

    The capture runs on such a stream too, and what torch keeps per stream must not be tied to the default one.
    """
    if device.type != "cuda":
        return contextlib.nullcontext
    stream = torch.cuda.Stream(device)

    @contextlib.contextmanager
    def beside() -> Iterator[None]:
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            yield
        torch.cuda.current_stream(device).wait_stream(stream)

    return beside
