"""The random steps that views are made of: each draws its parameters from the samples' keys and applies them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ltk import draws
from ltk.data.views import autoaugment, colour, geometry, resampling
from ltk.data.views.batching import apply_where, choose, constant

Step = Callable[[Tensor, Tensor], Tensor]
"""``(images_BCHW, key_B) -> images_BCHW``, both uint8; the input is not changed."""

_ATTEMPTS = 10  # as in torchvision's RandomResizedCrop


def centre_crop(size: int) -> Step:
    """Cut out the central square."""
    return lambda images_BCHW, key_B: geometry.centre_crop(images_BCHW, size)


def flip(images_BCHW: Tensor, key_B: Tensor) -> Tensor:
    """Mirror left to right with probability 1/2."""
    return choose(draws.randint(key_B, 2) == 1, images_BCHW.flip(3), images_BCHW)


def random_crop(size: int, padding: int, *, flip: bool) -> Step:
    """Cut a square out of the zero-padded image, uniformly; with ``flip``, mirror it with probability 1/2."""

    def step(images_BCHW: Tensor, key_B: Tensor) -> Tensor:
        padded = geometry.pad(images_BCHW, padding)
        H, W = padded.shape[-2:]
        choices = constant((H - size + 1, W - size + 1, 2), torch.int64, key_B.device)
        top_B, left_B, coin_B = draws.randint(key_B, choices, 3).unbind(-1)
        return geometry.crop_flip(padded, top_B, left_B, coin_B == 1 if flip else None, size)

    return step


def draw_resized_crop(
    key_B: Tensor, height_B: Tensor, width_B: Tensor, scale: tuple[float, float], ratio: tuple[float, float]
) -> Tensor:
    """Draw the boxes of torchvision's RandomResizedCrop: the first of ten that fits, else a central one.

    Args:
        key_B: int64 keys.
        height_B: int64, of each image in pixels, or [1]: of all of them.
        width_B: likewise.
        scale: smallest and largest part of the area.
        ratio: smallest and largest width / height, drawn on a logarithmic scale.

    Returns:
        box_B4: int64 (top, left, height, width).
    """
    chance_BD = draws.uniform(key_B, 2 * _ATTEMPTS + 2).double()
    area_BA, shape_BA, place_B2 = chance_BD.split([_ATTEMPTS, _ATTEMPTS, 2], 1)
    area_BA = (height_B * width_B)[:, None] * (scale[0] + (scale[1] - scale[0]) * area_BA)
    low, high = math.log(ratio[0]), math.log(ratio[1])
    aspect_BA = torch.exp(low + (high - low) * shape_BA)
    box_width_BA = torch.sqrt(area_BA * aspect_BA).round().long()
    box_height_BA = torch.sqrt(area_BA / aspect_BA).round().long()
    fits_across_BA = (box_width_BA > 0) & (box_width_BA <= width_B[:, None])
    fits_BA = fits_across_BA & (box_height_BA > 0) & (box_height_BA <= height_B[:, None])
    is_first_BA = fits_BA & (fits_BA.cumsum(1) == 1)
    none_fits_B = ~fits_BA.any(1)
    central_height_B = torch.minimum(height_B, (width_B.double() / ratio[0]).round().long())
    central_width_B = torch.minimum(width_B, (height_B.double() * ratio[1]).round().long())
    box_height_B = (box_height_BA * is_first_BA).sum(1) + central_height_B * none_fits_B
    box_width_B = (box_width_BA * is_first_BA).sum(1) + central_width_B * none_fits_B
    slack_B2 = torch.stack([height_B - box_height_B, width_B - box_width_B], 1)
    start_B2 = torch.where(none_fits_B[:, None], slack_B2 // 2, (place_B2 * (slack_B2 + 1)).long())
    return torch.cat([start_B2, box_height_B[:, None], box_width_B[:, None]], 1)


@dataclass(frozen=True)
class ResizedCrop:
    """A step: cut out a box of random area and shape and resize it to a square, antialiased bilinear.

    As the first step of a view it can also be taken from whole images, each of its own shape; see ``cut``.

    Attributes:
        size: side of the square in pixels.
        scale: smallest and largest part of the area.
        ratio: smallest and largest width / height.
        border: pixels mirrored outwards on every side beforehand.
    """

    size: int
    scale: tuple[float, float]
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    border: int = 0

    def __call__(self, images_BCHW: Tensor, key_B: Tensor) -> Tensor:
        """Return the squares of a batch."""
        padded = geometry.pad(images_BCHW, self.border, "reflect")
        height_1, width_1 = (constant((side,), torch.int64, key_B.device) for side in padded.shape[-2:])
        box_B4 = draw_resized_crop(key_B, height_1, width_1, self.scale, self.ratio)
        return resampling.resize_crop(padded, box_B4, self.size)

    def cut(self, images: Sequence[Tensor], key_B: Tensor) -> Tensor:
        """Return the squares of images on the CPU, uint8 [C, H, W] each, as [B, C, size, size]."""
        padded = [geometry.pad(image[None], self.border, "reflect")[0] for image in images]
        height_B, width_B = torch.tensor([image.shape[-2:] for image in padded]).unbind(1)
        box_B4 = draw_resized_crop(key_B, height_B, width_B, self.scale, self.ratio)
        return resampling.resize_each(padded, box_B4, self.size)


def draw_jitter(key_B: Tensor, strength: tuple[float, float, float, float]) -> tuple[Tensor, Tensor]:
    """Draw what ``colour.jitter`` takes; without a change of hue only three operations are in the order.

    Args:
        key_B: int64 keys.
        strength: of brightness, contrast and saturation (factors in 1 +- strength, at least 0) and hue (turn in
            +- strength).
    """
    brightness, contrast, saturation, hue = strength
    spans = [(max(0.0, 1 - s), 1 + s) for s in (brightness, contrast, saturation)] + [(-hue, hue)] * (hue > 0)
    low = constant(tuple(a for a, _ in spans), torch.float32, key_B.device)
    length = constant(tuple(b - a for a, b in spans), torch.float32, key_B.device)
    chance_B2J = draws.uniform(key_B, 2, len(spans))
    order_BJ = torch.argsort(chance_B2J[:, 1], dim=1, stable=True)
    return low + length * chance_B2J[:, 0], order_BJ


def colour_jitter(strength: tuple[float, float, float, float], probability: float = 1.0) -> Step:
    """Change brightness, contrast, saturation and hue in random order; see ``draw_jitter``."""

    def step(images_BCHW: Tensor, key_B: Tensor) -> Tensor:
        factor_BJ, order_BJ = draw_jitter(draws.fold(key_B, 0), strength)
        happens_B = draws.uniform(draws.fold(key_B, 1)) < probability
        return apply_where(happens_B, colour.jitter, images_BCHW, factor_BJ, order_BJ)

    return step


def random_grayscale(probability: float) -> Step:
    """Take the colour away, with a probability."""

    def step(images_BCHW: Tensor, key_B: Tensor) -> Tensor:
        return apply_where(draws.uniform(key_B) < probability, colour.grayscale, images_BCHW)

    return step


def random_blur(probability: float, sigma: tuple[float, float] = (0.1, 2.0)) -> Step:
    """Blur with a Gaussian of uniformly drawn width, with a probability."""

    def blur(images_BCHW: Tensor, sigma_B: Tensor) -> Tensor:
        return resampling.gaussian_blur(images_BCHW, sigma_B, sigma[1])

    def step(images_BCHW: Tensor, key_B: Tensor) -> Tensor:
        chance_B, width_B = draws.uniform(key_B, 2).unbind(1)
        return apply_where(chance_B < probability, blur, images_BCHW, sigma[0] + (sigma[1] - sigma[0]) * width_B)

    return step


def cutout(length: int) -> Step:
    """Blacken a square around a uniformly drawn pixel, cut off at the border (https://arxiv.org/abs/1708.04552)."""

    def step(images_BCHW: Tensor, key_B: Tensor) -> Tensor:
        H, W = images_BCHW.shape[-2:]
        y_B, x_B = draws.randint(key_B, constant((H, W), torch.int64, key_B.device), 2).unbind(1)
        row_BH = torch.arange(H, device=key_B.device) - y_B[:, None] + length // 2
        col_BW = torch.arange(W, device=key_B.device) - x_B[:, None] + length // 2
        in_rows_BH = (row_BH >= 0) & (row_BH < 2 * (length // 2))
        in_cols_BW = (col_BW >= 0) & (col_BW < 2 * (length // 2))
        return images_BCHW * ~(in_rows_BH[:, None, :, None] & in_cols_BW[:, None, None, :])

    return step


def autoaugment_cifar10(variant: str, fill: int) -> Step:
    """AutoAugment's CIFAR-10 policy; see ``ltk.data.views.autoaugment``."""
    return lambda images_BCHW, key_B: autoaugment.autoaugment_cifar10(images_BCHW, key_B, variant, fill)


def randaugment(num_layers: int, level: float, *, fill: tuple[int, ...]) -> Step:
    """RandAugment as timm's ``rand-m{level}-n{num_layers}-mstd0.5``; see ``ltk.data.views.autoaugment``."""
    return lambda images_BCHW, key_B: autoaugment.randaugment(images_BCHW, key_B, num_layers, level, fill)
