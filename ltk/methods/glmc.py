"""GLMC: Global and Local Mixture Consistency cumulative learning.

Du, Yang, Jia, Nan, Chen, Yang: "Global and Local Mixture Consistency Cumulative Learning for Long-tailed Visual
Recognitions", CVPR 2023, https://arxiv.org/abs/2305.08661.

Two views of a uniform batch are mixed with two views of a re-sampled batch: one pair by MixUp (global), the other by
CutMix (local), with one mixing weight and so one soft label. A cosine loss pulls the two mixed features together. Two
classifiers share the feature, one learns the plain labels and one the class-weighted labels, and the weight moves from
the first to the second as training goes on; the second predicts.

Differs from the official code:
- the mixing law is Beta(mix_alpha, mix_alpha) and the option works (officially ``--beta`` is read and thrown away);
- class weights stay on the device and in float32 throughout;
- ``cutmix_weight="exact"`` labels by the area really pasted (officially the drawn weight, kept as the default).

Suffixes: B batch, C channels, H height, W width, K classes, D features, E embedding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ltk import draws
from ltk.methods.base import Method, Stream
from ltk.methods.functional import cutmix, cutmix_box, inverse_power_weights, mixup, soft_cross_entropy
from ltk.models.backbones import Backbone
from ltk.models.heads import initialise_kaiming
from ltk.settings import Settings
from ltk.types import Batch, Progress, StepOutput

_DRAW_WEIGHT, _DRAW_CENTRE_Y, _DRAW_CENTRE_X = range(3)


def consistency_loss(p_mix_BE: Tensor, p_cut_BE: Tensor, z_mix_BE: Tensor, z_cut_BE: Tensor) -> Tensor:
    """Return minus the two mean cosines of predictions with the other view's projection (eq. 4; in [-2, 2]).

    The projections are constants here (stop-gradient), as in SimSiam.
    """
    cosines_B = F.cosine_similarity(p_mix_BE, z_cut_BE.detach(), dim=1)
    crossed_B = F.cosine_similarity(p_cut_BE, z_mix_BE.detach(), dim=1)
    return -cosines_B.mean() - crossed_B.mean()


def cumulative_weight(epoch: Tensor | float, epochs: int) -> Tensor | float:
    """Return the share of the plain classifier, 1 - (epoch / epochs)**2, epochs counted from 0 (eq. 8)."""
    return 1 - (epoch / epochs) ** 2


def mixed_labels(target_B: Tensor, partner_B: Tensor, weight: Tensor, class_weights_K: Tensor) -> tuple[Tensor, Tensor]:
    """Return mixed one-hot labels_BK, and the same with classes weighted before mixing (rows need not sum to 1).

    Args:
        target_B: labels of the first images, share ``weight``.
        partner_B: labels of the second images, share ``1 - weight``.
        weight: 0-dim.
        class_weights_K: weight of each class; their sum is K.
    """
    num_classes = len(class_weights_K)
    first_BK = F.one_hot(target_B, num_classes).to(class_weights_K.dtype)
    second_BK = F.one_hot(partner_B, num_classes).to(class_weights_K.dtype)
    mixed_BK = weight * first_BK + (1 - weight) * second_BK
    return mixed_BK, mixed_BK * class_weights_K


class Branch(NamedTuple):
    """What the network says of one mixed view, and what it should say.

    Attributes:
        plain_BK: logits of the first classifier.
        rebalanced_BK: logits of the second classifier.
        z_BE: projection.
        p_BE: prediction.
        labels_BK: mixed labels.
        weighted_BK: class-weighted mixed labels.
    """

    plain_BK: Tensor
    rebalanced_BK: Tensor
    z_BE: Tensor
    p_BE: Tensor
    labels_BK: Tensor
    weighted_BK: Tensor


def glmc_loss(
    mix: Branch, cut: Branch, alpha: Tensor | float, contrast_weight: float
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the cumulative loss (eq. 9) and its parts.

    Args:
        mix: the MixUp view.
        cut: the CutMix view.
        alpha: share of the plain classifier, from ``cumulative_weight``.
        contrast_weight: weight of the consistency loss.
    """
    plain = soft_cross_entropy(mix.plain_BK, mix.labels_BK) + soft_cross_entropy(cut.plain_BK, cut.labels_BK)  # eq. 6
    rebalanced = soft_cross_entropy(mix.rebalanced_BK, mix.weighted_BK)  # eq. 7
    rebalanced = rebalanced + soft_cross_entropy(cut.rebalanced_BK, cut.weighted_BK)
    contrast = consistency_loss(mix.p_BE, cut.p_BE, mix.z_BE, cut.z_BE)
    loss = alpha * plain + (1 - alpha) * rebalanced + contrast_weight * contrast
    return loss, {"plain": plain, "rebalanced": rebalanced, "contrast": contrast}


class GLMCOptions(Settings):
    """Options of GLMC; the defaults are those of the official code."""

    contrast_weight: float = Field(4.0, ge=0, description="weight of the consistency loss (paper: gamma)")
    label_weighting: float = Field(1.2, ge=0, description="exponent k of the label weights n^-k")
    resample_weighting: float = Field(0.0, ge=0, description="exponent q of the second stream's sampling n^-q")
    mix_alpha: float = Field(1.0, gt=0, description="both streams mix with a weight from Beta(alpha, alpha)")
    cutmix_weight: Literal["drawn", "exact"] = Field("drawn", description="label weight of the pasted box")
    embedding: int = Field(128, ge=1, description="width of projection and prediction (256 on large nets)")
    init: Literal["kaiming", "default"] = Field("kaiming", description="how the linear layers start")
    views_forward: Literal["separate", "joint"] = Field(
        "separate", description="each mixed view with batch statistics of its own, or both in one forward pass"
    )


class GLMC(Method):
    """GLMC on any backbone.

    Args:
        backbone: features to learn.
        class_counts: class_counts_K, training images of each class, at least 1 each.
        contrast_weight: weight of the consistency loss.
        label_weighting: exponent of the label weights.
        resample_weighting: exponent of the second stream's sampling.
        mix_alpha: parameter of the mixing law.
        cutmix_weight: "drawn" (official) or "exact".
        embedding: width of projection and prediction.
        init: "kaiming" as the official ResNet-32, "default" as the other official nets.
        views_forward: "separate" (official) gives each mixed view batch statistics of its own, "joint" passes both at
            once, with common statistics: half the kernels on a GPU, and another network for it.
    """

    Options: ClassVar[type[Settings]] = GLMCOptions
    classifier_name = "fc_cb"
    second_stage = "maxnorm"
    training_only = ("fc.", "projector.", "predictor.", "class_weights_K")

    def __init__(
        self,
        backbone: Backbone,
        class_counts: Tensor,
        *,
        contrast_weight: float = 4.0,
        label_weighting: float = 1.2,
        resample_weighting: float = 0.0,
        mix_alpha: float = 1.0,
        cutmix_weight: str = "drawn",
        embedding: int = 128,
        init: str = "kaiming",
        views_forward: str = "separate",
    ) -> None:
        super().__init__(backbone)
        width, num_classes = backbone.num_features, len(class_counts)
        self.fc = nn.Linear(width, num_classes)
        self.fc_cb = nn.Linear(width, num_classes)
        self.projector = nn.Linear(width, embedding)
        self.predictor = nn.Linear(embedding, embedding)
        if init == "kaiming":
            for head in (self.fc, self.fc_cb, self.projector, self.predictor):
                initialise_kaiming(head)
        self.class_weights_K: Tensor
        self.register_buffer("class_weights_K", inverse_power_weights(class_counts, label_weighting).float())
        self.contrast_weight, self.mix_alpha, self.cutmix_weight = contrast_weight, mix_alpha, cutmix_weight
        self.views_forward = views_forward
        self.uses_prior = label_weighting > 0 or resample_weighting > 0
        resampled = Stream("power", views=2, options={"q": resample_weighting})
        self.streams = {"main": Stream("uniform", views=2), "resampled": resampled}

    def forward(self, batches: Mapping[str, Batch], progress: Progress) -> StepOutput:
        """Mix the two streams and return the cumulative loss (eq. 9)."""
        main, other = batches["main"], batches["resampled"]
        weight = draws.beta(draws.fold(progress.key, _DRAW_WEIGHT), self.mix_alpha)
        box_HW = self._draw_box(progress.key, weight, main.views[1])
        mixed_BCHW = mixup(main.views[0], other.views[0], weight)  # eq. 1
        cut_BCHW = cutmix(main.views[1], other.views[1], box_HW)  # eq. 2
        share = 1 - box_HW.float().mean() if self.cutmix_weight == "exact" else weight
        labels = (main.target_B, other.target_B)
        mixed_BD, cut_BD = self._encode(mixed_BCHW, cut_BCHW)
        mix = self._branch(mixed_BD, *mixed_labels(*labels, weight, self.class_weights_K))
        cut = self._branch(cut_BD, *mixed_labels(*labels, share, self.class_weights_K))
        alpha = cumulative_weight(progress.epoch, progress.epochs)
        loss, parts = glmc_loss(mix, cut, alpha, self.contrast_weight)
        return StepOutput(loss, mix.rebalanced_BK.detach(), {name: part.detach() for name, part in parts.items()})

    def _encode(self, *views: Tensor) -> Sequence[Tensor]:
        """Return feats_BD of each view x_BCHW."""
        if self.views_forward == "joint":
            return self.backbone(torch.cat(views)).chunk(len(views))
        return [self.backbone(x_BCHW) for x_BCHW in views]

    def _branch(self, feats_BD: Tensor, labels_BK: Tensor, weighted_BK: Tensor) -> Branch:
        z_BE = self.projector(feats_BD)
        return Branch(
            plain_BK=self.fc(feats_BD).float(),
            rebalanced_BK=self.fc_cb(feats_BD).float(),
            z_BE=z_BE.float(),
            p_BE=self.predictor(z_BE).float(),
            labels_BK=labels_BK,
            weighted_BK=weighted_BK,
        )

    @staticmethod
    def _draw_box(key: Tensor, weight: Tensor, images_BCHW: Tensor) -> Tensor:
        height, width = images_BCHW.shape[-2:]
        centre_y = draws.randint(draws.fold(key, _DRAW_CENTRE_Y), height)
        centre_x = draws.randint(draws.fold(key, _DRAW_CENTRE_X), width)
        return cutmix_box(weight, centre_y, centre_x, height, width)

    def predict(self, x_BCHW: Tensor) -> Tensor:
        """Return the class-balanced classifier's logits_BK."""
        return self.fc_cb(self.backbone(x_BCHW))
