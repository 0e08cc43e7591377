"""Vector-scaling loss, a method in one file outside ltk: ``ltk train vs_loss:VectorScaling --dataset digits``.

Kini et al.: "Label-imbalanced and group-sensitive classification under overparameterization", NeurIPS 2021,
https://arxiv.org/abs/2103.01550. The logits of the loss are scaled class by class (which decides late in training,
where additive terms no longer do) and shifted by the log prior (which decides early). Prediction uses them as they are.

Differs from the official code: prior and scales are buffers made in float64, on whatever device the network is.

Suffixes: B batch, C channels, H height, W width, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ltk.methods.base import Method
from ltk.methods.functional import log_prior
from ltk.models.backbones import Backbone
from ltk.numerics import at_least_float32
from ltk.settings import Settings
from ltk.types import Batch, Progress, StepOutput


def vector_scaling_loss(logits_BK: Tensor, target_B: Tensor, scale_K: Tensor, shift_K: Tensor) -> Tensor:
    """Return the mean cross-entropy of ``scale * z + shift`` (equation 2 without class weights)."""
    return F.cross_entropy(logits_BK * scale_K + shift_K, target_B)


class VectorScalingOptions(Settings):
    """Options of the vector-scaling loss."""

    gamma: float = Field(0.3, ge=0, description="scales are (n_k / n_max) ** gamma; 0 is logit adjustment")
    tau: float = Field(1.0, ge=0, description="shifts are tau * log(n_k / N)")


class VectorScaling(Method):
    """Vector-scaling loss on a linear head.

    Args:
        backbone: features to learn.
        class_counts: class_counts_K, training images of each class.
        gamma: exponent of the scales.
        tau: strength of the shifts.
    """

    Options: ClassVar[type[Settings]] = VectorScalingOptions
    training_only: ClassVar[tuple[str, ...]] = ("scale_K", "shift_K")
    scale_K: Tensor
    shift_K: Tensor

    def __init__(self, backbone: Backbone, class_counts: Tensor, *, gamma: float = 0.3, tau: float = 1.0) -> None:
        super().__init__(backbone)
        self.fc = nn.Linear(backbone.num_features, len(class_counts))
        counts_K = class_counts.double()
        self.register_buffer("scale_K", ((counts_K / counts_K.max()) ** gamma).float())
        self.register_buffer("shift_K", (tau * log_prior(class_counts)).float())
        self.uses_prior = gamma > 0 or tau > 0

    def forward(self, batches: Mapping[str, Batch], progress: Progress) -> StepOutput:
        """Return the loss of one training step."""
        batch = batches["main"]
        (x_BCHW,) = batch.views
        logits_BK = at_least_float32(self.predict(x_BCHW))
        loss = vector_scaling_loss(logits_BK, batch.target_B, self.scale_K, self.shift_K)
        return StepOutput(loss, logits_BK.detach())

    def predict(self, x_BCHW: Tensor) -> Tensor:
        """Return logits_BK."""
        logits_BK: Tensor = self.fc(self.backbone(x_BCHW))
        return logits_BK
