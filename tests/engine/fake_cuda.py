"""A CUDA device that computes nothing: it knows shapes, types and places, and refuses to give a value.

Whatever would wait for a GPU (reading a value, a shape that depends on values) raises here too, and whatever would copy
from the host is seen, so that a step can be checked for capture on a machine without a GPU.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.optim import Optimizer
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ltk.config import OptimSettings
from ltk.engine.optim import create_optimizer

Network = TypeVar("Network", bound=nn.Module)


class HostWatch(TorchDispatchMode):
    """Notes every operator that takes or gives a tensor of the host.

    Attributes:
        found: their names.
        waits: those that bring a value from the device to the host.
        operators: how many operators there were in all.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: list[str] = []
        self.waits: list[str] = []
        self.operators = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.operators += 1
        given, made = _devices((args, kwargs)), _devices(out)
        if "cpu" in given | made:
            self.found.append(str(func))
        if "cuda" in given and "cpu" in made:
            self.waits.append(str(func))
        return out


def _devices(tree: Any) -> set[str]:
    return {leaf.device.type for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)}


@contextlib.contextmanager
def fake_cuda(patch: pytest.MonkeyPatch) -> Iterator[None]:
    """Within, the device "cuda" can be named; what asks the driver is left out: autograd's threads, fused kernels."""
    patch.setattr("torch.cuda.amp.common.amp_definitely_not_available", lambda: False)
    patch.setattr("torch.cuda.is_bf16_supported", lambda *arguments, **options: True)
    patch.setattr(torch, "_fused_sgd_", lambda *arguments, **options: None)
    patch.setattr(torch, "_fused_adamw_", lambda *arguments, **options: None)
    patch.setattr("tests.engine.small_run.create_optimizer", _read_rate_first)
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield


def to_fake_cuda(module: Network) -> Network:
    """Give a module parameters and buffers on the fake device."""
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None:
                part._parameters[name] = nn.Parameter(_fake(parameter), parameter.requires_grad)
        for name, value in part._buffers.items():
            part._buffers[name] = None if value is None else _fake(value)
    return module


def fake_backward(module: nn.Module, patch: pytest.MonkeyPatch) -> None:
    """Let ``backward`` of anything give each parameter of a module a gradient."""

    def backward(loss: Tensor) -> None:
        for parameter in module.parameters():
            parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None

    patch.setattr(Tensor, "backward", backward)


def _fake(value: Tensor) -> Tensor:
    return torch.empty(value.shape, dtype=value.dtype, device="cuda")


def _read_rate_first(settings: OptimSettings, parameters: Iterable[nn.Parameter]) -> Optimizer:
    """An optimiser checks its rate once, when it is made: here as a number, which then becomes a tensor."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "tensor", lambda value, device=None: value)
        optimizer = create_optimizer(settings, parameters)
    for group in optimizer.param_groups:
        group["lr"] = torch.full((), settings.lr, device="cuda")
    return optimizer
