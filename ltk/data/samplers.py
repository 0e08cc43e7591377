"""Which training image comes when: an order per epoch that is a pure function of (key, epoch).

Nothing is stored between epochs, so a resumed run continues the same order, and each of several processes takes its
part of the one order that a single process would follow (``ltk.data.loaders``).

Differs from the official code: the class-aware sampler draws classes and images by hashed keys instead of Python's
generator (same properties: each class once per round, each image of a class once per pass, four images per visit).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ltk import draws
from ltk.data.base import IntArray
from ltk.errors import UsageError, unknown_name

FloatArray = npt.NDArray[np.float64]


def power_weights(counts_K: npt.ArrayLike, q: float) -> FloatArray:
    """Return n_c ** -q normalised to sum K (GLMC, main.py resample_weighting): 0 uniform, 1 class-balanced.

    Args:
        counts_K: training images per class.
        q: exponent.
    """
    weights = _positive(counts_K) ** -q
    return weights / weights.sum() * len(weights)


def balanced_weights(counts_K: npt.ArrayLike) -> FloatArray:
    """Return 1 / n_c, not normalised (GCL, BalancedDatasetSampler)."""
    return 1.0 / _positive(counts_K)


def effective_number_weights(counts_K: npt.ArrayLike, beta: float = 0.9999) -> FloatArray:
    """Return (1 - beta) / (1 - beta ** n_c), not normalised (GCL, EffectNumSampler; Cui et al. 2019, eq. 2).

    Args:
        counts_K: training images per class.
        beta: in [0, 1).
    """
    if not 0 <= beta < 1:
        raise UsageError(f"beta {beta:g} of the effective number is not in [0, 1)")
    return (1.0 - beta) / (1.0 - beta ** _positive(counts_K))


def class_effective_number_weights(counts_K: npt.ArrayLike, beta: float = 0.9999, spread: float = 1e-5) -> FloatArray:
    """Return effective-number weights with a beta per class, larger in the tail (GCL, CBEffectNumSampler).

    beta_c = beta + spread * (log n_max - log n_c) / (log n_max - log n_min); classes of equal size all take ``beta``.
    The official code rounds beta_c to float32; these are float64 (relative difference below 1e-4).

    Args:
        counts_K: training images per class.
        beta: of the largest class, in [0, 1).
        spread: beta of the smallest class minus ``beta``.
    """
    counts = _positive(counts_K)
    rarity = np.log(counts.max()) - np.log(counts)
    beta_K = beta + spread * rarity / max(rarity.max(), np.finfo(np.float64).tiny)
    if not 0 <= beta <= beta_K.max() < 1:
        raise UsageError(f"beta {beta:g} + {spread:g} of the effective number is not in [0, 1)")
    return (1.0 - beta_K) / (1.0 - beta_K**counts)


def _positive(counts_K: npt.ArrayLike) -> FloatArray:
    counts = np.asarray(counts_K, dtype=np.float64)
    if not (counts > 0).all():
        raise UsageError(f"class {int(np.argmin(counts > 0))} has no training image: it has no sampling weight")
    return counts


@dataclass(frozen=True)
class Sampler:
    """An order of training images for each epoch.

    Attributes:
        length: images per epoch.
        draw: the order of one epoch from that epoch's key, int64 [length].
    """

    length: int
    draw: Callable[[Tensor], Tensor]

    def order(self, key: Tensor, epoch: int) -> Tensor:
        """Return the positions to visit in an epoch, int64 [length] on the device of ``key``.

        Args:
            key: 0-dim int64 key of the stream (see ``ltk.draws``).
            epoch: counted from 0.
        """
        return self.draw(draws.fold(key, epoch))


def _copies(table: Tensor) -> Callable[[torch.device], Tensor]:
    """Return a function that gives a table on a device; it is copied there once, as a copy waits for the device."""
    return cache(table.to)


def _uniform(labels_N: IntArray, num_samples: int) -> Sampler:
    size = len(labels_N)
    passes = -(-num_samples // size)

    def draw(key: Tensor) -> Tensor:
        return torch.cat([draws.permutation(draws.fold(key, i), size) for i in range(passes)])[:num_samples]

    return Sampler(num_samples, draw)


def _weighted(labels_N: IntArray, num_samples: int, weights_K: FloatArray) -> Sampler:
    edges_N = torch.from_numpy(np.cumsum(weights_K[labels_N]))
    edges_on = _copies(edges_N / edges_N[-1])

    def draw(key: Tensor) -> Tensor:
        coarse = draws.uniform(draws.fold(key, 0), num_samples).double()
        point = coarse + draws.uniform(draws.fold(key, 1), num_samples).double() * 2.0**-24  # 48 random bits
        return torch.searchsorted(edges_on(key.device), point, right=True).clamp_(max=len(labels_N) - 1)

    return Sampler(num_samples, draw)


def _class_aware(labels_N: IntArray, num_samples: int, per_visit: int) -> Sampler:
    """GCL, ClassAwareSampler: visit the classes in random rounds and take ``per_visit`` images at each visit."""
    members_on = _copies(torch.from_numpy(np.argsort(labels_N, kind="stable")))  # class after class
    counts_K: list[int] = np.bincount(labels_N).tolist()
    num_classes = len(counts_K)
    rounds = -(-num_samples // (num_classes * per_visit))

    def draw(key: Tensor) -> Tensor:
        device = key.device
        round_R1 = torch.arange(rounds, device=device)[:, None]
        rank_RK = draws.fold(draws.fold(key, 0), round_R1, torch.arange(num_classes, device=device))
        visited_RK = torch.argsort(rank_RK, dim=1, stable=True)
        place_RV = torch.arange(rounds * per_visit, device=device).view(rounds, per_visit)
        members_K = members_on(device).split(counts_K)
        images = [_cycle(draws.fold(key, 1, c), own, rounds * per_visit) for c, own in enumerate(members_K)]
        return torch.stack(images)[visited_RK[:, :, None], place_RV[:, None, :]].flatten()[:num_samples]

    return Sampler(num_samples, draw)


def _cycle(key: Tensor, members: Tensor, length: int) -> Tensor:
    """Pass over ``members`` until ``length`` are drawn, every pass in a new random order."""
    passes = torch.arange(-(-length // len(members)), device=key.device)[:, None]
    rank = draws.fold(key, passes, torch.arange(len(members), device=key.device))
    return members[torch.argsort(rank, dim=1, stable=True).flatten()[:length]]


WEIGHTS: dict[str, Callable[..., FloatArray]] = {
    "power": power_weights,
    "class-balanced": balanced_weights,
    "effective-number": effective_number_weights,
    "class-effective-number": class_effective_number_weights,
}
SAMPLERS: dict[str, tuple[str, ...]] = {
    "uniform": (),
    "power": ("q",),
    "class-balanced": (),
    "effective-number": ("beta",),
    "class-effective-number": ("beta", "spread"),
    "class-aware": ("per_visit",),
}


def create_sampler(name: str, labels_N: npt.ArrayLike, *, num_samples: int | None = None, **options: Any) -> Sampler:
    """Build a sampler by name.

    Args:
        name: a key of ``SAMPLERS``: uniform (each image once), power (``q``; weight n_c ** -q per image),
            class-balanced (weight 1 / n_c), effective-number (``beta``), class-effective-number (``beta``, ``spread``),
            class-aware (``per_visit`` = 4 images of each class in turn).
        labels_N: class of each training image; every class has at least one.
        num_samples: images per epoch; by default N, and K * max(n_c) for class-aware.
        **options: those of the sampler.

    Raises:
        UsageError: an unknown sampler or option, an option out of range, a class without images.
    """
    if name not in SAMPLERS:
        raise unknown_name("sampler", name, SAMPLERS)
    for option in options:
        if option not in SAMPLERS[name]:
            raise unknown_name(f"option of sampler {name}", option, SAMPLERS[name])
    labels = np.asarray(labels_N, dtype=np.int64)
    counts_K = np.bincount(labels)
    _positive(counts_K)
    if num_samples is None:
        num_samples = len(counts_K) * int(counts_K.max()) if name == "class-aware" else len(labels)
    if num_samples < 1:
        raise UsageError(f"an epoch of {num_samples} images is empty")
    if name == "uniform":
        return _uniform(labels, num_samples)
    if name == "class-aware":
        return _class_aware(labels, num_samples, int(options.get("per_visit", 4)))
    return _weighted(labels, num_samples, WEIGHTS[name](counts_K, **options))
