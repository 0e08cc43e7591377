"""The operations of AutoAugment and RandAugment, each image with its own operation and argument.

Operations that share a kernel run together: warps, look-up tables (each value of a channel maps to another), the colour
blend and the sharpness blend. So the cost does not grow with the number of operations, and no shape depends on draws.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ltk.data.views import affine, colour
from ltk.data.views.batching import apply_where, constant

WARPS = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate")
TABLES = (
    "brightness",
    "contrast",
    "posterize",
    "solarize",
    "solarize_add",
    "invert",
    "autocontrast",
    "equalize",
)
OPERATIONS = (*WARPS, *TABLES, "colour", "sharpness")
OPERATION_ID = {name: i for i, name in enumerate(OPERATIONS)}


@dataclass(frozen=True)
class Palette:
    """The operations that one layer can draw, and how its warps read between pixels.

    Attributes:
        operations: names of ``OPERATIONS``; kernels that none of them needs are left out.
        smooth: the warps that interpolate; the others take the nearest pixel.
        fill: levels of the points outside the image, one per channel.
    """

    operations: frozenset[str]
    smooth: frozenset[str]
    fill: tuple[int, ...]


def warp_matrix(operation_B: Tensor, argument_B: Tensor, height: int, width: int) -> Tensor:
    """Return matrix_B6 (see ``ltk.data.views.affine``) of the warps.

    Args:
        operation_B: int64 ids below ``len(WARPS)``; others give an arbitrary matrix.
        argument_B: shear as a slope, translation in pixels, rotation in degrees counter-clockwise.
        height: of the images, in pixels.
        width: likewise.
    """
    value = argument_B.double()
    zero, one = torch.zeros_like(value), torch.ones_like(value)
    radians = torch.where(operation_B == OPERATION_ID["rotate"], -torch.deg2rad(value), zero)
    cos, sin = torch.cos(radians), torch.sin(radians)
    x, y = width / 2, height / 2
    rotate = (cos, sin, x - cos * x - sin * y, -sin, cos, y + sin * x - cos * y)
    candidates = (
        (one, value, zero, zero, one, zero),
        (one, zero, zero, value, one, zero),
        (one, zero, value, zero, one, zero),
        (one, zero, zero, zero, one, value),
        rotate,
    )
    matrices_BO6 = torch.stack([torch.stack(entries, 1) for entries in candidates], 1)
    chosen_B11 = operation_B.clamp(max=len(WARPS) - 1).view(-1, 1, 1)
    return matrices_BO6.gather(1, chosen_B11.expand(-1, 1, 6)).squeeze(1)


def _histogram(images_BCHW: Tensor) -> Tensor:
    flat_BCN = images_BCHW.flatten(2).long()
    counts = torch.zeros(*flat_BCN.shape[:2], 256, dtype=torch.int64, device=images_BCHW.device)
    return counts.scatter_add_(2, flat_BCN, torch.ones_like(flat_BCN))


def _autocontrast_table(images_BCHW: Tensor, values: Tensor) -> Tensor:
    low, high = (f(images_BCHW, (2, 3)).float()[..., None] for f in (torch.amin, torch.amax))
    spread = high - low
    stretched = (values - low) * (255.0 / spread.clamp(min=1.0))
    return torch.where(spread > 0, stretched, values)


def _equalize_table(images_BCHW: Tensor, values: Tensor) -> Tensor:
    counts_BCV = _histogram(images_BCHW)
    below_BCV = counts_BCV.cumsum(2) - counts_BCV
    last_BC1 = counts_BCV.gather(2, images_BCHW.flatten(2).amax(2, keepdim=True).long())
    step_BC1 = (below_BCV[..., -1:] + counts_BCV[..., -1:] - last_BC1) // 255
    table = (below_BCV + step_BC1 // 2) // step_BC1.clamp(min=1)
    return torch.where(step_BC1 > 0, table.float(), values)


def _tables(images_BCHW: Tensor, argument_B: Tensor) -> Tensor:
    """Return float32 [B, len(TABLES), C, 256]: what each value becomes under each operation."""
    B, C = images_BCHW.shape[:2]
    values = torch.arange(256, dtype=torch.float32, device=images_BCHW.device)
    argument = argument_B.float().view(-1, 1, 1)
    rest = (1.0 - argument_B.double()).float().view(-1, 1, 1)
    mean = colour.mean_luma(colour.luma(images_BCHW)).view(-1, 1, 1)
    bucket = (1 << (8 - argument.clamp(0, 8).long())).float()
    tables = (
        argument * values,
        argument * values + rest * mean,
        torch.floor(values / bucket) * bucket,
        torch.where(values >= argument, 255 - values, values),
        torch.where(values < 128, values + argument, values),
        255 - values,
        _autocontrast_table(images_BCHW, values),
        _equalize_table(images_BCHW, values),
    )
    return torch.stack([table.expand(B, C, 256) for table in tables], 1).clamp_(0, 255).floor_()


def _look_up(images_BCHW: Tensor, operation_B: Tensor, argument_B: Tensor) -> Tensor:
    C = images_BCHW.shape[1]
    row_B = (operation_B - len(WARPS)).clamp(0, len(TABLES) - 1).view(-1, 1, 1, 1)
    tables_BTCV = _tables(images_BCHW, argument_B).to(torch.uint8)
    table_BCV = tables_BTCV.gather(1, row_B.expand(-1, 1, C, 256)).squeeze(1)
    return table_BCV.gather(2, images_BCHW.flatten(2).long()).view_as(images_BCHW)


def _saturate(images_BCHW: Tensor, operation_B: Tensor, argument_B: Tensor) -> Tensor:
    return colour.saturate(images_BCHW, argument_B)


def _sharpen(images_BCHW: Tensor, operation_B: Tensor, argument_B: Tensor) -> Tensor:
    return colour.sharpen(images_BCHW, argument_B)


def _is_any(operation_B: Tensor, names: frozenset[str]) -> Tensor:
    member = tuple(float(name in names) for name in (*OPERATIONS, "nothing"))
    return constant(member, torch.bool, operation_B.device)[operation_B]


def _warp(images_BCHW: Tensor, operation_B: Tensor, argument_B: Tensor, cubic_B: Tensor, palette: Palette) -> Tensor:
    H, W = images_BCHW.shape[-2:]
    matrix_B6 = warp_matrix(operation_B, argument_B, H, W)

    def smooth(images: Tensor, matrix: Tensor, cubic: Tensor) -> Tensor:
        return affine.warp_smooth(images, matrix, cubic, palette.fill)

    def nearest(images: Tensor, matrix: Tensor) -> Tensor:
        return affine.warp_nearest(images, matrix, palette.fill)

    warps = palette.operations.intersection(WARPS)
    if warps & palette.smooth:
        images_BCHW = apply_where(_is_any(operation_B, warps & palette.smooth), smooth, images_BCHW, matrix_B6, cubic_B)
    if warps - palette.smooth:
        images_BCHW = apply_where(_is_any(operation_B, warps - palette.smooth), nearest, images_BCHW, matrix_B6)
    return images_BCHW


def apply_operations(
    images_BCHW: Tensor, operation_B: Tensor, argument_B: Tensor, cubic_B: Tensor, palette: Palette
) -> Tensor:
    """Apply one operation to each image.

    Args:
        images_BCHW: uint8 images; not changed.
        operation_B: int64 ids of ``OPERATIONS``, all in the palette; ``len(OPERATIONS)`` leaves the image as it is.
        argument_B: float64; shear slope, pixels, degrees, blend factor (brightness, contrast, colour, sharpness),
            bits kept (posterize), first level inverted (solarize) or levels added below 128 (solarize_add).
        cubic_B: bool, bicubic rather than bilinear in the warps that interpolate.
        palette: which operations can occur, which warps interpolate, and the fill colour.
    """
    images_BCHW = _warp(images_BCHW, operation_B, argument_B, cubic_B, palette)
    kernels = ((TABLES, _look_up), (("colour",), _saturate), (("sharpness",), _sharpen))
    for names, kernel in kernels:
        possible = palette.operations.intersection(names)
        if possible:
            chosen_B = _is_any(operation_B, possible)
            images_BCHW = apply_where(chosen_B, kernel, images_BCHW, operation_B, argument_B)
    return images_BCHW
