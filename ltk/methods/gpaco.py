"""GPaCo: generalised parametric contrastive learning, and its multi-task baseline.

Cui, Zhong, Tian, Liu, Yu, Jia: "Generalized Parametric Contrastive Learning", TPAMI 2023,
https://arxiv.org/abs/2209.12400.

PaCo without the momentum encoder: one encoder embeds both views with gradient and both are anchors, so every step has
twice as many. The projector is a three-layer MLP without BatchNorm. The queue keeps the second view's embeddings, and
on balanced data the centres' targets may be smoothed.

Differs from the official code:
- the queue is a ring that wraps around, so that a last, smaller batch fits (officially its size fails);
- the multi-task loss has no class weights (officially they are computed over the wrong axis and are all 1);
- ``prior=False`` makes the multi-task classifier learn by plain cross-entropy (officially a second loss class);
- on one device the contrast set is the whole batch; officially each GPU contrasts its own share.

Suffixes: B batch, C channels, H height, W width, K classes, D features, E embedding, Q queue, A all samples,
N = 2B anchors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ltk.distributed import gather
from ltk.methods.base import Method, Stream
from ltk.methods.contrastive import add_log_prior, class_prior, paco_loss, supervised_contrastive_loss, unit_embeddings
from ltk.models.backbones import Backbone
from ltk.models.freezing import freeze_early_convolutions
from ltk.models.heads import create_mlp, initialise_kaiming
from ltk.models.queue import KeyQueue, QueueInit
from ltk.settings import Needs, Settings
from ltk.types import Batch, Progress, StepOutput


def multitask_loss(
    features_AD: Tensor,
    labels_A: Tensor,
    logits_NK: Tensor,
    prior_K: Tensor | None = None,
    *,
    temperature: float,
    alpha: float,
    base_temperature: float | None = None,
) -> Tensor:
    """Return balanced softmax plus ``alpha`` times the supervised contrastive loss, as two softmaxes.

    Args:
        features_AD: unit embeddings; the first N rows are the anchors, then the queue.
        labels_A: int64 labels of all rows; negative for empty slots.
        logits_NK: the anchors' logits of the linear classifier.
        prior_K: share of each class in the training images; None gives plain cross-entropy.
        temperature: of the sample similarities.
        alpha: weight of the contrastive loss (0.5 in the official scripts).
        base_temperature: see ``supervised_contrastive_loss``.
    """
    num_anchors = len(logits_NK)
    classification = F.cross_entropy(add_log_prior(logits_NK, prior_K), labels_A[:num_anchors])
    contrast = supervised_contrastive_loss(
        features_AD, labels_A, num_anchors, temperature=temperature, base_temperature=base_temperature
    )
    return classification + alpha * contrast


_ONE_SOFTMAX = Needs(objective=("gpaco",))


class GPaCoOptions(Settings):
    """Options of GPaCo; the defaults are those of the official ImageNet-LT scripts."""

    objective: Literal["gpaco", "multitask"] = Field("gpaco", description="one softmax, or classifier plus contrast")
    temperature: float = Field(0.2, gt=0, description="of the sample similarities (0.07 on CIFAR)")
    alpha: float = Field(0.05, ge=0, description="weight of each sample of the same class; of the contrast (multitask)")
    beta: Annotated[float, _ONE_SOFTMAX] = Field(1.0, gt=0, description="weight of the class centre (gpaco)")
    gamma: Annotated[float, _ONE_SOFTMAX] = Field(
        1.0, ge=0, description="weight of the samples in the normaliser (gpaco)"
    )
    smoothing: Annotated[float, _ONE_SOFTMAX] = Field(
        0.0, ge=0, lt=1, description="label smoothing of the centres (gpaco; 0.1 on ImageNet)"
    )
    prior: bool = Field(True, description="add the log class prior to the classifier's logits in training")
    embedding: int = Field(128, ge=1, description="width of the embedding")
    queue_size: int = Field(8192, ge=1, description="keys in the queue (1024 on CIFAR)")
    queue_init: QueueInit = Field("official", description="official (columns of unit length), unit, or empty")
    projector_init: Literal["default", "kaiming"] = Field("default", description="last layer (kaiming on CIFAR)")
    trainable: Literal["all", "last-block"] = Field("all", description="convolutions that learn (Places: last-block)")


class GPaCo(Method):
    """GPaCo on any backbone.

    Args:
        backbone: features to learn.
        class_counts: class_counts_K, training images of each class.
        objective: "gpaco" (one softmax over centres and samples) or "multitask".
        temperature: of the sample similarities.
        alpha: weight of each sample of the same class; for "multitask" of the contrastive loss.
        beta: weight of the class centre ("gpaco").
        gamma: weight of the samples in the normaliser ("gpaco").
        smoothing: label smoothing of the centres ("gpaco").
        prior: add the log class prior to the classifier's logits in training.
        embedding: width of the embedding.
        queue_size: keys in the queue.
        queue_init: what the queue holds at first, see ``ltk.models.queue``.
        projector_init: "kaiming" draws the projector's last weight as the official CIFAR nets do.
        trainable: "last-block" freezes all earlier convolutions.
    """

    Options: ClassVar[type[Settings]] = GPaCoOptions
    classifier_name = "classifier"
    training_only = ("projector.", "queue.")

    def __init__(
        self,
        backbone: Backbone,
        class_counts: Tensor,
        *,
        objective: str = "gpaco",
        temperature: float = 0.2,
        alpha: float = 0.05,
        beta: float = 1.0,
        gamma: float = 1.0,
        smoothing: float = 0.0,
        prior: bool = True,
        embedding: int = 128,
        queue_size: int = 8192,
        queue_init: QueueInit = "official",
        projector_init: str = "default",
        trainable: str = "all",
    ) -> None:
        super().__init__(backbone)
        self.streams = {"main": Stream(views=2)}
        width, num_classes = backbone.num_features, len(class_counts)
        self.classifier = nn.Linear(width, num_classes)
        self.projector = create_mlp(width, width, width, embedding)
        if projector_init == "kaiming":
            initialise_kaiming(self.projector[-1])
        if trainable == "last-block":
            freeze_early_convolutions(backbone)
        self.queue = KeyQueue(queue_size, embedding, num_classes, queue_init)
        self.prior_K: Tensor | None
        self.register_buffer("prior_K", class_prior(class_counts).float() if prior else None, persistent=False)
        self.objective, self.temperature, self.alpha = objective, temperature, alpha
        self.beta, self.gamma, self.smoothing = beta, gamma, smoothing
        self.uses_prior = prior

    def check_batch_size(self, batch_size: int) -> None:
        """Check that whole batches fill the queue; see ``KeyQueue.check_batch_size``."""
        self.queue.check_batch_size(batch_size)

    def forward(self, batches: Mapping[str, Batch], progress: Progress) -> StepOutput:
        """Contrast both views with each other and the queue, then put the second view into the queue."""
        batch = batches["main"]
        target_B = batch.target_B
        feats = [self.backbone(view_BCHW) for view_BCHW in batch.views]
        query_BE, key_BE = (unit_embeddings(self.projector(feats_BD)) for feats_BD in feats)
        logits_NK = self.classifier(torch.cat(feats))
        features_AE = torch.cat((query_BE, key_BE, self.queue.keys_QE))
        labels_A = torch.cat((target_B, target_B, self.queue.labels_Q))
        loss = self._loss(features_AE, labels_A, logits_NK)
        self.queue.enqueue(gather(key_BE.detach()), gather(target_B))
        return StepOutput(loss, logits_NK[: len(target_B)].detach())

    def _loss(self, features_AE: Tensor, labels_A: Tensor, logits_NK: Tensor) -> Tensor:
        weights = {"temperature": self.temperature, "alpha": self.alpha}
        if self.objective == "multitask":
            return multitask_loss(features_AE, labels_A, logits_NK, self.prior_K, **weights)
        weights |= {"beta": self.beta, "gamma": self.gamma, "smoothing": self.smoothing}
        return paco_loss(features_AE, labels_A, logits_NK, self.prior_K, **weights)

    def predict(self, x_BCHW: Tensor) -> Tensor:
        """Return the linear classifier's logits_BK, without the prior."""
        logits_BK: Tensor = self.classifier(self.backbone(x_BCHW))
        return logits_BK
