"""The focal loss.

Lin et al.: "Focal loss for dense object detection", ICCV 2017, https://arxiv.org/abs/1708.02002.

Differs from the official code: the linear classifier starts as ``nn.Linear`` does; LDAM's code, whose recipe the CIFAR
presets take, draws its weights from ``kaiming_normal_`` like those of the convolutions.

Suffixes: B batch, C channels, H height, W width, K classes, D features.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import Tensor

from ltk.methods.base import LinearMethod
from ltk.methods.functional import focal_loss, sigmoid_focal_loss
from ltk.models.backbones import Backbone
from ltk.numerics import at_least_float32
from ltk.settings import Needs, Settings
from ltk.types import Batch, Progress, StepOutput


class FocalOptions(Settings):
    """Options of the focal loss."""

    kind: Literal["softmax", "sigmoid"] = Field("softmax", description="one softmax, or one against rest per class")
    gamma: float = Field(2.0, ge=0, description="exponent of the factor; 0 is cross-entropy")
    detach_factor: Annotated[bool, Needs(kind=("softmax",))] = Field(
        False, description="softmax kind: send no gradient through the factor"
    )


class Focal(LinearMethod):
    """Focal loss on a linear head.

    Args:
        backbone: features to learn.
        class_counts: class_counts_K, training images of each class.
        kind: "softmax" or "sigmoid".
        gamma: exponent of the factor.
        detach_factor: of the softmax kind.
    """

    Options: ClassVar[type[Settings]] = FocalOptions
    uses_prior = False

    def __init__(
        self,
        backbone: Backbone,
        class_counts: Tensor,
        *,
        kind: str = "softmax",
        gamma: float = 2.0,
        detach_factor: bool = False,
    ) -> None:
        super().__init__(backbone, len(class_counts))
        self.kind, self.gamma, self.detach_factor = kind, gamma, detach_factor

    def forward(self, batches: Mapping[str, Batch], progress: Progress) -> StepOutput:
        """Return the focal loss."""
        batch = batches["main"]
        logits_BK = at_least_float32(self.predict(batch.views[0]))
        if self.kind == "sigmoid":
            loss = sigmoid_focal_loss(logits_BK, batch.target_B, self.gamma)
        else:
            loss = focal_loss(logits_BK, batch.target_B, self.gamma, detach_factor=self.detach_factor)
        return StepOutput(loss, logits_BK.detach())
