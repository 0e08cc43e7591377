"""GCL: Gaussian clouded logit adjustment, stage one.

Li, Cheung, Lu: "Long-tailed Visual Recognition via Gaussian Clouded Logit Adjustment", CVPR 2022,
https://arxiv.org/abs/2305.11733; angular form: Li, Cheung, Lu, Hu, Lan, Huang: "Adjusting Logit in Gaussian Form for
Long-Tailed Visual Recognition", TAI 2024, https://arxiv.org/abs/2305.10648.

During training the cosine of every class is lowered by a random, never negative amount, the larger the rarer the class.
The softmax of rare classes saturates later, their features keep receiving gradient and spread out. Stage two
(``ltk.methods.retrain_classifier``, rule gcl) freezes the features and trains the classifier on class-balanced batches.

Differs from the official code:
- classes of equal size have no cloud (officially 0/0 = nan);
- noise is drawn on the training device, from keys, so that a resumed run draws the same;
- ``signed`` keeps the sign of the noise (commented out officially), the angular form serves every data set;
- ``frozen_trunk`` (Places) re-initialises and trains the network's last block in place; officially that block is cut
  off the network and rebuilt outside it;
- predictions are ``scale * cos``, so that their softmax is calibrated as in training (officially the bare cosine).

Suffixes: B batch, C channels, H height, W width, K classes, D features.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Annotated, ClassVar, Literal, Self

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ltk.methods.base import Method
from ltk.methods.functional import gcl_logits, gcl_noise, gcl_rarity
from ltk.methods.mixing import mixup_step
from ltk.models.backbones import Backbone
from ltk.models.freezing import find_last_block
from ltk.models.heads import CosineClassifier
from ltk.settings import Needs, Settings
from ltk.types import Batch, Progress, StepOutput


class GCLOptions(Settings):
    """Options of GCL; the defaults are those of the official CIFAR script."""

    form: Literal["cosine", "angle"] = Field("cosine", description="lower the cosine, or widen the angle")
    scale: float = Field(30.0, gt=0, description="scale s of the cosines")
    margin: float = Field(0.0, ge=0, description="margin m of the target class")
    noise_scale: float = Field(0.5, ge=0, description="largest cloud: of the cosine, or in right angles")
    signed: bool = Field(False, description="keep the sign of the noise")
    easy_margin: Annotated[bool, Needs(form=("angle",))] = Field(
        True, description="angular form: move only classes at less than a right angle"
    )
    mixup_alpha: float = Field(1.0, ge=0, description="Beta(alpha, alpha) of mixup; 0 is off")
    frozen_trunk: bool = Field(False, description="train only a re-initialised last block and the classifier")


class GCL(Method):
    """Stage one of GCL on any backbone.

    Args:
        backbone: features to learn.
        class_counts: class_counts_K, training images of each class, at least 1 each.
        form: "cosine" or "angle".
        scale: s.
        margin: m.
        noise_scale: the cloud of the rarest class.
        signed: keep the sign of the noise.
        easy_margin: of the angular form.
        mixup_alpha: 0 for no mixup.
        frozen_trunk: keep all but the last block as they are, batch statistics included.

    Raises:
        UsageError: ``frozen_trunk`` on a network that is no ResNet.
    """

    Options: ClassVar[type[Settings]] = GCLOptions
    second_stage = "gcl"

    def __init__(
        self,
        backbone: Backbone,
        class_counts: Tensor,
        *,
        form: str = "cosine",
        scale: float = 30.0,
        margin: float = 0.0,
        noise_scale: float = 0.5,
        signed: bool = False,
        easy_margin: bool = True,
        mixup_alpha: float = 1.0,
        frozen_trunk: bool = False,
    ) -> None:
        super().__init__(backbone)
        self.fc = CosineClassifier(backbone.num_features, len(class_counts))
        self.rarity_K: Tensor
        self.register_buffer("rarity_K", gcl_rarity(class_counts).float(), persistent=False)
        self.clouded_logits = partial(
            gcl_logits,
            scale=scale,
            margin=margin,
            noise_scale=noise_scale,
            form=form,
            easy_margin=easy_margin,
            signed=signed,
        )
        self.scale, self.mixup_alpha = scale, mixup_alpha
        self.frozen_trunk = frozen_trunk
        self.uses_prior = noise_scale > 0
        if frozen_trunk:
            backbone.requires_grad_(False)
            _reset(find_last_block(backbone).requires_grad_(True))

    def train(self, mode: bool = True) -> Self:
        """Set the mode; a frozen trunk stays in evaluation mode."""
        super().train(mode)
        if self.frozen_trunk:
            self.backbone.eval()
            find_last_block(self.backbone).train(mode)
        return self

    def forward(self, batches: Mapping[str, Batch], progress: Progress) -> StepOutput:
        """Return the clouded loss, with mixup twice: each label draws a cloud of its own."""
        loss, cosines_BK = mixup_step(
            batches["main"], progress.key, self.mixup_alpha, predict=self._cosines, loss=self._loss
        )
        return StepOutput(loss, self.scale * cosines_BK.detach())

    def _cosines(self, x_BCHW: Tensor) -> Tensor:
        cosines_BK: Tensor = self.fc(self.backbone(x_BCHW))
        return cosines_BK

    def _loss(self, cosines_BK: Tensor, target_B: Tensor, key_B: Tensor, label: int) -> Tensor:
        noise_BK = gcl_noise(key_B, label, len(self.rarity_K))
        return F.cross_entropy(self.clouded_logits(cosines_BK, target_B, self.rarity_K, noise_BK), target_B)

    def predict(self, x_BCHW: Tensor) -> Tensor:
        """Return logits_BK: the cosines times the scale."""
        return self.scale * self._cosines(x_BCHW)


def _reset(module: nn.Module) -> None:
    """Draw every layer anew, as PyTorch does by default."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.Linear | nn.BatchNorm2d):
            part.reset_parameters()
