"""Optimisers, and their state as named tensors."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ltk.config import OptimSettings


def create_optimizer(settings: OptimSettings, parameters: Iterable[nn.Parameter]) -> Optimizer:
    """Build a fused optimiser over the parameters that are learnt; weight decay applies to all of them.

    Its rate is a tensor on their device, which a captured step reads anew.
    """
    learnt = [p for p in parameters if p.requires_grad]
    groups = [{"params": learnt}]  # as a group it may be empty: tau-normalisation learns nothing
    lr = torch.tensor(settings.lr, device=learnt[0].device if learnt else None)
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(
            groups, lr=lr, betas=(settings.momentum, 0.999), weight_decay=settings.weight_decay, fused=True
        )
    sgd = torch.optim.SGD(
        groups,
        lr=lr,
        momentum=settings.momentum,
        nesterov=settings.nesterov,
        weight_decay=settings.weight_decay,
        fused=True,
    )
    if settings.momentum:
        for parameter in learnt:  # left to torch, a first update that is skipped would leave them uninitialised
            sgd.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return sgd


def set_learning_rate(optimizer: Optimizer, lr: float) -> None:
    """Set the rate of every group, in place."""
    for group in optimizer.param_groups:
        group["lr"].fill_(lr)


@contextlib.contextmanager
def allow_capture(optimizer: Optimizer) -> Iterator[None]:
    """Let steps be captured inside: torch refuses an AdamW not marked so, and warns of one that is marked outside."""
    before = [group.get("capturable") for group in optimizer.param_groups]
    for group in optimizer.param_groups:
        group["capturable"] = True
    try:
        yield
    finally:
        for group, value in zip(optimizer.param_groups, before, strict=True):
            group["capturable"] = value


def optimizer_tensors(optimizer: Optimizer) -> dict[str, Tensor]:
    """Return the optimiser's state as ``<parameter number>.<name>`` tensors."""
    state: Mapping[int, Mapping[str, Any]] = optimizer.state_dict()["state"]
    return {
        f"{i}.{name}": torch.as_tensor(value)
        for i, entries in state.items()
        for name, value in entries.items()
        if value is not None
    }


def load_optimizer_tensors(optimizer: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Restore what ``optimizer_tensors`` gave.

    Fused kernels walk parameter, gradient and state side by side in memory, so the state takes its parameter's layout.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        number, _, name = key.partition(".")
        parameter = parameters[int(number)]
        laid_out = torch.empty_like(parameter).copy_(value) if value.shape == parameter.shape else value
        state.setdefault(int(number), {})[name] = laid_out
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
