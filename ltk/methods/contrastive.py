"""Pure losses that PaCo and GPaCo share.

Suffixes: N anchors (the first rows of the features), A all samples (anchors, other views, queue), K classes,
D width of an embedding.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ltk.numerics import at_least_float32, full_precision

_PRIOR_EPS = 1e-9
_MASS_EPS = 1e-12


def class_prior(class_counts_K: Tensor) -> Tensor:
    """Return float64 n_k / N: the loss needs the shares; counts would shift the centres against the samples."""
    counts_K = class_counts_K.double()
    return counts_K / counts_K.sum()


def add_log_prior(logits_NK: Tensor, prior_K: Tensor | None) -> Tensor:
    """Return ``z + log(prior + 1e-9)``, or the logits when there is no prior; at least float32."""
    logits_NK = at_least_float32(logits_NK)
    return logits_NK if prior_K is None else logits_NK + torch.log(prior_K.to(logits_NK.dtype) + _PRIOR_EPS)


def unit_embeddings(x_BE: Tensor) -> Tensor:
    """Return the rows at length 1, in float32 under autocast too: at temperature 0.05 bfloat16 would be felt."""
    return F.normalize(at_least_float32(x_BE), dim=1)


def paco_loss(
    features_AD: Tensor,
    labels_A: Tensor,
    center_logits_NK: Tensor,
    prior_K: Tensor | None = None,
    *,
    temperature: float,
    alpha: float,
    beta: float = 1.0,
    gamma: float = 1.0,
    smoothing: float = 0.0,
    center_temperature: float = 1.0,
    base_temperature: float | None = None,
) -> Tensor:
    """Return the parametric contrastive loss of PaCo and GPaCo, mean over the anchors (Cui et al. 2021, section 3).

    One softmax over K class centres and all other samples. PaCo's anchors are the B queries, GPaCo's the 2B views.
    Gradients flow through every row of the features: detach what is constant (keys, queue).

    Args:
        features_AD: unit embeddings; the first N rows are the anchors, then keys, then the queue.
        labels_A: int64 labels of all rows; a negative label marks an empty slot, which takes no part.
        center_logits_NK: the anchors' logits of the linear classifier, whose rows are the class centres.
        prior_K: share of each class in the training images, summing to 1; None leaves the prior out.
        temperature: tau > 0 of the sample similarities (not of the centres).
        alpha: weight of each sample of the anchor's class, >= 0.
        beta: weight of the anchor's class centre, > 0.
        gamma: weight of the samples in the normaliser, >= 0.
        smoothing: share of the centre's weight that goes to the other K - 1 centres, in [0, 1).
        center_temperature: divides the centre logits, prior included (1 in every published setting).
        base_temperature: the loss is scaled by ``temperature / base_temperature``; None is no scaling.
    """
    centers_NK = add_log_prior(center_logits_NK, prior_K) / center_temperature
    samples_NA = _similarities(features_AD, len(centers_NK), temperature)
    others_NA, positives_NA = _relations(labels_A, len(centers_NK), samples_NA.dtype)
    targets_NK = _smooth_one_hot(labels_A[: len(centers_NK)], centers_NK, smoothing)
    # The peak includes the anchor itself, as officially: with the 1e-12 inside the logarithm it is felt at small tau.
    peak_N1 = torch.maximum(centers_NK.amax(1, keepdim=True), samples_NA.amax(1, keepdim=True)).detach()
    sample_mass_N = (torch.exp(samples_NA - peak_N1) * others_NA).sum(1)
    mass_N = torch.exp(centers_NK - peak_N1).sum(1) + gamma * sample_mass_N
    log_normaliser_N = peak_N1.squeeze(1) + torch.log(mass_N + _MASS_EPS)  # log Z_i
    attraction_N = beta * (targets_NK * centers_NK).sum(1) + alpha * (positives_NA * samples_NA).sum(1)
    loss = (log_normaliser_N - attraction_N / (beta + alpha * positives_NA.sum(1))).mean()
    return loss if base_temperature is None else loss * (temperature / base_temperature)


def supervised_contrastive_loss(
    features_AD: Tensor,
    labels_A: Tensor,
    num_anchors: int,
    *,
    temperature: float,
    base_temperature: float | None = None,
) -> Tensor:
    """Return the supervised contrastive loss, mean over the anchors (Khosla et al. 2020, equation 2).

    Args:
        features_AD: unit embeddings; the first rows are the anchors.
        labels_A: int64 labels; negative for empty slots. Every anchor needs another sample of its class.
        num_anchors: N.
        temperature: tau > 0.
        base_temperature: the loss is scaled by ``temperature / base_temperature``; None is no scaling.
    """
    samples_NA = _similarities(features_AD, num_anchors, temperature)
    others_NA, positives_NA = _relations(labels_A, num_anchors, samples_NA.dtype)
    peak_N1 = samples_NA.amax(1, keepdim=True).detach()
    mass_N = (torch.exp(samples_NA - peak_N1) * others_NA).sum(1)
    log_normaliser_N = peak_N1.squeeze(1) + torch.log(mass_N + _MASS_EPS)
    loss = (log_normaliser_N - (positives_NA * samples_NA).sum(1) / positives_NA.sum(1)).mean()
    return loss if base_temperature is None else loss * (temperature / base_temperature)


def _similarities(features_AD: Tensor, num_anchors: int, temperature: float) -> Tensor:
    """Inner products of the anchors with all rows over the temperature, in float32 under autocast too."""
    features_AD = at_least_float32(features_AD)
    with full_precision(features_AD.device):
        return features_AD[:num_anchors] @ features_AD.T / temperature


def _relations(labels_A: Tensor, num_anchors: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """1 where a row is another sample than the anchor, and 1 where it is one of the anchor's class; else 0."""
    row_A = torch.arange(len(labels_A), device=labels_A.device)
    others_NA = (row_A[:num_anchors, None] != row_A) & (labels_A >= 0)
    positives_NA = others_NA & (labels_A[:num_anchors, None] == labels_A)
    return others_NA.to(dtype), positives_NA.to(dtype)


def _smooth_one_hot(labels_N: Tensor, like_NK: Tensor, smoothing: float) -> Tensor:
    num_classes = like_NK.shape[1]
    class_K = torch.arange(num_classes, device=labels_N.device)
    one_hot_NK = (labels_N[:, None] == class_K).to(like_NK.dtype)
    if smoothing == 0:
        return one_hot_NK
    share = smoothing / (num_classes - 1)
    return one_hot_NK * (1 - smoothing - share) + share
