"""Stage two: a new classifier on the frozen features of any run.

Recipes:
- ``crt`` trains a fresh linear classifier, ``lws`` a scale per class on the old one, ``tau-norm`` divides the old one's
  rows by ``norm ** tau`` and trains nothing. Kang et al.: "Decoupling representation and classifier for long-tailed
  recognition", ICLR 2020, https://arxiv.org/abs/1910.09217.
- ``maxnorm`` goes on with the old classifier, with a class-balanced loss, strong weight decay and rows no longer than a
  bound. Alshammari et al.: "Long-tailed recognition via weight balancing", CVPR 2022, https://arxiv.org/abs/2203.14197.
- ``gcl`` goes on with the old one as a cosine classifier, with Gaussian clouds, a margin and a focal factor.
  Li et al., CVPR 2022, https://arxiv.org/abs/2305.11733.
- ``balanced-softmax`` trains a fresh one with balanced softmax. Ren et al., NeurIPS 2020,
  https://arxiv.org/abs/2007.10740.

The features carry what was learnt from all images; only the classifier is biased towards large classes, and re-training
it alone, on class-balanced batches or with a balanced loss, is cheap. Which images it sees is the ``rule``.

Differs from the official codes:
- batch statistics are frozen (GCL does so; the others let them drift: ``batch_norm = "train"``);
- the class weights of a weighted focal loss multiply it, and its factor is made from the probability
  (GCL: from ``exp(-weight * loss)``; ``weighted_probability = true``);
- a missing stage one is an error; officially GCL then trains on random features;
- a cosine classifier of stage one goes on as a linear one through its normalised rows.

Suffixes: B batch, C channels, H height, W width, K classes, D features.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ltk.errors import UsageError
from ltk.methods.base import Method
from ltk.methods.classifier_recipes import (
    RECIPES,
    RecipeName,
    RetrainClassifierOptions,
    RuleName,
    balances,
    create_class_weights,
    create_stream,
)
from ltk.methods.functional import (
    balanced_softmax,
    class_balanced_softmax,
    focal_loss,
    gcl_logits,
    gcl_noise,
    gcl_rarity,
    log_prior,
    max_norm,
    max_norm_bound,
    tau_normalise,
)
from ltk.methods.mixing import mixup_step
from ltk.models.backbones import Backbone
from ltk.models.experts import create_experts
from ltk.models.heads import CosineClassifier, ScaledLinear, linear_parameters
from ltk.settings import Settings
from ltk.types import Batch, Progress, StepOutput

_NO_BOUND = torch.finfo(torch.float32).max  # finite: a checkpoint holds no infinity


class RetrainClassifier(Method):
    """A classifier trained on frozen features; batches may hold images, or features_BD made beforehand.

    ``start_from`` must follow, unless a state dict is loaded.

    Args:
        backbone: that of stage one; frozen here.
        class_counts: class_counts_K, training images of each class, at least 1 each.
        recipe: a key of ``RECIPES``.
        rule: which images it sees, or None for the recipe's own.
        epoch_length: "rule" or "images".
        batch_norm: "eval" or "train".
        mixup_alpha: 0 for no mixup, None for the recipe's own.
        mixup_images: mix images as well as labels.
        tau: of tau-norm.
        keep_bias: of tau-norm.
        fraction: of maxnorm.
        project_every: of maxnorm, "epoch" or "step".
        beta: of effective numbers.
        form: of gcl, "cosine" or "angle".
        scale: of gcl.
        margin: of gcl.
        noise_scale: of gcl.
        easy_margin: of gcl's angular form.
        gamma: of gcl.
        weighted_probability: of gcl with weights.
        experts: of stage one; 1 for none.
        expert_width: of their stages.
    """

    Options: ClassVar[type[Settings]] = RetrainClassifierOptions
    backbone_options = ("experts", "expert_width")
    training_only = ("bound",)

    def __init__(
        self,
        backbone: Backbone,
        class_counts: Tensor,
        *,
        recipe: RecipeName = "crt",
        rule: RuleName | None = None,
        epoch_length: str = "rule",
        batch_norm: str = "eval",
        mixup_alpha: float | None = None,
        mixup_images: bool = True,
        tau: float = 1.0,
        keep_bias: bool = False,
        fraction: float = 0.1,
        project_every: str = "epoch",
        beta: float = 0.9999,
        form: str = "cosine",
        scale: float = 20.0,
        margin: float = 0.1,
        noise_scale: float = 0.5,
        easy_margin: bool = True,
        gamma: float = 1.0,
        weighted_probability: bool = False,
        experts: int = 1,
        expert_width: float = 1.0,
    ) -> None:
        if experts > 1:
            backbone = create_experts(backbone, experts, expert_width)
        super().__init__(backbone.requires_grad_(False))
        own = RECIPES[recipe]
        rule = own.rule if rule is None else rule
        self.recipe, self.batch_norm, self.takes_features = recipe, batch_norm, batch_norm == "eval"
        self.mixup_alpha = own.mixup_alpha if mixup_alpha is None else mixup_alpha
        self.mixup_images = mixup_images
        self.tau, self.keep_bias, self.fraction, self.project_every = tau, keep_bias, fraction, project_every
        self.gamma, self.weighted_probability = gamma, weighted_probability
        self.clouded_logits = partial(
            gcl_logits, scale=scale, margin=margin, noise_scale=noise_scale, form=form, easy_margin=easy_margin
        )
        self.scale = scale if recipe == "gcl" else 1.0
        strength = {"crt": 0.0, "lws": 0.0, "tau-norm": tau, "gcl": noise_scale}.get(recipe, 1.0)
        self.uses_prior = strength > 0 or balances(rule, beta)
        num_samples = int(class_counts.sum()) if epoch_length == "images" else None
        self.streams = {"main": create_stream(rule, beta, num_samples)}
        self.fc = _create_head(recipe, backbone.num_features, len(class_counts))
        self.weight_K: Tensor | None
        self.log_prior_K: Tensor
        self.rarity_K: Tensor
        self.bound: Tensor
        self.register_buffer("weight_K", create_class_weights(recipe, rule, class_counts, beta), persistent=False)
        self.register_buffer("log_prior_K", log_prior(class_counts).float(), persistent=False)
        self.register_buffer("rarity_K", gcl_rarity(class_counts).float(), persistent=False)
        self.register_buffer("bound", torch.tensor(_NO_BOUND))

    def start_from(self, parent: Method | None) -> None:
        """Take the backbone and, if the recipe continues it, the classifier of stage one.

        Raises:
            UsageError: no stage one, another backbone, or no single classifier to continue.
        """
        if parent is None:
            raise UsageError(
                "a classifier is re-trained on the features of a finished run, and none is named",
                f"Use: ltk finetune-classifier RUN --method {self.recipe}",
            )
        super().start_from(parent)
        if not RECIPES[self.recipe].continues:
            return
        if not parent.classifier_name:
            raise UsageError(
                f"{self.recipe} continues one classifier on the features; {type(parent).__name__} has none",
                "Use --method crt or balanced-softmax: they train a fresh one on the pooled features.",
            )
        self.load_stage_one(parent.get_submodule(parent.classifier_name))

    @torch.no_grad()
    def load_stage_one(self, classifier: nn.Module) -> None:
        """Start from the classifier of stage one; recipes that train a fresh one keep nothing of it.

        Args:
            classifier: see ``linear_parameters``; on the same features, of the same classes.

        Raises:
            UsageError: another kind of classifier, or other widths.
        """
        weight_KD, bias_K = linear_parameters(classifier)
        if weight_KD.shape != self.fc.weight.shape:
            given, wanted = tuple(weight_KD.shape), tuple(self.fc.weight.shape)
            raise UsageError(f"the classifier of stage one is {given}, these features and classes need {wanted}")
        if not RECIPES[self.recipe].continues:
            return
        if isinstance(self.fc, CosineClassifier):
            # Lengths of rows do not decide, but they slow the learning, so they are kept.
            self.fc.weight.copy_(classifier.weight)  # type: ignore[arg-type]
            return
        if self.recipe == "tau-norm":
            weight_KD = tau_normalise(weight_KD, self.tau)
            bias_K = bias_K if self.keep_bias else torch.zeros_like(bias_K)
        self.fc.weight.copy_(weight_KD)
        self.fc.bias.copy_(bias_K)
        self.bound.copy_(max_norm_bound(weight_KD, self.fraction))

    def train(self, mode: bool = True) -> Self:
        """Set the mode; the backbone stays in evaluation mode unless its batch statistics may drift."""
        super().train(mode)
        if self.batch_norm == "eval":
            self.backbone.eval()
        return self

    def forward(self, batches: Mapping[str, Batch], progress: Progress) -> StepOutput:
        """Return the recipe's loss of images, or of features made beforehand."""
        if not RECIPES[self.recipe].trains:
            raise UsageError(f"{self.recipe} trains nothing", "Evaluate it right after load_stage_one.")
        loss, logits_BK = mixup_step(
            batches["main"],
            progress.key,
            self.mixup_alpha,
            predict=self._logits,
            loss=self._loss,
            mix_images=self.mixup_images,
        )
        return StepOutput(loss, self.scale * logits_BK.detach())

    def _logits(self, x: Tensor) -> Tensor:
        """Return what the head gives on the frozen features."""
        with torch.no_grad():
            features_BD = self.features(x)
        logits_BK: Tensor = self.fc(features_BD)
        return logits_BK

    def _loss(self, logits_BK: Tensor, target_B: Tensor, key_B: Tensor, label: int) -> Tensor:
        if self.recipe == "gcl":
            noise_BK = gcl_noise(key_B, label, logits_BK.shape[1])
            clouded_BK = self.clouded_logits(logits_BK, target_B, self.rarity_K, noise_BK)
            focal = {"detach_factor": True, "weighted_probability": self.weighted_probability}
            return focal_loss(clouded_BK, target_B, self.gamma, self.weight_K, **focal)
        if self.recipe == "balanced-softmax":
            return balanced_softmax(logits_BK, target_B, self.log_prior_K, self.weight_K)
        if self.recipe == "maxnorm":
            assert self.weight_K is not None
            return class_balanced_softmax(logits_BK, target_B, self.weight_K)
        return F.cross_entropy(logits_BK, target_B, self.weight_K)

    def features(self, x_BCHW: Tensor) -> Tensor:
        """Return features_BD of images; features_BD made beforehand come back as they are."""
        return x_BCHW if x_BCHW.ndim == 2 else super().features(x_BCHW)

    def predict(self, x_BCHW: Tensor) -> Tensor:
        """Return logits_BK of images, or of features made beforehand."""
        logits_BK: Tensor = self.scale * self.fc(self.features(x_BCHW))
        return logits_BK

    def after_step(self) -> None:
        """Shorten long rows, if maxnorm is to do so after every step."""
        if self.recipe == "maxnorm" and self.project_every == "step":
            self._project()

    def after_epoch(self) -> None:
        """Shorten long rows (maxnorm)."""
        if self.recipe == "maxnorm":
            self._project()

    @torch.no_grad()
    def _project(self) -> None:
        self.fc.weight.copy_(max_norm(self.fc.weight, self.bound))


def _create_head(recipe: str, width: int, num_classes: int) -> nn.Linear | CosineClassifier:
    if recipe == "gcl":
        return CosineClassifier(width, num_classes)
    if recipe == "lws":
        return ScaledLinear(width, num_classes)
    return nn.Linear(width, num_classes).requires_grad_(RECIPES[recipe].trains)
