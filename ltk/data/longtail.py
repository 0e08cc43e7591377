"""Long-tailed class counts, the images that fill them, and many/medium/few groups; imports no torch.

Sources: Cao et al., "Learning imbalanced datasets with label-distribution-aware margin loss", NeurIPS 2019 (the
exponential and step curves and the ``ldam`` subset, shared by GCL, PaCo, GPaCo and ResLT); Du et al., GLMC, CVPR 2023
(the ``glmc`` subset).

Differs from the official code: a private generator instead of NumPy's global one (same images, no side effect on
training); "step" with an odd number of classes keeps the middle class in the tail instead of losing the last one.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ltk.data.base import IntArray, count_of
from ltk.data.limits import GroupRule, check_imbalance, check_limits
from ltk.errors import UsageError, unknown_name

IMBALANCE_KINDS = ("exp", "step", "none")
SUBSET_RULES = {"ldam": 0, "glmc": 3407, "glmc-replacement": 3407, "first-n": 0}  # the official seed of each rule
MANY, MEDIUM, FEW = 0, 1, 2


def imbalance_counts(n_max: int, num_classes: int, imb: float, kind: str = "exp") -> IntArray:
    """Return counts_K, the images per class of a long-tailed cut, class 0 the largest.

    exp:  n_c = int(n_max * (1/imb) ** (c / (K - 1)));  step: the last half has int(n_max / imb);  none: all n_max.

    Args:
        n_max: images of the largest class, >= 1.
        num_classes: K >= 1.
        imb: largest class / smallest, >= 1.
        kind: "exp", "step" or "none".

    Raises:
        UsageError: a value out of range, or a tail that rounds to zero images.
    """
    if kind not in IMBALANCE_KINDS:
        raise unknown_name("imbalance type", kind, IMBALANCE_KINDS)
    if n_max < 1 or num_classes < 1:
        raise UsageError(f"a long-tailed cut needs images and classes, not {n_max} images and {num_classes} classes")
    mu = 1.0 / check_imbalance(imb)
    if kind == "exp" and num_classes > 1:
        counts = [int(n_max * mu ** (c / (num_classes - 1.0))) for c in range(num_classes)]
    elif kind == "step":
        head = num_classes // 2 if num_classes > 1 else 1
        counts = [n_max] * head + [int(n_max * mu)] * (num_classes - head)
    else:
        counts = [n_max] * num_classes
    if min(counts) < 1:
        raise UsageError(
            f"imbalance factor {imb:g} leaves {counts.count(0)} of {num_classes} classes without images"
            f" (largest class {n_max}: {_abbreviate(counts)})",
            f"Use a factor of at most {n_max}, or a larger --head; images that are long-tailed already need no --imb.",
        )
    return np.array(counts, dtype=np.int64)


def _abbreviate(counts: list[int]) -> str:
    shown = counts if len(counts) <= 10 else counts[:5] + counts[-4:]
    texts = [str(n) for n in shown]
    if len(counts) > 10:
        texts.insert(5, "...")
    return " ".join(texts)


def select_subset(
    labels_N: npt.ArrayLike, counts_K: npt.ArrayLike, rule: str = "ldam", seed: int | None = None
) -> IntArray:
    """Return the indices of the kept images, class after class.

    Args:
        labels_N: class of each image, in file order.
        counts_K: how many images of each class to keep.
        rule: "ldam" (shuffle, keep the first n), "glmc" (draw without replacement), "glmc-replacement" (with
            replacement, as GLMC did before May 2023) or "first-n".
        seed: of the private generator; the official one of the rule when None (0 for ldam, 3407 for glmc).

    Raises:
        UsageError: an unknown rule, or more images asked for than present.
    """
    if rule not in SUBSET_RULES:
        raise unknown_name("subset rule", rule, SUBSET_RULES)
    labels, counts = np.asarray(labels_N), np.asarray(counts_K, dtype=np.int64)
    present = np.bincount(labels, minlength=len(counts))
    short = [c for c in range(len(counts)) if counts[c] > present[c]]
    if short:
        table = ", ".join(f"class {c}: {counts[c]} asked, {present[c]} present" for c in short[:5])
        raise UsageError(
            f"the cut asks for more images than there are of {count_of(len(short), 'class')} ({table})", "Lower --head."
        )
    generator = np.random.RandomState(SUBSET_RULES[rule] if seed is None else seed)
    return np.concatenate([_draw(np.flatnonzero(labels == c), int(n), rule, generator) for c, n in enumerate(counts)])


def _draw(own: IntArray, n: int, rule: str, generator: np.random.RandomState) -> IntArray:
    if rule == "first-n":
        return own[:n]
    if rule == "ldam":
        return generator.permutation(own)[:n]
    return own[generator.choice(len(own), n, replace=rule == "glmc-replacement")]


def rank_classes(counts_K: npt.ArrayLike, *, largest_first: bool = True) -> IntArray:
    """Return rank_K, the position of each class when classes are ordered by size; ties keep the order of labels.

    It is also the re-labelling of GCL on Places-LT (largest first) and of ResLT on ImageNet-LT and iNaturalist 2018
    (smallest first). The official code breaks ties as NumPy's unstable sort of its day did.
    """
    counts = np.asarray(counts_K, dtype=np.int64)
    rank_K = np.empty(len(counts), dtype=np.int64)
    rank_K[np.argsort(-counts if largest_first else counts, kind="stable")] = np.arange(len(counts))
    return rank_K


def assign_groups(counts_K: npt.ArrayLike, groups: GroupRule = (100, 20)) -> IntArray:
    """Return group_K: 0 many, 1 medium, 2 few, by the number of training images of each class.

    Args:
        counts_K: training images per class.
        groups: (high, low): many > high >= medium >= low > few; or "tertile": thirds of the classes by rank.

    Raises:
        UsageError: other groups.
    """
    counts = np.asarray(counts_K, dtype=np.int64)
    if isinstance(groups, str):
        if groups != "tertile":
            raise unknown_name("grouping", groups, ["tertile", "HIGH,LOW such as 100,20"])
        return rank_classes(counts) * 3 // max(len(counts), 1)
    high, low = check_limits(groups)
    return np.where(counts > high, MANY, np.where(counts < low, FEW, MEDIUM)).astype(np.int64)
