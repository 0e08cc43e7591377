"""The running average of a network's weights, which is evaluated and kept in their place (``optim.ema``)."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from ltk.methods.base import Method


class WeightAverage:
    """Exponential moving average of all that inference needs, batch statistics included (Polyak and Juditsky 1992).

    Args:
        method: the network in training.
        decay: share of the average that stays at every update, in (0, 1).

    Attributes:
        network: a copy with the averaged weights; what only training needs is as it was at the start, or at the last
            resume.
    """

    def __init__(self, method: Method, decay: float) -> None:
        self.network = copy.deepcopy(method).requires_grad_(False).eval()
        averaged, current = self.tensors(), method.inference_state()
        names = [name for name, value in averaged.items() if value.is_floating_point()]
        self._averaged, self._current = [averaged[name] for name in names], [current[name] for name in names]
        counters = averaged.keys() - set(names)
        self._counters, self._counts = [averaged[name] for name in counters], [current[name] for name in counters]
        self._move = get_ema_multi_avg_fn(decay)

    @torch.no_grad()
    def update(self) -> None:
        """Move towards the current weights; what only counts is copied."""
        self._move(self._averaged, self._current, None)
        if self._counts:
            torch._foreach_copy_(self._counters, self._counts)

    def tensors(self) -> dict[str, Tensor]:
        """Return the averaged tensors by name."""
        return self.network.inference_state()

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from the tensors of a checkpoint."""
        for name, value in self.tensors().items():
            value.copy_(tensors[name])
