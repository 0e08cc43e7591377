"""Full precision where half precision would be felt: in losses, cosines and similarities."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

_AUTOCAST = ("cpu", "cuda", "mps")  # torch.amp.is_autocast_available cannot be compiled before torch 2.12


def at_least_float32(x: Tensor) -> Tensor:
    """Return ``x``, half precision turned into float32; losses need it, and autocast on a CPU does not see to it."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def full_precision(device: torch.device) -> AbstractContextManager[object]:
    """Return a context in which autocast is off."""
    return torch.autocast(device.type, enabled=False) if device.type in _AUTOCAST else nullcontext()
