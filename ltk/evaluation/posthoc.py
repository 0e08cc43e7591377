"""Corrections of a trained classifier without retraining, as functions of its logits.

Every correction here is ``scale_K * logits + offset_K``, sometimes with a cost matrix for the decision, so corrections
chain, fit into an exported model and cost nothing. Suffixes: B or N images, K classes.

Sources: logit adjustment, Menon et al. 2021, equation 9. tau-normalisation, Kang et al. 2020, equation 4. Change of
prior and its estimation by EM, Saerens, Latinne, Decaestecker 2002. Prediction re-balancing (PN), lt-project (BaGMar).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import softmax

from ltk.errors import UsageError
from ltk.evaluation.metrics import FloatArray

_EM_STEPS = 1000
_EM_TOLERANCE = 1e-6  # largest change of a class's share


@dataclass(frozen=True, slots=True)
class Adjustment:
    """A correction of logits: ``probabilities = softmax(scale_K * logits + offset_K)``.

    Attributes:
        scale_K: factor of each class's logit.
        offset_K: added to each class's logit.
        prior_K: class frequencies that the corrected posteriors belong to, as far as the correction is one of priors.
        cost_KK: what it costs to answer the column when the row is true; None: every mistake costs the same.
        notes: what was done, in order, for tables, cards and exported files.
        transductive: it was computed from the very images it is applied to, and cannot serve single images.
        oracle: a knob was chosen on the images it is judged by.
    """

    scale_K: FloatArray
    offset_K: FloatArray
    prior_K: FloatArray
    cost_KK: FloatArray | None = None
    notes: tuple[str, ...] = ()
    transductive: bool = False
    oracle: bool = False

    def scores(self, logits_BK: FloatArray) -> FloatArray:
        """Return adjusted logits_BK in the precision of the logits."""
        dtype = logits_BK.dtype
        return logits_BK * self.scale_K.astype(dtype) + self.offset_K.astype(dtype)

    def probabilities(self, logits_BK: FloatArray) -> FloatArray:
        """Return probabilities_BK of the adjusted model."""
        return np.asarray(softmax(self.scores(logits_BK), axis=1))

    def decisions(self, scores_BK: FloatArray) -> FloatArray:
        """Return what the decision maximises: the scores, or minus the expected cost of each answer."""
        if self.cost_KK is None:
            return scores_BK
        return np.asarray(-softmax(scores_BK, axis=1) @ self.cost_KK.astype(scores_BK.dtype))

    def shifted(self, offset_K: FloatArray, note: str, *, transductive: bool = False) -> Adjustment:
        """Return this correction followed by an offset, which multiplies the prior by its exponential."""
        prior_K = self.prior_K * np.exp(offset_K - offset_K.max())
        return replace(
            self,
            offset_K=self.offset_K + offset_K,
            prior_K=prior_K / prior_K.sum(),
            notes=(*self.notes, note),
            transductive=self.transductive or transductive,
        )

    @property
    def label(self) -> str:
        """One line that says everything done, "none" when nothing was."""
        marks = [mark for mark, on in (("transductive", self.transductive), ("oracle", self.oracle)) if on]
        return ("; ".join(self.notes) or "none") + (f" ({', '.join(marks)})" if marks else "")


def no_adjustment(num_classes: int, prior_K: ArrayLike | None = None) -> Adjustment:
    """Return the correction that changes nothing.

    Args:
        num_classes: K.
        prior_K: class frequencies the model's posteriors belong to: those of training for plain cross-entropy,
            equal ones (the default) for a loss that compensates for them.
    """
    prior = np.ones(num_classes) if prior_K is None else np.asarray(prior_K, np.float64)
    return Adjustment(np.ones(num_classes), np.zeros(num_classes), prior / prior.sum())


def adjust_logits(start: Adjustment, prior_K: ArrayLike, tau: float) -> Adjustment:
    """Subtract ``tau * log(prior)`` (Menon et al. 2021, equation 9); tau 1 assumes balanced test classes.

    Args:
        start: corrections made before.
        prior_K: class frequencies of training, each above 0.
        tau: strength; 0 changes nothing.

    Raises:
        UsageError: a class of zero frequency.
    """
    return start.shifted(-tau * _log_prior(prior_K), f"logit adjustment tau={tau:g}")


def normalise_weights(start: Adjustment, weight_norm_K: ArrayLike, bias_K: ArrayLike | None, tau: float) -> Adjustment:
    """Divide each class's weight vector by its length to the power tau and drop the bias (Kang et al. 2020).

    With logits ``w_k . f + b_k`` this is ``(logit - b_k) / |w_k|**tau``: no features are needed. It has to come first.

    Args:
        start: corrections made before (none, for the published method).
        weight_norm_K: lengths of the weight vectors.
        bias_K: biases, or None.
        tau: strength; 0 only drops the bias.
    """
    scale_K = np.asarray(weight_norm_K, np.float64) ** -tau
    bias = np.zeros_like(scale_K) if bias_K is None else np.asarray(bias_K, np.float64)
    return replace(
        start,
        scale_K=start.scale_K * scale_K,
        offset_K=(start.offset_K - bias) * scale_K,
        notes=(*start.notes, f"tau-normalisation tau={tau:g}"),
    )


def change_prior(start: Adjustment, target_K: ArrayLike, note: str) -> Adjustment:
    """Move posteriors from their class prior to another: add ``log(target) - log(prior)`` (Saerens 2002, eq. 2.4).

    Args:
        start: corrections made before, with the prior of their posteriors.
        target_K: class frequencies where the model will be used; 0 rules a class out.
        note: where the target comes from.
    """
    target = np.asarray(target_K, np.float64) / np.sum(target_K)
    with np.errstate(divide="ignore"):
        log_target_K = np.maximum(np.log(target), np.log(np.finfo(np.float32).tiny))
    return start.shifted(log_target_K - _log_prior(start.prior_K), f"target prior {note}")


def rebalance_predictions(
    start: Adjustment, mass_K: ArrayLike, tau: float, *, transductive: bool, note: str = ""
) -> Adjustment:
    """Divide probabilities by the tau-th power of the mass each class receives (PN).

    Args:
        start: corrections made before.
        mass_K: sum or mean of the class's probability over a set of images; only ratios matter.
        tau: strength; 0 changes nothing.
        transductive: the set is the one that is judged.
        note: which set.
    """
    name = f"PN tau={tau:g}{f', {note}' if note else ''}"
    return start.shifted(-tau * _log_prior(mass_K), name, transductive=transductive)


def scale_temperature(start: Adjustment, temperature: float) -> Adjustment:
    """Divide adjusted logits by a temperature above 0 (Guo et al. 2017); decisions stay, probabilities change."""
    if not temperature > 0:
        raise UsageError(f"temperature {temperature:g} must be above 0")
    return replace(
        start,
        scale_K=start.scale_K / temperature,
        offset_K=start.offset_K / temperature,
        notes=(*start.notes, f"temperature {temperature:.3g}"),
    )


def with_costs(start: Adjustment, cost_KK: ArrayLike, note: str) -> Adjustment:
    """Decide for the answer of least expected cost.

    Args:
        start: corrections made before.
        cost_KK: cost of answering the column when the row is true; finite.
        note: where the matrix comes from.

    Raises:
        UsageError: not K x K, or not finite.
    """
    cost = np.asarray(cost_KK, np.float64)
    classes = len(start.scale_K)
    if cost.shape != (classes, classes) or not np.isfinite(cost).all():
        raise UsageError(f"cost matrix {note}: expected {classes} x {classes} finite numbers, got shape {cost.shape}")
    return replace(start, cost_KK=cost, notes=(*start.notes, f"costs {note}"))


def predicted_mass(adjustment: Adjustment, chunks: Iterable[FloatArray]) -> FloatArray:
    """Return mass_K, the probability each class receives, summed over all images in float64.

    Args:
        adjustment: corrections made before.
        chunks: logits_BK, a part of the images at a time.
    """
    return np.sum([adjustment.probabilities(part).sum(axis=0, dtype=np.float64) for part in chunks], axis=0)


def estimate_prior(posteriors: Callable[[], Iterable[FloatArray]], source_K: ArrayLike) -> FloatArray:
    """Estimate the class frequencies of unlabelled images by EM (Saerens, Latinne, Decaestecker 2002, equation 2.9).

    Args:
        posteriors: returns probabilities_BK under the source prior, a part of the images at a time; called each step.
        source_K: class frequencies these posteriors belong to, each above 0.

    Returns:
        prior_K that sums to 1.
    """
    source = np.asarray(source_K, np.float64) / np.sum(source_K)
    prior_K = source
    for _ in range(_EM_STEPS):
        ratio_K = prior_K / source
        total_K, images = np.zeros_like(source), 0
        for part_BK in posteriors():
            weighted_BK = part_BK * ratio_K  # E step: posteriors under the present estimate
            total_K += (weighted_BK / weighted_BK.sum(axis=1, keepdims=True)).sum(axis=0)
            images += len(part_BK)
        update_K = total_K / images  # M step: their mean
        change = float(np.abs(update_K - prior_K).max())
        prior_K = update_K
        if change < _EM_TOLERANCE:
            break
    return prior_K


def log_sum_exp(scores_BK: FloatArray) -> FloatArray:
    """Return log(sum(exp(scores))) of each row in float64; scores must be finite."""
    highest_B = scores_BK.max(axis=1)
    total_B = np.exp(scores_BK - highest_B[:, None]).sum(axis=1, dtype=np.float64)
    return np.asarray(highest_B + np.log(total_B))


def _log_prior(prior_K: ArrayLike) -> FloatArray:
    prior = np.asarray(prior_K, np.float64)
    if not (np.isfinite(prior).all() and (prior > 0).all()):
        raise UsageError(f"{int((~(prior > 0)).sum())} classes have zero frequency", "Every class needs an image.")
    return np.log(prior / prior.sum())
