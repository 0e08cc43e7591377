"""BaGMar, later named GALA: logit adjustment by the gradients each class has received.

Zhang, Qin, Ren, Wang, Chen, Hong: "Gradient-Aware Logit Adjustment Loss for Long-tailed Classifier", ICASSP 2024,
https://arxiv.org/abs/2403.09036.

Classifiers of large classes receive more positive gradient. What each class has received since training began, theta,
is taken for its prior: ``log theta`` is added to the logits during training and left out at inference. It is logit
adjustment with a prior that is learned instead of counted.

Differs from the official code:
- two vectors of K numbers instead of two K x K matrices and a loop over the images; the sums are exactly equal;
- the second term of the official code is the same for all classes of an image and cancels in the softmax: ``margin =
  "code"`` leaves it out and refuses ``lambda_2``; ``margin = "paper"`` is the formula of the paper, where it counts;
- batches need not be full, and the sums are saved with a checkpoint;
- with several processes the sums are averaged over all of them, as if one had seen the whole batch.

Suffixes: B batch, C channels, H height, W width, K classes, D features.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from ltk.distributed import gather
from ltk.methods.base import LinearMethod, Stream
from ltk.models.backbones import Backbone
from ltk.numerics import at_least_float32
from ltk.settings import Needs, Settings
from ltk.types import Batch, Progress, StepOutput

_EPSILON = 1e-3  # inside the logarithm; it matters in the first steps alone


def adjust_logits(logits_BK: Tensor, theta_K: Tensor, lambda_1: float = 1.0) -> Tensor:
    """Return ``z + lambda_1 * log(theta + 0.001)`` (the official code's margin, without the part that cancels).

    Args:
        logits_BK: logits.
        theta_K: positive gradient received by each class so far, at least 0.
        lambda_1: strength.
    """
    return logits_BK + lambda_1 * torch.log(theta_K + _EPSILON)


def adjust_logits_as_in_paper(
    logits_BK: Tensor, target_B: Tensor, theta_K: Tensor, lambda_1: float = 1.0, lambda_2: float = 1.0
) -> Tensor:
    """Return ``z_j + lambda_1 * log(theta_j) - lambda_2 * log(phi_y)`` for j other than y, and ``z_y`` as it is.

    phi_y, the negative gradient that images of class y have sent, equals theta_y: the softmax gradients of an image sum
    to zero.

    Args:
        logits_BK: logits.
        target_B: int64 labels y.
        theta_K: positive gradient received by each class so far, at least 0.
        lambda_1: strength of the first term.
        lambda_2: strength of the second term.
    """
    log_K = torch.log(theta_K + _EPSILON)
    margin_BK = lambda_1 * log_K - lambda_2 * log_K[target_B, None]
    is_target_BK = F.one_hot(target_B, logits_BK.shape[1]).bool()
    return logits_BK + margin_BK.masked_fill(is_target_BK, 0)


def positive_gradient(adjusted_BK: Tensor, target_B: Tensor) -> Tensor:
    """Return received_K, the sum over the images of each class of ``(1 - p_y) / B``: |dL/dz_y| of mean cross-entropy.

    Args:
        adjusted_BK: the logits the loss was computed from.
        target_B: int64 labels.
    """
    missing_B = -torch.expm1(-F.cross_entropy(adjusted_BK, target_B, reduction="none"))  # 1 - p_y
    is_target_BK = target_B[:, None] == torch.arange(adjusted_BK.shape[1], device=target_B.device)
    # A masked sum, not index_add: the same bits at every run on a GPU.
    return (is_target_BK * missing_B[:, None]).sum(dim=0) / len(target_B)


def add_gradient(total_K: Tensor, theta_K: Tensor, received_K: Tensor, how: str = "double") -> tuple[Tensor, Tensor]:
    """Return the total and theta after one more step.

    Args:
        total_K: the sum of what was received.
        theta_K: what the margin is made of.
        received_K: of ``positive_gradient``.
        how: "double" adds the whole total to theta at every step, so that early gradients weigh more (official code);
            "single" takes the total for theta.
    """
    total_K = total_K + received_K
    return total_K, theta_K + total_K if how == "double" else total_K


class BaGMarOptions(Settings):
    """Options of BaGMar; the defaults are those of the official code."""

    margin: Literal["code", "paper"] = Field("code", description="the margin of the official code or of the paper")
    lambda_1: float = Field(1.0, ge=0, description="strength of log theta")
    lambda_2: Annotated[float | None, Needs(margin=("paper",))] = Field(
        None, ge=0, description="strength of log phi; paper form alone (none: 1)"
    )
    accumulate: Literal["double", "single"] = Field("double", description="how theta sums up; double is official")
    sampler: Literal["uniform", "class-aware"] = Field("uniform", description="how images are drawn")
    frozen_backbone: bool = Field(False, description="train the classifier alone, on the features as they are")
    freeze_bn: Annotated[bool, Needs(frozen_backbone=(True,))] = Field(
        False, description="keep the batch statistics of a frozen backbone (officially they drift)"
    )


class BaGMar(LinearMethod):
    """BaGMar on a linear head.

    Args:
        backbone: features to learn.
        class_counts: class_counts_K, training images of each class (their number, and the length of an epoch).
        margin: "code" or "paper".
        lambda_1: strength of log theta.
        lambda_2: strength of log phi, paper form alone.
        accumulate: "double" or "single".
        sampler: how images are drawn.
        frozen_backbone: train the classifier alone.
        freeze_bn: keep the batch statistics of a frozen backbone.
    """

    Options: ClassVar[type[Settings]] = BaGMarOptions
    training_only = ("total_K", "theta_K")

    def __init__(
        self,
        backbone: Backbone,
        class_counts: Tensor,
        *,
        margin: str = "code",
        lambda_1: float = 1.0,
        lambda_2: float | None = None,
        accumulate: str = "double",
        sampler: str = "uniform",
        frozen_backbone: bool = False,
        freeze_bn: bool = False,
    ) -> None:
        super().__init__(backbone, len(class_counts))
        self.total_K: Tensor
        self.theta_K: Tensor
        self.register_buffer("total_K", torch.zeros(len(class_counts)))
        self.register_buffer("theta_K", torch.zeros(len(class_counts)))
        self.margin, self.lambda_1, self.accumulate = margin, lambda_1, accumulate
        self.lambda_2 = 1.0 if lambda_2 is None else lambda_2
        self.freeze_bn = freeze_bn
        has_margin = lambda_1 > 0 or (margin == "paper" and self.lambda_2 > 0)
        self.uses_prior = has_margin or sampler == "class-aware"
        length = {"num_samples": int(class_counts.sum())} if sampler == "class-aware" else {}
        self.streams = {"main": Stream(sampler, options=length)}
        backbone.requires_grad_(not frozen_backbone)

    def train(self, mode: bool = True) -> Self:
        """Set the mode; a backbone with frozen batch statistics stays in evaluation mode."""
        super().train(mode)
        if self.freeze_bn:
            self.backbone.eval()
        return self

    def forward(self, batches: Mapping[str, Batch], progress: Progress) -> StepOutput:
        """Return the adjusted cross-entropy and add this step's gradients to the sums."""
        batch = batches["main"]
        logits_BK = at_least_float32(self.predict(batch.views[0]))
        if self.margin == "paper":
            adjusted_BK = adjust_logits_as_in_paper(
                logits_BK, batch.target_B, self.theta_K, self.lambda_1, self.lambda_2
            )
        else:
            adjusted_BK = adjust_logits(logits_BK, self.theta_K, self.lambda_1)
        loss = F.cross_entropy(adjusted_BK, batch.target_B)
        self._accumulate(adjusted_BK.detach(), batch.target_B)
        return StepOutput(loss, logits_BK.detach())

    def _accumulate(self, adjusted_BK: Tensor, target_B: Tensor) -> None:
        received_K = gather(positive_gradient(adjusted_BK, target_B)[None]).mean(dim=0)
        total_K, theta_K = add_gradient(self.total_K, self.theta_K, received_K, self.accumulate)
        self.total_K.copy_(total_K)
        self.theta_K.copy_(theta_K)
