"""Class-balanced re-weighting by the effective number of images, from the start or deferred.

Cui et al.: "Class-balanced loss based on effective number of samples", CVPR 2019, https://arxiv.org/abs/1901.05555.
Deferred re-weighting (DRW): Cao et al., NeurIPS 2019, https://arxiv.org/abs/1906.07413.

Differs from the official codes:
- deferred re-weighting starts at 80 % of the epochs (officially at epoch 160, and it fails from epoch 320 on);
- the factor of a weighted focal loss comes from the probability, not from ``exp(-weight * loss)``; the official form is
  ``weighted_probability = true``;
- the linear classifier starts as ``nn.Linear`` does; LDAM's code, whose recipe the CIFAR presets take, draws its
  weights from ``kaiming_normal_`` like those of the convolutions.

Suffixes: B batch, C channels, H height, W width, K classes, D features.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from ltk.methods.base import LinearMethod
from ltk.methods.functional import effective_number_weights, focal_loss, sigmoid_focal_loss
from ltk.models.backbones import Backbone
from ltk.numerics import at_least_float32
from ltk.settings import Needs, Settings
from ltk.types import Batch, Progress, StepOutput

_DRW_START = 0.8  # share of the epochs; 160 of 200 in the official code


def deferred_weights(weight_K: Tensor, progress: Progress) -> Tensor:
    """Return ones before 80 % of the epochs, rounded down, and ``weight_K`` from then on (DRW, Cao et al. 2019)."""
    start = int(_DRW_START * progress.epochs)
    return torch.where(progress.epoch >= start, weight_K, torch.ones_like(weight_K))


class ClassBalancedOptions(Settings):
    """Options of class-balanced re-weighting."""

    loss: Literal["ce", "focal", "sigmoid-focal"] = Field("ce", description="what is weighted")
    beta: float = Field(0.9999, ge=0, lt=1, description="of the effective number; 0 weighs classes equally")
    gamma: Annotated[float, Needs(loss=("focal", "sigmoid-focal"))] = Field(
        1.0, ge=0, description="exponent of the focal factor"
    )
    drw: bool = Field(False, description="start the weights at 80 % of the epochs")
    weighted_probability: Annotated[bool, Needs(loss=("focal",))] = Field(
        False, description="focal: the official factor 1 - exp(-weight * loss)"
    )


class ClassBalanced(LinearMethod):
    """Loss weights by the effective number of images, on a linear head.

    Args:
        backbone: features to learn.
        class_counts: class_counts_K, training images of each class, at least 1 each.
        loss: "ce", "focal" or "sigmoid-focal".
        beta: of the effective number.
        gamma: exponent of the focal factor.
        drw: start the weights at 80 % of the epochs.
        weighted_probability: of "focal".
    """

    Options: ClassVar[type[Settings]] = ClassBalancedOptions

    def __init__(
        self,
        backbone: Backbone,
        class_counts: Tensor,
        *,
        loss: str = "ce",
        beta: float = 0.9999,
        gamma: float = 1.0,
        drw: bool = False,
        weighted_probability: bool = False,
    ) -> None:
        super().__init__(backbone, len(class_counts))
        self.weight_K: Tensor
        self.register_buffer("weight_K", effective_number_weights(class_counts, beta).float(), persistent=False)
        self.uses_prior = beta > 0
        self.loss, self.gamma, self.drw, self.weighted_probability = loss, gamma, drw, weighted_probability

    def forward(self, batches: Mapping[str, Batch], progress: Progress) -> StepOutput:
        """Return the weighted loss."""
        batch = batches["main"]
        logits_BK = at_least_float32(self.predict(batch.views[0]))
        weight_K = deferred_weights(self.weight_K, progress) if self.drw else self.weight_K
        return StepOutput(self._weighted(logits_BK, batch.target_B, weight_K), logits_BK.detach())

    def _weighted(self, logits_BK: Tensor, target_B: Tensor, weight_K: Tensor) -> Tensor:
        if self.loss == "ce":
            return F.cross_entropy(logits_BK, target_B, weight_K)
        if self.loss == "sigmoid-focal":
            return sigmoid_focal_loss(logits_BK, target_B, self.gamma, weight_K)
        return focal_loss(logits_BK, target_B, self.gamma, weight_K, weighted_probability=self.weighted_probability)
