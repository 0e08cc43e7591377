"""The contract between a method and the engine.

A method says which streams of batches it wants and turns them into a loss; the engine owns the rest (backward, mixed
precision, clipping, the optimiser, logging, saving) and never asks which method runs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from ltk.errors import UsageError
from ltk.models.backbones import Backbone
from ltk.settings import Settings
from ltk.types import Batch, Progress, StepOutput


@dataclass(frozen=True, slots=True)
class Stream:
    """One way of drawing training images.

    Attributes:
        sampler: a name of ``ltk.data.samplers``: uniform, power, class-balanced, effective-number, class-aware, ...
        views: how many views of each image the method wants.
        options: arguments of the sampler, such as ``{"q": 0.2}`` for power.
    """

    sampler: str = "uniform"
    views: int = 1
    options: Mapping[str, float] | None = None


class Method(nn.Module, ABC):
    """Base class of all methods.

    ``forward`` is the training step (so that DDP can wrap it); ``predict`` and ``features`` are inference. State that
    training needs and inference does not (queue, key encoder, running sums) is a buffer or sub-module named in
    ``training_only``: it travels with the checkpoint and never with the exported model.

    The attributes up to ``second_stage`` are facts of a class, equal for all options. The others are facts of an
    instance: where an option decides, the constructor sets them.

    Attributes:
        Options: the method's own options with their defaults; their fields are keyword arguments of the constructor.
        training_only: prefixes of state-dict keys that inference does not need.
        classifier_name: the sub-module that ``predict`` ends with, on pooled features; "" where there is no single one.
        backbone_options: names of options that change the shape of the backbone.
        second_stage: the recipe of ``ltk finetune-classifier`` that completes the method.
        uses_prior: training compensates for class frequencies, so that logits estimate posteriors under equal shares;
            False where they follow the training frequencies, as without the prior or with weights that are all equal.
        takes_features: batches may hold features_BD made beforehand in the place of images.
        streams: what ``forward`` is fed, by stream name; the first is the one that defines an epoch.
    """

    Options: ClassVar[type[Settings]] = Settings
    training_only: ClassVar[tuple[str, ...]] = ()
    classifier_name: ClassVar[str] = "fc"
    backbone_options: ClassVar[tuple[str, ...]] = ()
    second_stage: ClassVar[str] = "crt"
    uses_prior: bool = True
    takes_features: bool = False
    streams: Mapping[str, Stream]
    backbone: Backbone

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone
        self.streams = {"main": Stream()}

    @abstractmethod
    def forward(self, batches: Mapping[str, Batch], progress: Progress) -> StepOutput:
        """Return the loss of one training step.

        Args:
            batches: one Batch per entry of ``streams``.
            progress: where training stands; its ``key`` seeds draws made once per batch.
        """

    @abstractmethod
    def predict(self, x_BCHW: Tensor) -> Tensor:
        """Return logits_BK of normalised images; call in eval mode."""

    def features(self, x_BCHW: Tensor) -> Tensor:
        """Return pooled features_BD of normalised images."""
        features_BD: Tensor = self.backbone(x_BCHW)
        return features_BD

    def check_batch_size(self, batch_size: int) -> None:
        """Raise UsageError where batches of this size, over all devices, do not fit the method."""

    def start_from(self, parent: Method | None) -> None:
        """Take over what another run learnt, once, before training begins; here the backbone.

        Args:
            parent: the network of that run; None where there is none.

        Raises:
            UsageError: it has another backbone, or none of what the method needs.
        """
        if parent is None:
            return
        try:
            self.backbone.load_state_dict(parent.backbone.state_dict())
        except RuntimeError as error:
            fault = str(error).splitlines()[1:2] or [str(error)]
            raise UsageError(f"the run to start from has another backbone: {fault[0].strip()}") from error

    def after_step(self) -> None:
        """Do what follows the optimiser's update (momentum encoder, projection); no host synchronisation."""

    def after_epoch(self) -> None:
        """Do what follows the last update of an epoch (a projection made once per epoch)."""

    def inference_state(self) -> dict[str, Tensor]:
        """Return the state dict without what only training needs."""
        return {k: v for k, v in self.state_dict().items() if not k.startswith(self.training_only or ("\0",))}


class LinearMethod(Method):
    """A method whose classifier is one linear layer, ``fc``, on the pooled features.

    Args:
        backbone: features to learn.
        num_classes: K.
    """

    def __init__(self, backbone: Backbone, num_classes: int) -> None:
        super().__init__(backbone)
        self.fc = nn.Linear(backbone.num_features, num_classes)

    def predict(self, x_BCHW: Tensor) -> Tensor:
        """Return logits_BK; what training adds to them (a prior, a margin) is left out."""
        logits_BK: Tensor = self.fc(self.backbone(x_BCHW))
        return logits_BK
