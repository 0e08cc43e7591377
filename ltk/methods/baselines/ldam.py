"""LDAM, margins by class size on a cosine head; with deferred re-weighting it is LDAM-DRW.

Cao et al.: "Learning imbalanced datasets with label-distribution-aware margin loss", NeurIPS 2019,
https://arxiv.org/abs/1906.07413.

Differs from the official code: predicts ``scale * cos``, so that its softmax is calibrated as in training (officially
the bare cosine).

Suffixes: B batch, C channels, H height, W width, K classes, D features.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import Field
from torch import Tensor

from ltk.methods.base import Method
from ltk.methods.baselines.reweighting import deferred_weights
from ltk.methods.functional import effective_number_weights, ldam_loss, ldam_margins
from ltk.models.backbones import Backbone
from ltk.models.heads import CosineClassifier
from ltk.numerics import at_least_float32
from ltk.settings import Needs, Settings
from ltk.types import Batch, Progress, StepOutput


class LDAMOptions(Settings):
    """Options of LDAM."""

    max_margin: float = Field(0.5, ge=0, description="margin of the rarest class, in cosine units")
    scale: float = Field(30.0, gt=0, description="scale s of the cosines")
    drw: bool = Field(False, description="weigh classes by effective number from 80 % of the epochs on")
    beta: Annotated[float, Needs(drw=(True,))] = Field(0.9999, ge=0, lt=1, description="drw: of the effective number")


class LDAM(Method):
    """LDAM on a cosine head, with deferred re-weighting as an option.

    Args:
        backbone: features to learn.
        class_counts: class_counts_K, training images of each class, at least 1 each.
        max_margin: margin of the rarest class.
        scale: s.
        drw: start weights at 80 % of the epochs.
        beta: of the effective number.
    """

    Options: ClassVar[type[Settings]] = LDAMOptions

    def __init__(
        self,
        backbone: Backbone,
        class_counts: Tensor,
        *,
        max_margin: float = 0.5,
        scale: float = 30.0,
        drw: bool = False,
        beta: float = 0.9999,
    ) -> None:
        super().__init__(backbone)
        self.fc = CosineClassifier(backbone.num_features, len(class_counts))
        self.margins_K: Tensor
        self.weight_K: Tensor
        self.register_buffer("margins_K", ldam_margins(class_counts, max_margin).float(), persistent=False)
        self.register_buffer("weight_K", effective_number_weights(class_counts, beta).float(), persistent=False)
        self.scale, self.drw = scale, drw
        self.uses_prior = max_margin > 0 or (drw and beta > 0)

    def forward(self, batches: Mapping[str, Batch], progress: Progress) -> StepOutput:
        """Return the margin loss."""
        batch = batches["main"]
        cosines_BK = at_least_float32(self.fc(self.backbone(batch.views[0])))
        weight_K = deferred_weights(self.weight_K, progress) if self.drw else None
        loss = ldam_loss(cosines_BK, batch.target_B, self.margins_K, self.scale, weight_K)
        return StepOutput(loss, self.scale * cosines_BK.detach())

    def predict(self, x_BCHW: Tensor) -> Tensor:
        """Return logits_BK: the cosines times the scale, without margin."""
        logits_BK: Tensor = self.scale * self.fc(self.backbone(x_BCHW))
        return logits_BK
