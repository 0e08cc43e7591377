"""ResLT: residual learning for long-tailed recognition, and RIDE-ResLT.

Cui, Liu, Tian, Zhong, Jia: "ResLT: Residual Learning for Long-tailed Recognition", TPAMI 2022,
https://arxiv.org/abs/2101.10633.

Three light branches stand on one backbone and share one linear classifier: the first learns all classes, the second
only medium and tail classes, the third only tail classes. The prediction is the sum of their logits, so that the second
and third are residuals for the rare classes. With several experts (RIDE) the late stages, branches and classifier
exist once per expert and the experts' logits are averaged.

Differs from the official code:
- groups follow the class counts, for any data set; the official limits are class indices, given here as a number of
  rarest classes (``group_by="rank"``), ties in a stable order and labels never renumbered;
- iNaturalist's third branch, which is computed and never used, does not exist with ``branches=2``;
- the number of experts in evaluation is an option of its own, and averaging divides by that number;
- ``eval_pool_last``, ``gamma`` and ``keep_bias`` switch off what the official evaluation does silently (block form:
  pooling moved before the block, rows divided by ``norm ** gamma``, bias dropped);
- ``eps=0`` takes the exact log-softmax; the official 1e-7 inside the logarithm caps a sample's loss at 16.1.

Suffixes: E experts, R branches, B batch, C channels, H height, W width, K classes, D features.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from ltk.methods.base import Method
from ltk.methods.residual import GroupBy, class_groups, reslt_loss
from ltk.models.backbones import Backbone
from ltk.models.branches import BlockBranches, NormBranches, scaled_linear
from ltk.models.experts import ExpertBackbone, create_experts
from ltk.settings import Needs, Other, Settings
from ltk.types import Batch, Progress, StepOutput

_BLOCK = Needs(form=("block",))


class ResLTOptions(Settings):
    """Options of ResLT; the defaults are the CIFAR form. The block form scales its classifier unless told otherwise."""

    form: Literal["norms", "block"] = Field("norms", description="norms (CIFAR) or 1x1 block (ImageNet, iNaturalist)")
    branches: Literal[2, 3] = Field(3, description="3, or 2 without the tail branch (iNaturalist)")
    beta: float = Field(0.99, ge=0, le=1, description="weight of the branches' own losses (paper: alpha)")
    group_by: GroupBy = Field("share", description="limits are a share of the classes, image counts, or ranks")
    medium: float = Field(0.65, ge=0, description="limit of the medium-and-tail classes")
    tail: Annotated[float, Needs(branches=(3,), tail=(0,))] = Field(
        0.3, ge=0, description="limit of the tail classes (3 branches)"
    )
    eps: float = Field(1e-7, ge=0, description="inside the logarithm of the branches' losses; 0 is exact")
    fused_eps: float = Field(0.0, ge=0, description="inside the logarithm of the fused loss (1e-7 on ImageNet)")
    smoothing: float = Field(0.0, ge=0, lt=1, description="label smoothing")
    train_pool_last: Annotated[bool, _BLOCK] = Field(True, description="block form: pool after the block in training")
    eval_pool_last: Annotated[bool, _BLOCK] = Field(False, description="block form: pool after the block in evaluation")
    gamma: float = Field(0.0, ge=0, description="evaluation divides class weights by norm^gamma (block form: 0.7)")
    keep_bias: bool = Field(True, description="evaluation adds the bias (block form: no)")
    experts: int = Field(1, ge=1, description="RIDE experts, each with its own late stages")
    expert_width: Annotated[float, Needs(experts=Other((1,)))] = Field(
        1.0, gt=0, le=1, description="width of the experts' stages (0.75 for RIDE on ImageNet)"
    )
    eval_experts: int = Field(0, ge=0, description="experts that predict, the first so many (0: all)")

    @model_validator(mode="before")
    @classmethod
    def _published_evaluation(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("form") == "block":
            return {"gamma": 0.7, "keep_bias": False} | values
        return values

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.branches == 3 and self.tail > self.medium:
            raise ValueError(f"the tail limit {self.tail} exceeds the medium limit {self.medium}")
        if self.group_by == "share" and self.medium > 1:
            raise ValueError(f"{self.medium} is no share of the classes: give 0..1, or set group_by to count or rank")
        if self.eval_experts > self.experts:
            raise ValueError(f"{self.eval_experts} experts cannot predict when there are {self.experts}")
        return self


class ResLT(Method):
    """ResLT on any backbone; with several experts on any ResNet.

    Args:
        backbone: features to learn.
        class_counts: class_counts_K, training images of each class.
        form: "norms" or "block".
        branches: 3, or 2 without the tail branch.
        beta: weight of the branches' own losses.
        group_by: meaning of the two limits, see ``class_groups``.
        medium: limit of the medium-and-tail classes.
        tail: limit of the tail classes.
        eps: inside the logarithm of the branches' losses.
        fused_eps: inside the logarithm of the fused loss.
        smoothing: label smoothing.
        train_pool_last: block form, see ``BlockBranches``.
        eval_pool_last: block form, see ``BlockBranches``.
        gamma: evaluation divides class weights by ``norm ** gamma``.
        keep_bias: evaluation adds the bias, once per branch.
        experts: RIDE experts.
        expert_width: factor on the channels of the experts' stages.
        eval_experts: how many experts predict; 0 is all.

    Raises:
        UsageError: limits that contradict each other, or experts on a backbone that is no ResNet.
    """

    Options: ClassVar[type[Settings]] = ResLTOptions
    classifier_name = ""
    backbone_options = ("experts", "expert_width")

    def __init__(
        self,
        backbone: Backbone,
        class_counts: Tensor,
        *,
        form: str = "norms",
        branches: int = 3,
        beta: float = 0.99,
        group_by: GroupBy = "share",
        medium: float = 0.65,
        tail: float = 0.3,
        eps: float = 1e-7,
        fused_eps: float = 0.0,
        smoothing: float = 0.0,
        train_pool_last: bool = True,
        eval_pool_last: bool = False,
        gamma: float = 0.0,
        keep_bias: bool = True,
        experts: int = 1,
        expert_width: float = 1.0,
        eval_experts: int = 0,
    ) -> None:
        super().__init__(create_experts(backbone, experts, expert_width) if experts > 1 else backbone)
        width, num_classes = backbone.map_features, len(class_counts)
        if isinstance(self.backbone, ExpertBackbone):
            width = self.backbone.expert_features
        pooling = {"train_pool_last": train_pool_last, "eval_pool_last": eval_pool_last}
        self.branches = nn.ModuleList(
            BlockBranches(width, branches, **pooling) if form == "block" else NormBranches(width, branches)
            for _ in range(experts)
        )
        self.classifiers = nn.ModuleList(nn.Linear(width, num_classes) for _ in range(experts))
        self.groups_RK: Tensor
        self.register_buffer("groups_RK", class_groups(class_counts, medium, tail, group_by), persistent=False)
        self.beta, self.eps, self.fused_eps, self.smoothing = beta, eps, fused_eps, smoothing
        self.gamma, self.keep_bias, self.eval_experts = gamma, keep_bias, eval_experts or experts
        self.uses_prior = beta > 0 or gamma > 0

    def _branch_features(self, x_BCHW: Tensor, num_experts: int) -> list[Tensor]:
        """Return features_RBD of the first experts; without RIDE there is one."""
        if isinstance(self.backbone, ExpertBackbone):
            maps = self.backbone.forward_maps(x_BCHW, num_experts)
        else:
            maps = [self.backbone.forward_map(x_BCHW)]
        return [branches(map_BDHW) for branches, map_BDHW in zip(self.branches, maps, strict=False)]

    def forward(self, batches: Mapping[str, Batch], progress: Progress) -> StepOutput:
        """Return the sum over experts of beta times the branches' losses plus (1 - beta) times the fused loss."""
        batch = batches["main"]
        features = self._branch_features(batch.views[0], len(self.branches))
        logits_ERBK = torch.stack([fc(feats_RBD) for fc, feats_RBD in zip(self.classifiers, features, strict=True)])
        weights = {"beta": self.beta, "eps": self.eps, "fused_eps": self.fused_eps, "smoothing": self.smoothing}
        losses = [reslt_loss(logits_RBK, batch.target_B, self.groups_RK, **weights) for logits_RBK in logits_ERBK]
        loss = torch.stack([total for total, _ in losses]).sum()
        logs = {name: torch.stack([parts[name] for _, parts in losses]).sum().detach() for name in losses[0][1]}
        return StepOutput(loss, logits_ERBK.detach().sum(dim=1).mean(dim=0), logs)

    def predict(self, x_BCHW: Tensor) -> Tensor:
        """Return logits_BK: the sum over branches, the mean over experts."""
        features = self._branch_features(x_BCHW, self.eval_experts)
        logits = [
            scaled_linear(feats_RBD, fc, self.gamma, self.keep_bias).sum(dim=0)  # type: ignore[arg-type]
            for fc, feats_RBD in zip(self.classifiers, features, strict=False)
        ]
        return torch.stack(logits).mean(dim=0)
