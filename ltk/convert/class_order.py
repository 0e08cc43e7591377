"""Official codes that number classes by size, and back to the data set's own numbers.

ResLT on ImageNet-LT and iNaturalist 2018 sorts the classes by training images, fewest first, GCL on Places-LT most
first; a checkpoint's rows follow that order and the file does not say so. Classes of equal size come in whatever order
``numpy.argsort`` left them: that of NumPy < 1.25, with which the published files were made, is reproduced here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ltk.data.base import IntArray
from ltk.data.catalogue import get_facts, train_counts
from ltk.errors import UsageError

Order = Literal["auto", "file", "ascending", "descending"]
Ties = Literal["official", "stable"]
_LONG_TAILED = ("imagenet-lt", "places-lt", "inat2018")
_SMALL = 15  # runs of up to one more are sorted by insertion


@dataclass(frozen=True)
class Numbering:
    """How the code that wrote a file numbers its classes.

    Attributes:
        order: "auto" as the official code of its format, "file" to leave the rows as they are, "ascending" by training
            images, or "descending".
        ties: order of classes of equal size: "official" as NumPy < 1.25 left them, or "stable".
    """

    order: Order = "auto"
    ties: Ties = "official"


@dataclass(frozen=True)
class ClassOrder:
    """What is done to the rows of a classifier.

    Attributes:
        class_map: number in the file of each class of the data set; None leaves the rows as they are.
        counts: training images of each class, as far as known.
        notes: for the user.
    """

    class_map: IntArray | None
    counts: tuple[int, ...] | None
    notes: list[str]


def number_classes(
    numbering: Numbering, published: str, dataset: str | None, counts: tuple[int, ...] | None, num_classes: int
) -> ClassOrder:
    """Decide how a classifier's rows become the data set's own classes.

    Args:
        numbering: what the user wants.
        published: what the official code of the format does: "data set", "ascending" or "descending".
        dataset: a key of ``ltk.data.catalogue.FACTS``, if known.
        counts: training images of each class, if given.
        num_classes: K.

    Raises:
        UsageError: counts or a data set with another number of classes, or an order that cannot be computed.
    """
    if dataset is not None and get_facts(dataset).num_classes != num_classes:
        raise UsageError(f"{dataset} has {get_facts(dataset).num_classes} classes, the file has {num_classes}")
    if counts is None and dataset in _LONG_TAILED:
        counts = tuple(int(n) for n in train_counts(dataset))
    if counts is not None and len(counts) != num_classes:
        raise UsageError(f"{len(counts)} class counts were given, the file has {num_classes} classes")
    order = published if numbering.order == "auto" else numbering.order
    if order in ("data set", "file"):
        return ClassOrder(None, counts, [])
    if counts is None:
        if numbering.order != "auto":
            raise UsageError(f"--class-order {order} needs the class counts", "Give --dataset or --class-counts FILE.")
        unknown = (
            f"the official code numbers classes {order} by size; without --class-counts FILE rows stay as they are"
        )
        return ClassOrder(None, None, [unknown])
    numbers = class_map(counts, descending=order == "descending", ties=numbering.ties)
    ties = "as NumPy < 1.25 left them" if numbering.ties == "official" else "stable"
    note = f"classes are numbered {order} by size in the file (ties {ties}); rows are put in the data set's order"
    return ClassOrder(numbers, counts, [f"{note}; --class-order file leaves them"])


def class_map(counts: Sequence[int], *, descending: bool, ties: Ties = "official") -> IntArray:
    """Return map_K, the number the official code gives to each class of the data set.

    Args:
        counts: training images of each class.
        descending: largest class first (GCL on Places-LT); else rarest first (ResLT).
        ties: order of classes of equal size: "official" as NumPy < 1.25 left them, or "stable".
    """
    keys = [-int(n) if descending else int(n) for n in counts]
    order = np.argsort(keys, kind="stable") if ties == "stable" else np.array(_quicksort_order(keys))
    numbers = np.empty(len(keys), dtype=np.int64)
    numbers[order] = np.arange(len(keys))
    return numbers


def _quicksort_order(keys: list[int]) -> list[int]:
    """The indices in the order of NumPy's former quicksort: median of three, insertion for runs of 16 and fewer.

    NumPy turned to heapsort when the recursion went deeper than twice the logarithm; class counts do not get there.
    """
    order = list(range(len(keys)))
    limit = 2 * len(keys).bit_length()
    pending = [(0, len(keys) - 1, limit)]
    while pending:
        left, right, depth = pending.pop()
        while right - left > _SMALL:
            if depth < 0:
                raise UsageError("these class counts cannot be ordered as NumPy < 1.25 did", "Use --ties stable.")
            middle = _partition(keys, order, left, right)
            depth -= 1
            if middle - left < right - middle:
                pending.append((middle + 1, right, depth))
                right = middle - 1
            else:
                pending.append((left, middle - 1, depth))
                left = middle + 1
        order[left : right + 1] = sorted(order[left : right + 1], key=keys.__getitem__)  # insertion sort is stable
    return order


def _partition(keys: list[int], order: list[int], left: int, right: int) -> int:
    """Partition around the median of first, middle and last; return where the median ends up."""

    def swap(i: int, j: int) -> None:
        order[i], order[j] = order[j], order[i]

    def key(i: int) -> int:
        return keys[order[i]]

    middle = left + (right - left) // 2
    for low, high in ((left, middle), (middle, right), (left, middle)):
        if key(high) < key(low):
            swap(high, low)
    pivot = key(middle)
    i, j = left, right - 1
    swap(middle, j)
    while True:
        i += 1
        while key(i) < pivot:
            i += 1
        j -= 1
        while pivot < key(j):
            j -= 1
        if i >= j:
            break
        swap(i, j)
    swap(i, right - 1)
    return i
