"""Batched colour operations on uint8 images, with the arithmetic of torchvision's tensor kernels.

Every blend is ``factor * image + (1 - factor) * reference``, clamped and truncated, with each image's own factor.
Images of one channel count as grey.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ltk.data.views.batching import apply_where, constant, divide, per_image

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)


def luma(levels_BCHW: Tensor) -> Tensor:
    """Return the grey levels [B, 1, H, W] as float32 integers (ITU-R 601 weights, truncated)."""
    if levels_BCHW.shape[1] == 1:
        return levels_BCHW.float()
    red, green, blue = levels_BCHW.float().unbind(1)
    return (0.2989 * red + 0.587 * green + 0.114 * blue).floor_().unsqueeze(1)


def mean_luma(grey_B1HW: Tensor) -> Tensor:
    """Return the mean of each image's grey levels as [B]; sums of whole numbers are exact up to 256x256 pixels."""
    return divide(grey_B1HW.sum((1, 2, 3)), grey_B1HW[0].numel())


def blend(levels_BCHW: Tensor, reference: Tensor, factor_B: Tensor) -> Tensor:
    """Return ``factor * levels + (1 - factor) * reference`` in [0, 255], truncated, as float32.

    Where image and reference are equal the sum is a whole number but for rounding, and the truncation shows it: so
    1 - factor is rounded to float32 once, as in torchvision.
    """
    factor_B111, rest_B111 = per_image(factor_B.float()), per_image((1.0 - factor_B.double()).float())
    return (levels_BCHW * factor_B111).add_(reference * rest_B111).clamp_(0, 255).floor_()


def grayscale(images_BCHW: Tensor) -> Tensor:
    """Return the uint8 images without colour, channels kept."""
    return luma(images_BCHW).to(torch.uint8).expand_as(images_BCHW)


def saturate(images_BCHW: Tensor, factor_B: Tensor) -> Tensor:
    """Change the saturation of uint8 images: 0 is grey, 1 unchanged."""
    return blend(images_BCHW.float(), luma(images_BCHW), factor_B).to(torch.uint8)


def sharpen(images_BCHW: Tensor, factor_B: Tensor) -> Tensor:
    """Change the sharpness of uint8 images: 0 is smoothed (3x3, centre 5/13), 1 unchanged; the border stays."""
    levels = images_BCHW.float()
    rows = levels[:, :, :-2] + levels[:, :, 1:-1] + levels[:, :, 2:]
    box = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]
    smooth = levels.clone()
    smooth[..., 1:-1, 1:-1] = ((box + 4 * levels[..., 1:-1, 1:-1]) / 13).round_()
    return blend(levels, smooth, factor_B).to(torch.uint8)


def _rotate_hue(levels_BCHW: Tensor, turn_B: Tensor) -> Tensor:
    """Add ``turn_B`` (parts of a full circle) to the hue of float32 levels; RGB to HSV and back."""
    rgb = divide(levels_BCHW, 255)
    red, green, blue = rgb.unbind(1)
    high, low = rgb.amax(1), rgb.amin(1)
    chroma = high - low
    divisor = torch.where(chroma == 0, torch.ones_like(chroma), chroma)
    sector = torch.where(
        high == red,
        (green - blue) / divisor,
        torch.where(high == green, (blue - red) / divisor + 2.0, (red - green) / divisor + 4.0),
    )
    sixths_B1HW = ((sector + 6.0 * turn_B.view(-1, 1, 1)) % 6.0).unsqueeze(1)
    offset_C11 = constant((5.0, 3.0, 1.0), torch.float32, rgb.device).view(-1, 1, 1)
    k = (sixths_B1HW + offset_C11) % 6.0
    turned = high.unsqueeze(1) - chroma.unsqueeze(1) * torch.minimum(k, 4.0 - k).clamp_(0.0, 1.0)
    return (turned * (256 - 1e-3)).floor_().clamp_(0, 255)


def jitter(images_BCHW: Tensor, factor_BJ: Tensor, order_BJ: Tensor) -> Tensor:
    """Change brightness, contrast, saturation and hue, in each image's own order (torchvision's ColorJitter).

    Args:
        images_BCHW: uint8 images.
        factor_BJ: float32 factors of brightness, contrast, saturation (>= 0) and, when J is 4, the turn of the hue in
            [-0.5, 0.5].
        order_BJ: int64, in each row a permutation of 0..J-1: which operation comes first, second, ...
    """
    levels = images_BCHW.float()
    has_colour = images_BCHW.shape[1] == 3
    for operation_B in order_BJ.unbind(1):
        factor_B = factor_BJ.gather(1, operation_B[:, None]).squeeze(1)
        is_hue_B = operation_B == HUE
        is_idle_B = is_hue_B if has_colour else is_hue_B | (operation_B == SATURATION)
        grey = luma(levels)
        mean_B = mean_luma(grey) * (operation_B == CONTRAST)
        reference = grey * per_image(operation_B == SATURATION) + per_image(mean_B)
        levels = blend(levels, reference, torch.where(is_idle_B, 1.0, factor_B))
        if factor_BJ.shape[1] > HUE and has_colour:
            levels = apply_where(is_hue_B, _rotate_hue, levels, factor_B)
    return levels.to(torch.uint8)
