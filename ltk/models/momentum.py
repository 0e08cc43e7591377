"""A copy of a network that follows it slowly (He et al.: "Momentum contrast", 2020, equation 2)."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import TypeVar

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

_Module = TypeVar("_Module", bound=nn.Module)


def create_momentum_copy(module: _Module) -> _Module:
    """Return a copy with its own parameters and buffers, without gradients."""
    return copy.deepcopy(module).requires_grad_(False)


@torch.no_grad()
def update_momentum_copy(copies: Iterable[nn.Module], modules: Iterable[nn.Module], momentum: float) -> None:
    """Move every parameter of the copies by ``1 - momentum`` of the way towards its original, in one call.

    Buffers stay: a copy keeps the BatchNorm statistics of what it saw itself.

    Args:
        copies: of ``create_momentum_copy``, changed in place.
        modules: their originals, in the same order.
        momentum: in [0, 1]; 1 never moves.
    """
    followers = [parameter for module in copies for parameter in module.parameters()]
    leaders = [parameter for module in modules for parameter in module.parameters()]
    get_ema_multi_avg_fn(momentum)(followers, leaders, 0)
