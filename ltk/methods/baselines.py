"""The baselines: one stage, one stream, one head, and a loss of ``ltk.methods.functional``.

- ``ce``: cross-entropy, with mixup as an option (Zhang et al.: "mixup", ICLR 2018, https://arxiv.org/abs/1710.09412).
- ``focal``: Lin et al.: "Focal loss for dense object detection", ICCV 2017, https://arxiv.org/abs/1708.02002.
- ``class-balanced``: Cui et al.: "Class-balanced loss based on effective number of samples", CVPR 2019,
  https://arxiv.org/abs/1901.05555.
- ``ldam``: Cao et al.: "Learning imbalanced datasets with label-distribution-aware margin loss", NeurIPS 2019,
  https://arxiv.org/abs/1906.07413; ``drw = true`` is LDAM-DRW.
- ``balanced-softmax``: Ren et al.: "Balanced meta-softmax for long-tailed visual recognition", NeurIPS 2020,
  https://arxiv.org/abs/2007.10740.
- ``logit-adjustment``: Menon et al.: "Long-tail learning via logit adjustment", ICLR 2021,
  https://arxiv.org/abs/2007.07314.

Differs from the official codes:
- deferred re-weighting starts at 80 % of the epochs (officially at epoch 160, and it fails from epoch 320 on);
- the factor of a weighted focal loss comes from the probability, not from ``exp(-weight * loss)``; the official form is
  ``weighted_probability = true``;
- LDAM predicts ``scale * cos``, so that its softmax is calibrated as in training (officially the bare cosine).

Suffixes: B batch, C channels, H height, W width, K classes, D features.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ltk import draws
from ltk.methods.base import Method
from ltk.methods.functional import (
    at_least_float32,
    balanced_softmax,
    effective_number_weights,
    focal_loss,
    ldam_loss,
    ldam_margins,
    log_prior,
    logit_adjusted_cross_entropy,
    mixup,
    sigmoid_focal_loss,
)
from ltk.models.backbones import Backbone
from ltk.models.heads import CosineClassifier
from ltk.settings import Settings
from ltk.types import Batch, Progress, StepOutput

_DRAW_WEIGHT, _DRAW_PARTNER = range(2)
_DRW_START = 0.8  # share of the epochs; 160 of 200 in the official code


def deferred_weights(weight_K: Tensor, progress: Progress) -> Tensor:
    """Return ones before 80 % of the epochs, rounded down, and ``weight_K`` from then on (DRW, Cao et al. 2019)."""
    start = int(_DRW_START * progress.epochs)
    return torch.where(progress.epoch >= start, weight_K, torch.ones_like(weight_K))


class CrossEntropyOptions(Settings):
    """Options of cross-entropy."""

    mixup_alpha: float = Field(0.0, ge=0, description="Beta(alpha, alpha) of mixup; 0 is off")


class CrossEntropy(Method):
    """Cross-entropy on a linear head, with or without mixup.

    Args:
        backbone: features to learn.
        class_counts: class_counts_K, training images of each class.
        mixup_alpha: 0 for no mixup.
    """

    Options: ClassVar[type[Settings]] = CrossEntropyOptions
    uses_prior = False

    def __init__(self, backbone: Backbone, class_counts: Tensor, *, mixup_alpha: float = 0.0) -> None:
        super().__init__(backbone)
        self.fc = nn.Linear(backbone.num_features, len(class_counts))
        self.mixup_alpha = mixup_alpha

    def forward(self, batches: Mapping[str, Batch], progress: Progress) -> StepOutput:
        """Return the cross-entropy, of images mixed in pairs if mixup is on."""
        batch = batches["main"]
        (x_BCHW,) = batch.views
        if self.mixup_alpha == 0:
            logits_BK = at_least_float32(self.predict(x_BCHW))
            return StepOutput(F.cross_entropy(logits_BK, batch.target_B), logits_BK.detach())
        weight = draws.beta(draws.fold(progress.key, _DRAW_WEIGHT), self.mixup_alpha)
        partner_B = draws.permutation(draws.fold(progress.key, _DRAW_PARTNER), len(x_BCHW))
        logits_BK = at_least_float32(self.predict(mixup(x_BCHW, x_BCHW[partner_B], weight)))
        own = F.cross_entropy(logits_BK, batch.target_B)
        other = F.cross_entropy(logits_BK, batch.target_B[partner_B])
        return StepOutput(mixup(own, other, weight), logits_BK.detach())

    def predict(self, x_BCHW: Tensor) -> Tensor:
        """Return logits_BK."""
        logits_BK: Tensor = self.fc(self.backbone(x_BCHW))
        return logits_BK


class FocalOptions(Settings):
    """Options of the focal loss."""

    kind: Literal["softmax", "sigmoid"] = Field("softmax", description="one softmax, or one against rest per class")
    gamma: float = Field(2.0, ge=0, description="exponent of the factor; 0 is cross-entropy")
    detach_factor: bool = Field(False, description="softmax kind: send no gradient through the factor")


class Focal(Method):
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
        super().__init__(backbone)
        self.fc = nn.Linear(backbone.num_features, len(class_counts))
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

    def predict(self, x_BCHW: Tensor) -> Tensor:
        """Return logits_BK."""
        logits_BK: Tensor = self.fc(self.backbone(x_BCHW))
        return logits_BK


class ClassBalancedOptions(Settings):
    """Options of class-balanced re-weighting."""

    loss: Literal["ce", "focal", "sigmoid-focal"] = Field("ce", description="what is weighted")
    beta: float = Field(0.9999, ge=0, lt=1, description="of the effective number; 0 weighs classes equally")
    gamma: float = Field(1.0, ge=0, description="exponent of the focal factor")
    drw: bool = Field(False, description="start the weights at 80 % of the epochs")
    weighted_probability: bool = Field(False, description="focal: the official factor 1 - exp(-weight * loss)")


class ClassBalanced(Method):
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
        super().__init__(backbone)
        self.fc = nn.Linear(backbone.num_features, len(class_counts))
        self.weight_K: Tensor
        self.register_buffer("weight_K", effective_number_weights(class_counts, beta).float(), persistent=False)
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

    def predict(self, x_BCHW: Tensor) -> Tensor:
        """Return logits_BK."""
        logits_BK: Tensor = self.fc(self.backbone(x_BCHW))
        return logits_BK


class LDAMOptions(Settings):
    """Options of LDAM."""

    max_margin: float = Field(0.5, ge=0, description="margin of the rarest class, in cosine units")
    scale: float = Field(30.0, gt=0, description="scale s of the cosines")
    drw: bool = Field(False, description="weigh classes by effective number from 80 % of the epochs on")
    beta: float = Field(0.9999, ge=0, lt=1, description="of the effective number")


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


class BalancedSoftmax(Method):
    """Balanced softmax on a linear head.

    Args:
        backbone: features to learn.
        class_counts: class_counts_K, training images of each class, at least 1 each.
    """

    def __init__(self, backbone: Backbone, class_counts: Tensor) -> None:
        super().__init__(backbone)
        self.fc = nn.Linear(backbone.num_features, len(class_counts))
        self.log_prior_K: Tensor
        self.register_buffer("log_prior_K", log_prior(class_counts).float(), persistent=False)

    def forward(self, batches: Mapping[str, Batch], progress: Progress) -> StepOutput:
        """Return the cross-entropy of logits plus log prior."""
        batch = batches["main"]
        logits_BK = at_least_float32(self.predict(batch.views[0]))
        return StepOutput(balanced_softmax(logits_BK, batch.target_B, self.log_prior_K), logits_BK.detach())

    def predict(self, x_BCHW: Tensor) -> Tensor:
        """Return logits_BK, without the prior."""
        logits_BK: Tensor = self.fc(self.backbone(x_BCHW))
        return logits_BK


class LogitAdjustmentOptions(Settings):
    """Options of logit adjustment."""

    tau: float = Field(1.0, ge=0, description="strength of the prior; 1 is balanced softmax")


class LogitAdjustment(Method):
    """Logit-adjusted cross-entropy on a linear head.

    Args:
        backbone: features to learn.
        class_counts: class_counts_K, training images of each class, at least 1 each.
        tau: strength of the prior.
    """

    Options: ClassVar[type[Settings]] = LogitAdjustmentOptions

    def __init__(self, backbone: Backbone, class_counts: Tensor, *, tau: float = 1.0) -> None:
        super().__init__(backbone)
        self.fc = nn.Linear(backbone.num_features, len(class_counts))
        self.log_prior_K: Tensor
        self.register_buffer("log_prior_K", log_prior(class_counts).float(), persistent=False)
        self.tau = tau

    def forward(self, batches: Mapping[str, Batch], progress: Progress) -> StepOutput:
        """Return the cross-entropy of logits plus tau times log prior."""
        batch = batches["main"]
        logits_BK = at_least_float32(self.predict(batch.views[0]))
        loss = logit_adjusted_cross_entropy(logits_BK, batch.target_B, self.log_prior_K, self.tau)
        return StepOutput(loss, logits_BK.detach())

    def predict(self, x_BCHW: Tensor) -> Tensor:
        """Return logits_BK, without the prior."""
        logits_BK: Tensor = self.fc(self.backbone(x_BCHW))
        return logits_BK
