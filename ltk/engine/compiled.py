"""The method's forward through torch.compile."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ltk.methods.base import Method
from ltk.types import Batch, Progress, StepOutput

Forward = Callable[[Mapping[str, Batch], Progress], StepOutput]
Backend = Callable[[Any, list[Tensor]], Callable[..., Any]]


class CompiledForward:
    """A method's forward, compiled as one graph from the first step on, so that a continued run stays exact.

    What is made once (tables, small constants) cannot be compiled: before the first step a copy of the method makes it,
    and leaves the generators as they were. A method whose forward or backward cannot be compiled goes on as it is, with
    the reason told.

    Args:
        method: the forward to compile; its weights stay where they are.
        warn: told the reason.
        backend: of torch.compile.
    """

    def __init__(self, method: Method, warn: Callable[[str], None], backend: str | Backend = "inductor") -> None:
        self._method, self._warn = method, warn
        self._compiled: Forward | None = torch.compile(
            method, backend=_compile_both(backend), fullgraph=True, dynamic=False
        )
        self._is_warm = False

    def __call__(self, batches: Mapping[str, Batch], progress: Progress) -> StepOutput:
        """Run the forward."""
        from torch._dynamo.exc import TorchDynamoException  # the base of all that compiling raises; heavy to import

        if self._compiled is None:
            return self._method(batches, progress)
        if not self._is_warm:
            self._is_warm = True
            device = next(iter(batches.values())).target_B.device
            with torch.no_grad(), torch.random.fork_rng([device] if device.type == "cuda" else []):
                copy.deepcopy(self._method)(batches, progress)
        try:
            return self._compiled(batches, progress)
        except TorchDynamoException as error:
            self._compiled = None
            reason = str(getattr(error, "inner_exception", error)).partition("\n")[0]
            self._warn(f"the network cannot be compiled, it runs as it is: {reason}")
            return self._method(batches, progress)


def _compile_both(backend: str | Backend) -> Backend:
    """Return a backend that compiles the backward pass together with the forward: where it fails, no step has begun.

    Older versions of torch know no such setting, and compile the backward pass when it is first needed.
    """
    from torch._dynamo import lookup_backend
    from torch._functorch import config

    compile_graph = lookup_backend(backend)
    both = "force_non_lazy_backward_lowering"

    def compile_both(graph: Any, inputs: list[Tensor]) -> Callable[..., Any]:
        with config.patch({both: True}) if hasattr(config, both) else contextlib.nullcontext():
            return compile_graph(graph, inputs)

    return compile_both
