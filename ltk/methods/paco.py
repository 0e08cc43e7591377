"""PaCo: parametric contrastive learning.

Cui, Zhong, Liu, Yu, Jia: "Parametric Contrastive Learning", ICCV 2021, https://arxiv.org/abs/2107.12028.

Supervised contrastive learning in which every class also owns a learnable centre, in the same softmax as the other
samples; an image is drawn strongly to its class's centre and weakly to the samples of its class. The centres are the
rows of the linear classifier on the backbone, with the class prior added to their logits in training as in balanced
softmax. Queries come from the trained encoder, keys from a momentum copy of it, and past keys wait in a queue.

Differs from the official code:
- the queue is a ring that wraps around, so that a last, smaller batch fits (officially its size fails);
- the momentum copy of the classifier, which nothing uses, is left out;
- on one device the contrast set is the whole batch (128 queries, 128 keys, queue) and BatchNorm sees the whole batch;
  officially each of 4 GPUs contrasts its own 32 and keeps its own statistics: ``virtual_gpus=4`` splits the batch so.
  Its running BatchNorm statistics then take 4 small steps per update, where the official file keeps the first GPU's;
- shuffling the keys' BatchNorm groups needs several groups: with one device and ``virtual_gpus=1`` it does nothing and
  is skipped;
- with gradient accumulation the momentum copy moves once per forward pass.

Suffixes: B batch, G batches of all processes together, C channels, H height, W width, K classes, D features,
E embedding, Q queue, A all samples.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ltk import draws
from ltk.distributed import gather, rank, world_size
from ltk.errors import UsageError
from ltk.methods.base import Method, Stream
from ltk.methods.contrastive import class_prior, paco_loss, unit_embeddings
from ltk.models.backbones import Backbone
from ltk.models.freezing import freeze_early_convolutions
from ltk.models.heads import create_mlp, initialise_kaiming
from ltk.models.momentum import create_momentum_copy, update_momentum_copy
from ltk.models.queue import KeyQueue, QueueInit
from ltk.settings import Settings
from ltk.types import Batch, Progress, StepOutput

_DRAW_SHUFFLE = 0
_LEAST_IMAGES = 2  # that batch normalisation can take


class PaCoOptions(Settings):
    """Options of PaCo; the defaults are those of the official ImageNet-LT script."""

    temperature: float = Field(0.2, gt=0, description="of the sample similarities (0.05 on CIFAR)")
    alpha: float = Field(0.05, ge=0, description="weight of each sample of the same class (0.01 on CIFAR)")
    beta: float = Field(1.0, gt=0, description="weight of the class centre")
    gamma: float = Field(1.0, ge=0, description="weight of the samples in the normaliser")
    prior: bool = Field(True, description="add the log class prior to the centre logits in training")
    embedding: int = Field(128, ge=1, description="width of the embedding (32 on CIFAR)")
    queue_size: int = Field(8192, ge=1, description="keys in the queue (1024 on CIFAR)")
    queue_init: QueueInit = Field("official", description="official (columns of unit length), unit, or empty")
    momentum: float = Field(0.999, ge=0, le=1, description="momentum of the key encoder")
    projector_init: Literal["default", "kaiming"] = Field("default", description="last layer (kaiming on CIFAR)")
    trainable: Literal["all", "last-block"] = Field("all", description="convolutions that learn (Places: last-block)")
    virtual_gpus: int = Field(1, ge=1, description="parts of a batch (2+ images each) for BatchNorm and contrast")


class PaCo(Method):
    """PaCo on any backbone.

    Args:
        backbone: features to learn.
        class_counts: class_counts_K, training images of each class.
        temperature: of the sample similarities.
        alpha: weight of each sample of the same class.
        beta: weight of the class centre.
        gamma: weight of the samples in the normaliser.
        prior: add the log class prior to the centre logits in training.
        embedding: width of the embedding.
        queue_size: keys in the queue.
        queue_init: what the queue holds at first, see ``ltk.models.queue``.
        momentum: momentum of the key encoder.
        projector_init: "kaiming" draws the projector's last weight as the official CIFAR nets do.
        trainable: "last-block" freezes all earlier convolutions.
        virtual_gpus: parts a batch is split into, as if each were a device.
    """

    Options: ClassVar[type[Settings]] = PaCoOptions
    classifier_name = "classifier"
    training_only = ("projector.", "key_backbone.", "key_projector.", "queue.")

    def __init__(
        self,
        backbone: Backbone,
        class_counts: Tensor,
        *,
        temperature: float = 0.2,
        alpha: float = 0.05,
        beta: float = 1.0,
        gamma: float = 1.0,
        prior: bool = True,
        embedding: int = 128,
        queue_size: int = 8192,
        queue_init: QueueInit = "official",
        momentum: float = 0.999,
        projector_init: str = "default",
        trainable: str = "all",
        virtual_gpus: int = 1,
    ) -> None:
        super().__init__(backbone)
        self.streams = {"main": Stream(views=2)}
        width, num_classes = backbone.num_features, len(class_counts)
        self.classifier = nn.Linear(width, num_classes)
        self.projector = create_mlp(width, width, embedding, norm=True)
        if projector_init == "kaiming":
            initialise_kaiming(self.projector[-1])
        if trainable == "last-block":
            freeze_early_convolutions(backbone)
        self.key_backbone = create_momentum_copy(backbone)
        self.key_projector = create_momentum_copy(self.projector)
        self.queue = KeyQueue(queue_size, embedding, num_classes, queue_init)
        self.prior_K: Tensor | None
        self.register_buffer("prior_K", class_prior(class_counts).float() if prior else None, persistent=False)
        self.temperature, self.alpha, self.beta, self.gamma = temperature, alpha, beta, gamma
        self.momentum, self.virtual_gpus = momentum, virtual_gpus
        self.uses_prior = prior

    def check_batch_size(self, batch_size: int) -> None:
        """Check that whole batches fill the queue, see ``KeyQueue.check_batch_size``, and each virtual GPU.

        Raises:
            UsageError: they do not.
        """
        self.queue.check_batch_size(batch_size)
        most = batch_size // world_size() // _LEAST_IMAGES
        if self.virtual_gpus > most:
            raise UsageError(
                f"virtual_gpus {self.virtual_gpus} leaves less than {_LEAST_IMAGES} images of a batch to each",
                f"At most --set method.virtual_gpus={most}, or a larger --batch-size.",
            )

    def forward(self, batches: Mapping[str, Batch], progress: Progress) -> StepOutput:
        """Move the key encoder, contrast queries with keys and queue, then put the keys into the queue."""
        batch = batches["main"]
        query_BCHW, key_BCHW = batch.views
        feats_BD, query_BE = self._encode(self.backbone, self.projector, query_BCHW)
        copies, originals = (self.key_backbone, self.key_projector), (self.backbone, self.projector)
        update_momentum_copy(copies, originals, self.momentum)
        keys_GE = self._encode_keys(key_BCHW, progress.key)
        own_BE = keys_GE.tensor_split(world_size())[rank()]
        center_logits_BK = self.classifier(feats_BD)
        loss = self._loss(query_BE, own_BE, batch.target_B, center_logits_BK)
        self.queue.enqueue(keys_GE, gather(batch.target_B))
        return StepOutput(loss, center_logits_BK.detach())

    def _encode(self, backbone: nn.Module, projector: nn.Module, x_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Return features and unit embeddings; each virtual GPU's part by itself, for its BatchNorm."""
        features, embeddings = [], []
        for part_BCHW in self._split(x_BCHW):
            features.append(backbone(part_BCHW))
            embeddings.append(unit_embeddings(projector(features[-1])))
        return torch.cat(features), torch.cat(embeddings)

    def _split(self, batch: Tensor) -> tuple[Tensor, ...]:
        """Return the parts of the virtual GPUs; a last, smaller batch may have fewer."""
        return batch.tensor_split(min(self.virtual_gpus, max(1, len(batch) // _LEAST_IMAGES)))

    @torch.no_grad()
    def _encode_keys(self, x_BCHW: Tensor, key: Tensor) -> Tensor:
        """Return the keys of all processes; each BatchNorm group holds images of all, so that no group gives q away."""
        if world_size() * self.virtual_gpus == 1:
            return self._encode(self.key_backbone, self.key_projector, x_BCHW)[1]
        images_GCHW = gather(x_BCHW)
        order_G = draws.permutation(draws.fold(key, _DRAW_SHUFFLE), len(images_GCHW))
        own_B = order_G.tensor_split(world_size())[rank()]
        shuffled_BE = self._encode(self.key_backbone, self.key_projector, images_GCHW[own_B])[1]
        return gather(shuffled_BE)[torch.argsort(order_G)]

    def _loss(self, query_BE: Tensor, key_BE: Tensor, target_B: Tensor, center_logits_BK: Tensor) -> Tensor:
        """Mean over the virtual GPUs of the loss on each one's own queries and keys and the common queue."""
        parts = (self._split(tensor) for tensor in (query_BE, key_BE, target_B, center_logits_BK))
        losses = [
            paco_loss(
                torch.cat((q_BE, k_BE, self.queue.keys_QE)),
                torch.cat((y_B, y_B, self.queue.labels_Q)),
                logits_BK,
                self.prior_K,
                temperature=self.temperature,
                alpha=self.alpha,
                beta=self.beta,
                gamma=self.gamma,
            )
            for q_BE, k_BE, y_B, logits_BK in zip(*parts, strict=True)
        ]
        return torch.stack(losses).mean()

    def predict(self, x_BCHW: Tensor) -> Tensor:
        """Return the linear classifier's logits_BK, without the prior."""
        logits_BK: Tensor = self.classifier(self.backbone(x_BCHW))
        return logits_BK
