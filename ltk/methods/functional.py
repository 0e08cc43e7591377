"""Pure functions that two or more methods use: mixing, class weights, losses, weight norms.

Class weights, priors and margins are made once, in float64, from ``class_counts_K``; the losses take them as tensors.
Suffixes: B batch, C channels, H height, W width, K classes, D features.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ltk import draws
from ltk.numerics import full_precision

_GCL_NOISE_STD = 1 / 3

# --- mixing ---------------------------------------------------------------------------------------------------------


def mixup(x: Tensor, partner: Tensor, lam: Tensor) -> Tensor:
    """Return ``lam * x + (1 - lam) * partner`` (Zhang et al. 2018), for images, soft labels or losses.

    Args:
        x: any shape.
        partner: the shape of ``x``.
        lam: share of ``x`` in [0, 1], 0-dim or broadcastable.
    """
    return lam * x + (1 - lam) * partner


def cutmix_box(lam: Tensor, centre_y: Tensor, centre_x: Tensor, height: int, width: int) -> Tensor:
    """Return the box that covers about ``1 - lam`` of an image, clipped at its borders, as bool box_HW.

    The sides are ``ceil(size * sqrt(1 - lam))``, halved downwards on each side of the centre, so that an odd side loses
    one pixel (GLMC's official code; CutMix, Yun et al. 2019, rounds the side down instead).

    Args:
        lam: 0-dim, share of the image kept, in [0, 1].
        centre_y: 0-dim int64, row in [0, height).
        centre_x: 0-dim int64, column in [0, width).
        height: rows.
        width: columns.
    """
    side = torch.sqrt(1 - lam)
    row_H = torch.arange(height, device=lam.device) - centre_y
    column_W = torch.arange(width, device=lam.device) - centre_x
    half_y = torch.ceil(height * side).long() // 2
    half_x = torch.ceil(width * side).long() // 2
    in_rows_H = (row_H >= -half_y) & (row_H < half_y)
    in_columns_W = (column_W >= -half_x) & (column_W < half_x)
    return in_rows_H[:, None] & in_columns_W


def cutmix(x_BCHW: Tensor, partner_BCHW: Tensor, box_HW: Tensor) -> Tensor:
    """Return ``x_BCHW`` with ``partner_BCHW`` inside the box (Yun et al. 2019).

    Args:
        x_BCHW: images.
        partner_BCHW: images to paste from.
        box_HW: bool, True where to paste.
    """
    return torch.where(box_HW, partner_BCHW, x_BCHW)


# --- class weights and priors ---------------------------------------------------------------------------------------


def _positive_counts(class_counts_K: Tensor) -> Tensor:
    if bool((class_counts_K <= 0).any()):
        raise ValueError("every class needs at least one training image")
    return class_counts_K.double()


def inverse_power_weights(class_counts_K: Tensor, power: float = 1.0, total: float | None = None) -> Tensor:
    """Return float64 weights_K proportional to ``n_k ** -power``.

    Args:
        class_counts_K: training images per class, each at least 1.
        power: 0 gives equal weights, 1 inverse frequency.
        total: what the weights sum to; by default K.

    Raises:
        ValueError: a class has no images.
    """
    raw_K = _positive_counts(class_counts_K) ** -power
    return raw_K / raw_K.sum() * (len(raw_K) if total is None else total)


def effective_number_weights(class_counts_K: Tensor, beta: float = 0.9999, total: float | None = None) -> Tensor:
    """Return float64 weights_K proportional to ``(1 - beta) / (1 - beta ** n_k)``.

    Cui et al.: "Class-balanced loss based on effective number of samples", 2019.

    Args:
        class_counts_K: training images per class, each at least 1.
        beta: in [0, 1); 0 gives equal weights, towards 1 inverse frequency.
        total: what the weights sum to; by default K (LDAM), 1 in GCL's code.

    Raises:
        ValueError: a class has no images.
    """
    counts_K = _positive_counts(class_counts_K)
    log_beta = torch.log(torch.tensor(beta, dtype=torch.float64, device=counts_K.device))
    raw_K = -1 / torch.expm1(counts_K * log_beta)
    return raw_K / raw_K.sum() * (len(raw_K) if total is None else total)


def log_prior(class_counts_K: Tensor) -> Tensor:
    """Return float64 ``log(n_k / N)``.

    Raises:
        ValueError: a class has no images (its logarithm is not finite).
    """
    counts_K = _positive_counts(class_counts_K)
    return torch.log(counts_K / counts_K.sum())


# --- losses ---------------------------------------------------------------------------------------------------------


def soft_cross_entropy(logits_BK: Tensor, target_BK: Tensor) -> Tensor:
    """Return the mean over the batch of ``-sum_k t_k log softmax(z)_k``; the targets need not sum to 1."""
    return -(target_BK * F.log_softmax(logits_BK, dim=1)).sum(dim=1).mean()


def logit_adjusted_cross_entropy(
    logits_BK: Tensor, target_B: Tensor, log_prior_K: Tensor, tau: float = 1.0, weight_K: Tensor | None = None
) -> Tensor:
    """Return the mean cross-entropy of ``z + tau * log(prior)`` (Menon et al. 2021, equation 10).

    Args:
        logits_BK: logits without adjustment.
        target_B: int64 labels.
        log_prior_K: of ``log_prior``.
        tau: 0 is plain cross-entropy, 1 balanced softmax.
        weight_K: class weights; the mean divides by the sum of w_y over the batch.
    """
    return F.cross_entropy(logits_BK + tau * log_prior_K, target_B, weight_K)


def balanced_softmax(
    logits_BK: Tensor, target_B: Tensor, log_prior_K: Tensor, weight_K: Tensor | None = None
) -> Tensor:
    """Return the balanced softmax loss (Ren et al. 2020): logit adjustment with tau 1."""
    return logit_adjusted_cross_entropy(logits_BK, target_B, log_prior_K, 1.0, weight_K)


def focal_loss(
    logits_BK: Tensor,
    target_B: Tensor,
    gamma: float = 2.0,
    weight_K: Tensor | None = None,
    *,
    detach_factor: bool = False,
    weighted_probability: bool = False,
) -> Tensor:
    """Return the mean over the batch of ``(1 - p_y) ** gamma * w_y * -log p_y`` with p the softmax.

    Lin et al.: "Focal loss for dense object detection", 2017, equation 5.

    Args:
        logits_BK: logits.
        target_B: int64 labels.
        gamma: at least 0; 0 is cross-entropy.
        weight_K: class weights w; the mean divides by B, not by their sum.
        detach_factor: send no gradient through the factor (GCL's code); LDAM-DRW's code differentiates it.
        weighted_probability: take ``exp(-w_y * -log p_y)`` for p in the factor, as both codes do; it is a probability
            only without weights.
    """
    loss_B = F.cross_entropy(logits_BK, target_B, reduction="none")
    weighted_B = loss_B if weight_K is None else weight_K[target_B] * loss_B
    complement_B = 1 - torch.exp(-(weighted_B if weighted_probability else loss_B))
    # At complement 0 a power below 1 has an infinite slope, and the loss it multiplies is 0: nan without the clamp.
    factor_B = complement_B.clamp_min(torch.finfo(complement_B.dtype).tiny) ** gamma
    return ((factor_B.detach() if detach_factor else factor_B) * weighted_B).mean()


def sigmoid_focal_loss(
    logits_BK: Tensor, target_B: Tensor, gamma: float = 2.0, weight_K: Tensor | None = None
) -> Tensor:
    """Return the one-against-rest focal loss: summed over classes, times w_y, mean over the batch (Cui et al. 2019).

    Args:
        logits_BK: logits.
        target_B: int64 labels.
        gamma: at least 0; 0 is binary cross-entropy.
        weight_K: class weights w, applied to all K terms of an image of class y.
    """
    sign_BK = 1.0 - 2.0 * F.one_hot(target_B, logits_BK.shape[1])
    # With u = -z at the target and z elsewhere: the term is softplus(u) and the factor sigmoid(u) ** gamma.
    wrong_BK = sign_BK * logits_BK
    loss_B = (torch.exp(gamma * F.logsigmoid(wrong_BK)) * F.softplus(wrong_BK)).sum(dim=1)
    return (loss_B if weight_K is None else weight_K[target_B] * loss_B).mean()


def class_balanced_softmax(logits_BK: Tensor, target_B: Tensor, weight_K: Tensor) -> Tensor:
    """Return binary cross-entropy on softmax probabilities, times w_y, mean over all B*K terms.

    The loss of stage two of weight balancing (Alshammari et al. 2022); dividing by K as well makes its gradient small
    beside the weight decay, which that stage relies on.

    Args:
        logits_BK: logits.
        target_B: int64 labels.
        weight_K: class weights w, as of ``effective_number_weights``.
    """
    probability_BK = F.softmax(logits_BK, dim=1)
    target_BK = F.one_hot(target_B, logits_BK.shape[1]).to(probability_BK.dtype)
    weight_BK = weight_K.to(probability_BK.dtype)[target_B, None].expand_as(probability_BK)
    with full_precision(logits_BK.device):  # it refuses to run under autocast
        return F.binary_cross_entropy(probability_BK, target_BK, weight_BK)


def ldam_margins(class_counts_K: Tensor, max_margin: float = 0.5) -> Tensor:
    """Return float64 margins_K proportional to ``n_k ** (-1/4)``, the largest ``max_margin`` (Cao et al. 2019).

    Raises:
        ValueError: a class has no images.
    """
    raw_K = _positive_counts(class_counts_K) ** -0.25
    return raw_K * (max_margin / raw_K.max())


def ldam_loss(
    cosines_BK: Tensor, target_B: Tensor, margins_K: Tensor, scale: float = 30.0, weight_K: Tensor | None = None
) -> Tensor:
    """Return cross-entropy of ``scale * (cos - margin at the target)`` (LDAM, Cao et al. 2019).

    Args:
        cosines_BK: in [-1, 1].
        target_B: int64 labels.
        margins_K: of ``ldam_margins``.
        scale: s.
        weight_K: class weights; the mean divides by the sum of w_y over the batch.
    """
    margins_BK = F.one_hot(target_B, cosines_BK.shape[1]) * margins_K
    return F.cross_entropy(scale * (cosines_BK - margins_BK), target_B, weight_K)


def gcl_rarity(class_counts_K: Tensor) -> Tensor:
    """Return float64 rarity_K in [0, 1]: 0 for the largest class, 1 for the smallest, linear in ``log n_k``.

    The cloud size of GCL (Li et al. 2022). Classes of equal size all have rarity 0 (the official code gives nan).

    Raises:
        ValueError: a class has no images.
    """
    log_K = torch.log(_positive_counts(class_counts_K))
    gap_K = log_K.max() - log_K
    return gap_K / gap_K.max().clamp_min(torch.finfo(gap_K.dtype).tiny)


def gcl_noise(key_B: Tensor, draw: int, num_classes: int) -> Tensor:
    """Return noise_BK for ``gcl_logits``: draws from a normal law of standard deviation 1/3, float32.

    Args:
        key_B: int64 keys, one per image.
        draw: which of an image's draws.
        num_classes: K.
    """
    return _GCL_NOISE_STD * draws.normal(draws.fold(key_B, draw), num_classes)


def gcl_logits(
    cosines_BK: Tensor,
    target_B: Tensor,
    rarity_K: Tensor,
    noise_BK: Tensor,
    *,
    scale: float = 30.0,
    margin: float = 0.0,
    noise_scale: float = 0.5,
    form: str = "cosine",
    easy_margin: bool = True,
    signed: bool = False,
) -> Tensor:
    """Return Gaussian clouded logits_BK, ready for cross-entropy (GCL, Li et al. 2022).

    Every class is pushed away by ``noise_scale * rarity * |noise|``, the target by ``margin`` too.

    Args:
        cosines_BK: in [-1, 1].
        target_B: int64 labels.
        rarity_K: of ``gcl_rarity``.
        noise_BK: of ``gcl_noise``; clipped to [-1, 1] here.
        scale: s.
        margin: m, in cosine units or, with the angular form, in radians.
        noise_scale: the largest cloud, in cosine units or, with the angular form, in right angles.
        form: "cosine" subtracts from the cosine; "angle" adds to the angle (Li et al. 2024).
        easy_margin: with the angular form, move only classes at less than a right angle; else all, with a straight
            continuation where the angle would pass 180 degrees.
        signed: let the noise help as well as hurt (keep its sign).
    """
    noise_BK = noise_BK.clamp(-1, 1)
    cloud_BK = noise_scale * rarity_K * (noise_BK if signed else noise_BK.abs())
    margin_BK = margin * F.one_hot(target_B, cosines_BK.shape[1]).to(rarity_K.dtype)
    if form == "cosine":
        return scale * (cosines_BK - cloud_BK - margin_BK)
    turn_BK = math.pi / 2 * cloud_BK + margin_BK
    # At |cosine| = 1 the square root has an infinite slope: nan without the clamp.
    sine_BK = (1 - cosines_BK**2).clamp_min(torch.finfo(cosines_BK.dtype).tiny).sqrt()
    turned_BK = cosines_BK * turn_BK.cos() - sine_BK * turn_BK.sin()
    if easy_margin:
        return scale * torch.where(cosines_BK > 0, turned_BK, cosines_BK)
    return scale * torch.where(cosines_BK > -turn_BK.cos(), turned_BK, cosines_BK - turn_BK.sin())


# --- norms of classifier weights ------------------------------------------------------------------------------------


def max_norm_bound(weight_KD: Tensor, fraction: float = 0.1) -> Tensor:
    """Return the 0-dim bound ``min + fraction * (max - min)`` of the row norms (weight balancing's official code)."""
    norms_K = weight_KD.norm(dim=1)
    return norms_K.min() + fraction * (norms_K.max() - norms_K.min())


def max_norm(weight_KD: Tensor, bound: Tensor) -> Tensor:
    """Return the rows, those longer than ``bound`` scaled down to it (MaxNorm, Alshammari et al. 2022)."""
    return weight_KD * (bound / weight_KD.norm(dim=1, keepdim=True)).clamp_max(1)


def tau_normalise(weight_KD: Tensor, tau: float) -> Tensor:
    """Return the rows divided by ``norm ** tau`` (Kang et al. 2020): 0 changes nothing, 1 gives norm 1."""
    return weight_KD / weight_KD.norm(dim=1, keepdim=True).clamp_min(1e-12) ** tau
