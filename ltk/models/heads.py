"""What stands on a backbone: linear, scaled and cosine classifiers, projector, predictor."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ltk.errors import UsageError
from ltk.numerics import full_precision


class CosineClassifier(nn.Module):
    """Cosines between features and class vectors, unscaled; no bias.

    Each class vector starts uniform in (-1, 1) and renormalised to length 1 (LDAM, Cao et al. 2019, NormedLinear).

    Args:
        in_features: D.
        num_classes: K.
    """

    def __init__(self, in_features: int, num_classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(F.normalize(torch.empty(num_classes, in_features).uniform_(-1, 1), dim=1))

    def forward(self, features_BD: Tensor) -> Tensor:
        """Return cosines_BK in [-1, 1], in full precision: losses multiply them by 30."""
        with full_precision(features_BD.device):
            features_BD = features_BD.to(self.weight.dtype)
            return F.linear(F.normalize(features_BD, dim=1), F.normalize(self.weight, dim=1))


class ScaledLinear(nn.Linear):
    """A frozen linear classifier whose logits are multiplied by a learned scale per class (LWS).

    Args:
        in_features: D.
        num_classes: K.
    """

    def __init__(self, in_features: int, num_classes: int) -> None:
        super().__init__(in_features, num_classes)
        self.requires_grad_(False)
        self.scale_K = nn.Parameter(torch.ones(num_classes))

    def forward(self, features_BD: Tensor) -> Tensor:
        """Return logits_BK; the bias is scaled too, as in the official code."""
        return super().forward(features_BD) * self.scale_K


def linear_parameters(classifier: nn.Module) -> tuple[Tensor, Tensor]:
    """Return weight_KD and bias_K of a linear classifier that decides as the given one.

    Args:
        classifier: ``nn.Linear``; ``ScaledLinear``, whose scales go into rows and bias; or ``CosineClassifier``,
            whose rows are normalised and whose bias is zero.

    Raises:
        UsageError: another kind of classifier.
    """
    if isinstance(classifier, CosineClassifier):
        weight_KD = F.normalize(classifier.weight.detach(), dim=1)
        return weight_KD, weight_KD.new_zeros(len(weight_KD))
    if isinstance(classifier, ScaledLinear):
        scale_K = classifier.scale_K.detach()
        return scale_K[:, None] * classifier.weight.detach(), scale_K * classifier.bias.detach()
    if isinstance(classifier, nn.Linear):
        weight_KD = classifier.weight.detach()
        return weight_KD, weight_KD.new_zeros(len(weight_KD)) if classifier.bias is None else classifier.bias.detach()
    raise UsageError(
        f"stage one has no linear or cosine classifier to continue ({type(classifier).__name__})",
        "Use a recipe that trains a fresh one: crt or balanced-softmax.",
    )


def create_mlp(*widths: int, norm: bool = False) -> nn.Sequential:
    """Return Linear layers with ReLU between them.

    Args:
        *widths: input, hidden and output widths.
        norm: put BatchNorm1d before each ReLU.
    """
    layers: list[nn.Module] = []
    for i, (width_in, width_out) in enumerate(pairwise(widths)):
        if i:
            layers += [nn.BatchNorm1d(width_in), nn.ReLU()] if norm else [nn.ReLU()]
        layers.append(nn.Linear(width_in, width_out))
    return nn.Sequential(*layers)


def initialise_kaiming(module: nn.Module) -> None:
    """Draw every convolution and linear weight from kaiming_normal_ (fan-in), as the CIFAR ResNets do."""
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Conv2d):
            nn.init.kaiming_normal_(part.weight)
