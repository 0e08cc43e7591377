"""Batched crops and flips of uint8 images: every image gets its own offsets, without a Python loop."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ltk.data.views.batching import choose


def pad(images_BCHW: Tensor, padding: int, mode: str = "constant") -> Tensor:
    """Return the images with ``padding`` pixels on every side.

    Args:
        images_BCHW: uint8 images.
        padding: pixels; 0 returns the images themselves.
        mode: "constant" (zeros) or "reflect" (mirrored without repeating the edge).
    """
    if padding == 0:
        return images_BCHW
    widths = (padding,) * 4
    if mode == "constant":
        return F.pad(images_BCHW, widths)
    # Reflection of uint8 is missing on some devices; float32 holds 0..255 exactly.
    return F.pad(images_BCHW.float(), widths, mode=mode).to(images_BCHW.dtype)


def crop_flip(images_BCHW: Tensor, top_B: Tensor, left_B: Tensor, flip_B: Tensor | None, size: int) -> Tensor:
    """Cut one square out of each image and mirror some of the squares left to right.

    All windows of the batch are rows of one overlapping strided view, so that a single ``index_select`` copies them.

    Args:
        images_BCHW: images of any dtype, already padded.
        top_B: int64 first row of each window, in [0, H - size].
        left_B: int64 first column of each window before mirroring, in [0, W - size].
        flip_B: bool, which windows are mirrored; None for none of them.
        size: side of the windows in pixels.

    Returns:
        crops_BCHW of side ``size`` in fresh memory, the dtype unchanged.
    """
    B, C, H, W = images_BCHW.shape
    planes = images_BCHW.contiguous()
    num_windows = planes.numel() - ((size - 1) * W + size) + 1
    windows = planes.as_strided((num_windows, size, size), (1, W, 1))
    plane_BC = torch.arange(B * C, device=top_B.device).view(B, C)
    start_BC = plane_BC * (H * W) + (top_B * W + left_B)[:, None]
    crops_BCHW = windows.index_select(0, start_BC.view(-1)).view(B, C, size, size)
    return crops_BCHW if flip_B is None else choose(flip_B, crops_BCHW.flip(3), crops_BCHW)


def centre_crop(images_BCHW: Tensor, size: int) -> Tensor:
    """Return the central square of side ``size``, a view of the input (torchvision's rounding)."""
    H, W = images_BCHW.shape[-2:]
    top, left = round((H - size) / 2.0), round((W - size) / 2.0)
    return images_BCHW[..., top : top + size, left : left + size]
