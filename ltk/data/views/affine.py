"""Batched affine warps of uint8 images, each with its own matrix, by Pillow's conventions.

A matrix (a, b, c, d, e, f) says where an output pixel comes from: the pixel whose centre is (x, y) is read at
(a x + b y + c, d x + e y + f). Points outside the image take the fill colour.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ltk.data.views.batching import constant


def _source_points(matrix_B6: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Return the x_BHW and y_BHW to read, float64 so that every device rounds alike."""
    a, b, c, d, e, f = (column.view(-1, 1, 1) for column in matrix_B6.double().unbind(1))
    x_W = torch.arange(width, dtype=torch.float64, device=matrix_B6.device) + 0.5
    y_H1 = (torch.arange(height, dtype=torch.float64, device=matrix_B6.device) + 0.5).view(-1, 1)
    return a * x_W + b * y_H1 + c, d * x_W + e * y_H1 + f


def _gather(planes_BCN: Tensor, row_Bx: Tensor, col_Bx: Tensor, width: int) -> Tensor:
    """Return the pixels [B, C, ...] of every channel at rows and columns of shape [B, ...]."""
    B, C, _ = planes_BCN.shape
    index_Bx = row_Bx * width + col_Bx
    return planes_BCN.gather(2, index_Bx.view(B, 1, -1).expand(-1, C, -1)).view(B, C, *index_Bx.shape[1:])


def _fill_outside(images_BCHW: Tensor, x_BHW: Tensor, y_BHW: Tensor, fill: tuple[int, ...]) -> Tensor:
    C, H, W = images_BCHW.shape[1:]
    inside_BHW = (x_BHW >= 0) & (x_BHW < W) & (y_BHW >= 0) & (y_BHW < H)
    colour_C11 = constant(fill[:C], torch.uint8, images_BCHW.device).view(-1, 1, 1)
    return torch.where(inside_BHW[:, None], images_BCHW, colour_C11)


def warp_nearest(images_BCHW: Tensor, matrix_B6: Tensor, fill: tuple[int, ...]) -> Tensor:
    """Warp uint8 images, taking the nearest pixel.

    Args:
        images_BCHW: uint8 images.
        matrix_B6: one matrix per image.
        fill: one level per channel; those beyond the images' channels are ignored.
    """
    B, C, H, W = images_BCHW.shape
    x_BHW, y_BHW = _source_points(matrix_B6, H, W)
    col_BHW = x_BHW.floor().clamp(0, W - 1).long()
    row_BHW = y_BHW.floor().clamp(0, H - 1).long()
    warped = _gather(images_BCHW.reshape(B, C, H * W), row_BHW, col_BHW, W)
    return _fill_outside(warped, x_BHW, y_BHW, fill)


def _tap_weights(fraction: Tensor, cubic_B: Tensor) -> Tensor:
    """Return the weights [B, 4, H, W] of the 4 pixels around a point: Pillow's cubic (a = -1) or linear."""
    t, zero = fraction, torch.zeros_like(fraction)
    square, cube = t * t, t * t * t
    cubic = torch.stack([2 * square - t - cube, 1 - 2 * square + cube, t + square - cube, cube - square], 1)
    linear = torch.stack([zero, 1 - t, t, zero], 1)
    return torch.where(cubic_B.view(-1, 1, 1, 1), cubic, linear)


def _taps(position_BHW: Tensor, extent: int, cubic_B: Tensor) -> tuple[Tensor, Tensor]:
    """Return the indices (edges repeated) and weights, both [B, 4, H, W], of the pixels around each point."""
    first_BHW = (position_BHW - 0.5).floor()
    weight = _tap_weights((position_BHW - 0.5 - first_BHW).float(), cubic_B)
    offset_4 = torch.arange(-1, 3, device=position_BHW.device).view(4, 1, 1)
    return (first_BHW[:, None].long() + offset_4).clamp(0, extent - 1), weight


def warp_smooth(images_BCHW: Tensor, matrix_B6: Tensor, cubic_B: Tensor, fill: tuple[int, ...]) -> Tensor:
    """Warp uint8 images with bicubic or bilinear interpolation, edges repeated within half a pixel.

    Args:
        images_BCHW: uint8 images.
        matrix_B6: one matrix per image.
        cubic_B: bool, bicubic where true and bilinear elsewhere.
        fill: one level per channel; those beyond the images' channels are ignored.
    """
    B, C, H, W = images_BCHW.shape
    x_BHW, y_BHW = _source_points(matrix_B6, H, W)
    col_B4HW, weight_x = _taps(x_BHW, W, cubic_B)
    row_B4HW, weight_y = _taps(y_BHW, H, cubic_B)
    planes_BCN = images_BCHW.reshape(B, C, H * W).float()
    total = torch.zeros(B, C, H, W, device=images_BCHW.device)
    for tap in range(4):
        pixels_BC4HW = _gather(planes_BCN, row_B4HW[:, tap, None], col_B4HW, W)
        total += (pixels_BC4HW * weight_x[:, None]).sum(2) * weight_y[:, tap, None]
    return _fill_outside(total.clamp_(0, 255).to(torch.uint8), x_BHW, y_BHW, fill)
