"""Pure functions of ResLT: which branch learns which class, and the loss.

Suffixes: R branches, B batch, K classes.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ltk.numerics import at_least_float32

GroupBy = Literal["share", "count", "rank"]


def class_groups(class_counts_K: Tensor, medium: float, tail: float, by: GroupBy = "share") -> Tensor:
    """Return which classes each branch learns: bool_RK for the branches all, medium-and-tail, tail.

    Args:
        class_counts_K: training images of each class.
        medium: limit of the medium-and-tail group.
        tail: limit of the tail group.
        by: what the limits are: "share", a share in [0, 1] of the classes, the rarest, classes with equal counts kept
            together; "count", the largest number of images a class of the group has; "rank", a number of rarest
            classes, equal counts in order of class (the official limits).
    """
    counts_K = class_counts_K.cpu()
    order_K = torch.argsort(counts_K, stable=True)
    if by == "rank":
        place_K = torch.empty_like(order_K).scatter_(0, order_K, torch.arange(len(order_K)))
        groups = [place_K < limit for limit in (medium, tail)]
    elif by == "count":
        groups = [counts_K <= limit for limit in (medium, tail)]
    else:
        ascending_K = counts_K[order_K]
        sizes = [round(limit * len(counts_K)) for limit in (medium, tail)]
        groups = [counts_K <= ascending_K[size - 1] if size else counts_K < 0 for size in sizes]
    return torch.stack([torch.ones_like(groups[0]), *groups])


def eps_cross_entropy(logits_BK: Tensor, target_B: Tensor, eps: float = 1e-7, smoothing: float = 0.0) -> Tensor:
    """Return loss_B, ``-sum_k t_k log(softmax(z)_k + eps)``.

    Args:
        logits_BK: logits.
        target_B: int64 labels.
        eps: inside the logarithm; 0 is exact cross-entropy.
        smoothing: share of the target that goes to the other K - 1 classes.
    """
    logits_BK = at_least_float32(logits_BK)
    log_p_BK = torch.log(F.softmax(logits_BK, dim=1) + eps) if eps else F.log_softmax(logits_BK, dim=1)
    own_B = log_p_BK.gather(1, target_B[:, None]).squeeze(1)
    if smoothing == 0:
        return -own_B
    others_B = log_p_BK.sum(dim=1) - own_B
    return -((1 - smoothing) * own_B + smoothing / (logits_BK.shape[1] - 1) * others_B)


def reslt_loss(
    logits_RBK: Tensor,
    target_B: Tensor,
    groups_RK: Tensor,
    *,
    beta: float,
    eps: float = 1e-7,
    fused_eps: float = 0.0,
    smoothing: float = 0.0,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the loss of R branches and its parts "independent" and "fused".

    Args:
        logits_RBK: the branches' logits; the first branch learns all classes.
        target_B: int64 labels.
        groups_RK: bool, which classes each branch learns, of ``class_groups``; its first R rows count.
        beta: weight of the branches' own losses, in [0, 1]; the fused logits get ``1 - beta``.
        eps: inside the logarithm of the branches' losses.
        fused_eps: inside the logarithm of the fused loss (0 on CIFAR and iNaturalist, 1e-7 on ImageNet).
        smoothing: label smoothing of all terms.
    """
    num_branches = len(logits_RBK)
    member_RB = groups_RK[:num_branches, target_B]
    loss_RB = torch.stack([eps_cross_entropy(logits_BK, target_B, eps, smoothing) for logits_BK in logits_RBK])
    independent = (loss_RB * member_RB).sum() / member_RB.sum()  # one common denominator B + |M| + |T|
    fused = eps_cross_entropy(logits_RBK.sum(dim=0), target_B, fused_eps, smoothing).mean()
    return beta * independent + (1 - beta) * fused, {"independent": independent, "fused": fused}
