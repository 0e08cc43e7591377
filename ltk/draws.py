"""Random numbers as pure functions of integer keys.

A key is an int64 tensor. ``fold`` derives keys from a key and words (epoch, position, draw number), and ``uniform``,
``normal``, ``randint`` and ``beta`` turn a key into numbers. Nothing is stored, so a resumed run draws what the
uninterrupted run draws, one process draws what several draw together, and a CPU draws the same bits as a GPU.

The mixing function is splitmix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed 64-bit integer
_FIRST = -4658895280553007687  # 0xBF58476D1CE4E5B9
_SECOND = -7723592293110705685  # 0x94D049BB133111EB
_BETA_TABLE_SIZE = 1 << 14
_BETA_TABLES: dict[tuple[float, torch.device], Tensor] = {}


def _shift_right(x: Tensor, bits: int) -> Tensor:
    """Logical right shift of int64 (torch shifts the sign in)."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _wrap(value: int) -> int:
    """The signed 64-bit integer congruent to ``value``: what tensor arithmetic would have given."""
    return (value + (1 << 63)) % (1 << 64) - (1 << 63)


def _mix(x: Tensor) -> Tensor:
    x = (x ^ _shift_right(x, 30)) * _FIRST
    x = (x ^ _shift_right(x, 27)) * _SECOND
    return x ^ _shift_right(x, 31)


def make_key(seed: int, device: torch.device | str = "cpu") -> Tensor:
    """Return the 0-dim root key of a seed."""
    return _mix(torch.tensor(_wrap(seed + _GOLDEN), dtype=torch.int64, device=device))


def fold(key: Tensor, *words: int | Tensor) -> Tensor:
    """Derive a key from ``key`` and each word in turn; int64 tensors broadcast.

    Args:
        key: int64 keys of any shape.
        words: integers or int64 tensors.
    """
    for word in words:
        step = (word + 1) * _GOLDEN
        key = _mix(key + (step if isinstance(step, Tensor) else _wrap(step)))
    return key


def _lanes(key: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Independent keys of shape ``key.shape + shape``."""
    lane = torch.arange(math.prod(shape), device=key.device).view(shape)
    return fold(key.reshape(key.shape + (1,) * len(shape)), lane)


def uniform(key: Tensor, *shape: int) -> Tensor:
    """Return float32 in [0, 1), 24 random bits each, of shape ``key.shape + shape``."""
    return _shift_right(_lanes(key, shape), 40).to(torch.float32) * 2.0**-24


def randint(key: Tensor, high: int | Tensor, *shape: int) -> Tensor:
    """Return int64 in [0, high) of shape ``key.shape + shape``; ``high`` < 2**31."""
    return (_shift_right(_lanes(key, shape), 33) * high) >> 31


def normal(key: Tensor, *shape: int) -> Tensor:
    """Return standard normal float32 of shape ``key.shape + shape`` (Box-Muller)."""
    radius = torch.sqrt(-2.0 * torch.log1p(-uniform(fold(key, 0), *shape)))
    return radius * torch.cos(2.0 * math.pi * uniform(fold(key, 1), *shape))


def permutation(key: Tensor, size: int) -> Tensor:
    """Return a random order of 0..size-1 as int64, from a 0-dim key."""
    return torch.argsort(fold(key, torch.arange(size, device=key.device)), stable=True)


def _beta_quantiles(alpha: float, device: torch.device) -> Tensor:
    """Made once; kept in a plain dictionary, because torch.compile traces through a functools cache."""
    if (alpha, device) not in _BETA_TABLES:
        from scipy.special import betaincinv

        grid = torch.linspace(0, 1, _BETA_TABLE_SIZE + 1, dtype=torch.float64)
        quantiles = betaincinv(alpha, alpha, grid.numpy())
        _BETA_TABLES[alpha, device] = torch.as_tensor(quantiles, dtype=torch.float32, device=device)
    return _BETA_TABLES[alpha, device]


def beta(key: Tensor, alpha: float, *shape: int) -> Tensor:
    """Return Beta(alpha, alpha) float32 of shape ``key.shape + shape``, by inverse distribution function.

    Args:
        key: int64 keys.
        alpha: > 0; 1 is the uniform distribution and exact, others interpolate a table of 16,384 quantiles.
        shape: extra trailing dimensions.
    """
    u = uniform(key, *shape)
    if alpha == 1:
        return u
    table = _beta_quantiles(float(alpha), key.device)
    place = u * _BETA_TABLE_SIZE
    left = place.long()
    return torch.lerp(table.take(left), table.take(left + 1), place - left)  # table[left] would wait for the device


def mixing(key: Tensor, size: int, alpha: float) -> tuple[Tensor, Tensor]:
    """Return what mixup of a batch needs: one weight from Beta(alpha, alpha), and the partner_B of every image.

    Args:
        key: 0-dim, one per step.
        size: B, images in the batch.
        alpha: > 0.
    """
    return beta(fold(key, 0), alpha), permutation(fold(key, 1), size)
