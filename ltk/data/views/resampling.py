"""Resizing and blurring, each image with its own box or width.

Resizing is a small matrix per image and axis, applied by batched products. Exact equality with torchvision needs them
in float32 (``torch.set_float32_matmul_precision("highest")``, the default); with TF32 values can differ by one level.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from ltk.data.views.batching import has_static_shapes
from ltk.data.views.geometry import pad

_LARGE = 64 * 64  # pixels from which a CPU resizes image by image: the matrices grow with the cube of the side
_MAX_PRECISION = 16  # 255 * 2**16 < 2**24: sums of integer products stay exact in float32


def _bilinear_weights(start_B: Tensor, length_B: Tensor, size: int, extent: int) -> tuple[Tensor, Tensor]:
    """Return integer-valued weights [B, size, extent] and the power of two [B, 1, 1] that they add up to.

    The triangle filter of Pillow, widened when shrinking, on 16-bit fixed-point weights like torch's uint8 kernel.
    """
    device = start_B.device
    scale_B = (length_B.double() / size).view(-1, 1, 1)
    centre_BO1 = (torch.arange(size, dtype=torch.float64, device=device).view(1, -1, 1) + 0.5) * scale_B
    place_B1I = torch.arange(extent, device=device) - start_B.view(-1, 1, 1)
    inside_B1I = (place_B1I >= 0) & (place_B1I < length_B.view(-1, 1, 1))
    distance_BOI = (place_B1I + 0.5 - centre_BO1).abs() / scale_B.clamp(min=1.0)
    weights_BOI = (1.0 - distance_BOI).clamp(min=0.0) * inside_B1I
    weights_BOI = weights_BOI / weights_BOI.sum(2, keepdim=True)
    largest_B = weights_BOI.amax((1, 2), keepdim=True)
    precision_B = (torch.log2((2**15 - 0.5) / largest_B).ceil() - 1).clamp(max=_MAX_PRECISION)
    unit_B = (1 << precision_B.long()).double()
    return torch.floor(weights_BOI * unit_B + 0.5).float(), unit_B.float()


def _round_down(sums: Tensor, unit_B: Tensor) -> Tensor:
    return torch.floor((sums + 0.5 * unit_B) / unit_B).clamp_(0, 255)


def _resize_by_matrices(images_BCHW: Tensor, box_B4: Tensor, size: int) -> Tensor:
    B, C, H, W = images_BCHW.shape
    top_B, left_B, height_B, width_B = box_B4.unbind(1)
    cols_BOW, unit_cols_B = _bilinear_weights(left_B, width_B, size, W)
    rows_BOH, unit_rows_B = _bilinear_weights(top_B, height_B, size, H)
    narrow_BNO = torch.bmm(images_BCHW.reshape(B, C * H, W).float(), cols_BOW.mT)
    narrow_BCHO = _round_down(narrow_BNO, unit_cols_B).view(B, C, H, size)
    resized_BCOO = _round_down(torch.matmul(rows_BOH[:, None], narrow_BCHO), unit_rows_B[:, None])
    return resized_BCOO.to(torch.uint8)


def resize_each(images: Iterable[Tensor], box_B4: Tensor, size: int) -> Tensor:
    """Do as ``resize_crop``, image by image: uint8 [C, H, W] each of its own shape, in torchvision's own kernel."""
    resized = [
        F.interpolate(image[None, :, i : i + h, j : j + w], (size, size), mode="bilinear", antialias=True)
        for image, (i, j, h, w) in zip(images, box_B4.tolist(), strict=True)
    ]
    return torch.cat(resized)


def resize_crop(images_BCHW: Tensor, box_B4: Tensor, size: int) -> Tensor:
    """Cut a box out of each image and resize it to a square, antialiased bilinear, as Pillow does.

    Args:
        images_BCHW: uint8 images.
        box_B4: int64 (top, left, height, width), inside the image.
        size: side of the output in pixels.

    Returns:
        uint8 [B, C, size, size]; equal to torchvision's uint8 kernel, except within one level where the box is more
        than four times as long as ``size``.
    """
    H, W = images_BCHW.shape[-2:]
    if H * W > _LARGE and not has_static_shapes(images_BCHW.device):
        return resize_each(images_BCHW, box_B4, size)
    return _resize_by_matrices(images_BCHW, box_B4, size)


def gaussian_blur(images_BCHW: Tensor, sigma_B: Tensor, max_sigma: float = 2.0) -> Tensor:
    """Blur each image with its own Gaussian, edges reflected, results rounded (torchvision's ``gaussian_blur``).

    Args:
        images_BCHW: uint8 images.
        sigma_B: float32 standard deviations in pixels, > 0.
        max_sigma: the largest of them; the kernel has 2 * ceil(3 * max_sigma) + 1 taps, fewer in tiny images.
    """
    B, C, H, W = images_BCHW.shape
    radius = min(math.ceil(3 * max_sigma), H - 1, W - 1)
    offset_T = torch.arange(-radius, radius + 1, device=sigma_B.device)
    tap_BT = torch.exp(-0.5 * (offset_T / sigma_B[:, None]) ** 2)
    tap_NT = (tap_BT / tap_BT.sum(1, keepdim=True)).repeat_interleave(C, 0, output_size=B * C)
    planes_1NHW = pad(images_BCHW.float(), radius, "reflect").view(1, B * C, H + 2 * radius, W + 2 * radius)
    across = F.conv2d(planes_1NHW, tap_NT[:, None, None, :], groups=B * C)
    blurred = F.conv2d(across, tap_NT[:, None, :, None], groups=B * C).view(B, C, H, W)
    return blurred.round_().clamp_(0, 255).to(torch.uint8)
