"""Cross-entropy, with mixup as an option.

Zhang et al.: "mixup: beyond empirical risk minimization", ICLR 2018, https://arxiv.org/abs/1710.09412.

Differs from the official code: the linear classifier starts as ``nn.Linear`` does; LDAM's code, whose recipe the CIFAR
presets take, draws its weights from ``kaiming_normal_`` like those of the convolutions.

Suffixes: B batch, C channels, H height, W width, K classes, D features.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from ltk.methods.base import LinearMethod
from ltk.methods.mixing import mixup_step
from ltk.models.backbones import Backbone
from ltk.settings import Settings
from ltk.types import Batch, Progress, StepOutput


class CrossEntropyOptions(Settings):
    """Options of cross-entropy."""

    mixup_alpha: float = Field(0.0, ge=0, description="Beta(alpha, alpha) of mixup; 0 is off")


class CrossEntropy(LinearMethod):
    """Cross-entropy on a linear head, with or without mixup.

    Args:
        backbone: features to learn.
        class_counts: class_counts_K, training images of each class.
        mixup_alpha: 0 for no mixup.
    """

    Options: ClassVar[type[Settings]] = CrossEntropyOptions
    uses_prior = False

    def __init__(self, backbone: Backbone, class_counts: Tensor, *, mixup_alpha: float = 0.0) -> None:
        super().__init__(backbone, len(class_counts))
        self.mixup_alpha = mixup_alpha

    def forward(self, batches: Mapping[str, Batch], progress: Progress) -> StepOutput:
        """Return the cross-entropy, of images mixed in pairs if mixup is on."""
        loss, logits_BK = mixup_step(
            batches["main"], progress.key, self.mixup_alpha, predict=self.predict, loss=self._loss
        )
        return StepOutput(loss, logits_BK.detach())

    @staticmethod
    def _loss(logits_BK: Tensor, target_B: Tensor, key_B: Tensor, label: int) -> Tensor:
        return F.cross_entropy(logits_BK, target_B)
