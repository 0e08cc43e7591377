"""The words all layers share, with their shapes.

Suffixes used across ltk: B batch, C channels, H height, W width, K classes, D features, N images, V views.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Batch:
    """One batch of one stream.

    Attributes:
        views: V tensors, each x_BCHW, normalised floats; the same images, drawn independently.
        target_B: int64 class labels.
        index_B: int64 positions in the training set (to name an image in a message).
        key_B: int64 random keys, one per sample, a function of (seed, stream, epoch, position); see ``ltk.draws``.
    """

    views: tuple[Tensor, ...]
    target_B: Tensor
    index_B: Tensor
    key_B: Tensor


@dataclass(frozen=True, slots=True)
class StepOutput:
    """What a training step of a method gives back.

    Attributes:
        loss: 0-dim tensor to differentiate.
        logits_BK: logits of the (possibly mixed) batch, for training accuracy; not differentiated further.
        logs: named 0-dim tensors (parts of the loss) for the journal, detached. Names of the run's own figures, such
            as "loss" or "epoch", are refused at the first step; see ``ltk.engine.journal.OWN_NAMES``.
    """

    loss: Tensor
    logits_BK: Tensor
    logs: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Progress:
    """Where training stands, as tensors on the device so that a captured step reads fresh values.

    Attributes:
        epoch: 0-dim float32 tensor, the epoch counted from 0.
        epochs: how many epochs the run has.
        key: 0-dim int64 random key, a function of (seed, update); equal on all ranks; see ``ltk.draws``.
    """

    epoch: Tensor
    epochs: int
    key: Tensor
