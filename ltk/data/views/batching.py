"""Applying an operation to some images of a batch, and small tensors kept on the device."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

_CONSTANTS: dict[tuple[tuple[float, ...], torch.dtype, torch.device], Tensor] = {}


def constant(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return a small 1-D tensor on a device, made once; not to be changed.

    A plain dictionary, because torch.compile looks into one but traces through a functools cache.
    """
    key = (values, dtype, device)
    if key not in _CONSTANTS:
        _CONSTANTS[key] = torch.tensor(values, dtype=dtype, device=device)
    return _CONSTANTS[key]


def has_static_shapes(device: torch.device) -> bool:
    """Whether shapes must not depend on values, as in a captured CUDA graph; the CPU picks the images concerned."""
    return device.type != "cpu"


def divide(values: Tensor, divisor: float) -> Tensor:
    """Return values / divisor rounded once, also on a GPU, where torch multiplies by the rounded reciprocal instead."""
    return values / constant((divisor,), values.dtype, values.device)


def per_image(values_B: Tensor) -> Tensor:
    """Return [B] as [B, 1, 1, 1], to broadcast against images."""
    return values_B.view(-1, 1, 1, 1)


def choose(mask_B: Tensor, if_true_BCHW: Tensor, if_false_BCHW: Tensor) -> Tensor:
    """Return, image by image, the one or the other."""
    if has_static_shapes(mask_B.device):
        return torch.where(per_image(mask_B), if_true_BCHW, if_false_BCHW)
    # Copies of whole images are 5 times as fast on a CPU as torch.where on bytes.
    place_B = torch.arange(len(mask_B)) + len(mask_B) * mask_B
    return torch.cat([if_false_BCHW, if_true_BCHW]).index_select(0, place_B)


def apply_where(mask_B: Tensor, operation: Callable[..., Tensor], images_BCHW: Tensor, *arguments_B: Tensor) -> Tensor:
    """Apply a per-sample operation to the images of a mask and leave the others as they are.

    Args:
        mask_B: bool.
        operation: ``(images, *arguments) -> images`` of the same shape and dtype, each sample on its own.
        images_BCHW: not changed.
        arguments_B: tensors whose first dimension is the batch.
    """
    if has_static_shapes(images_BCHW.device):
        return choose(mask_B, operation(images_BCHW, *arguments_B), images_BCHW)
    chosen_n = mask_B.nonzero().squeeze(1)
    if chosen_n.numel() == 0:
        return images_BCHW
    if chosen_n.numel() == len(mask_B):
        return operation(images_BCHW, *arguments_B)
    changed = operation(images_BCHW[chosen_n], *(argument[chosen_n] for argument in arguments_B))
    place_B = torch.arange(len(mask_B)).index_copy_(0, chosen_n, torch.arange(len(changed)) + len(mask_B))
    return torch.cat([images_BCHW, changed]).index_select(0, place_B)
