"""Dividing images so that rare classes are tested and still trained on; imports no torch."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from ltk.data.base import IntArray, count_of
from ltk.errors import DataError, UsageError

TEST_SHARE, LEAST_PER_CLASS = 0.2, 3  # of a test split that is drawn
_MAX_SEED = 2**32 - 1


def check_seed(seed: int) -> int:
    """Return ``seed`` when a private generator takes it.

    Raises:
        UsageError: out of range.
    """
    if not 0 <= seed <= _MAX_SEED:
        raise UsageError(f"seed {seed} is not a whole number from 0 to {_MAX_SEED}")
    return seed


def split_tail_safe(
    labels_N: npt.ArrayLike,
    held_out: Mapping[str, float],
    *,
    num_classes: int,
    min_per_class: int = 1,
    seed: int = 0,
    lots: Sequence[str] | None = None,
) -> dict[str, IntArray]:
    """Divide images into train and held-out splits, class by class.

    A class gives each held-out split its number of images, at least ``min_per_class``, as long as training keeps that
    many too. A class too small for that is divided evenly, training first: 2 images give 1 to train and 1 to the first
    held-out split, 1 image goes to train.

    With ``lots``, images of one lot stay together: lots are taken whole, those of the rarest classes first, and never
    the last training images of a class.

    Args:
        labels_N: class of each image.
        held_out: held-out splits, the most important first, each with a share of every class (below 1) or a number of
            images per class (whole, from 1).
        num_classes: K.
        min_per_class: least images of a class in each split where a share is asked for, >= 1.
        seed: of the private generator.
        lots: per image, what it belongs with (a lot, an animal, a patient).

    Returns:
        Ascending indices of "train" and of each held-out split.

    Raises:
        UsageError: numbers out of range.
    """
    for name, amount in held_out.items():
        if not math.isfinite(amount) or amount <= 0 or (amount >= 1 and amount != int(amount)):
            raise UsageError(f"{name} {amount:g} is neither a share between 0 and 1 nor a whole number per class")
    if sum(amount for amount in held_out.values() if amount < 1) >= 1:
        raise UsageError(f"held-out shares {list(held_out.values())} leave nothing for training")
    if min_per_class < 1:
        raise UsageError(f"at least {min_per_class} images per class is less than 1")
    labels = np.asarray(labels_N, dtype=np.int64)
    counts = np.bincount(labels, minlength=num_classes)
    wanted_KS = [_sizes(int(n), list(held_out.values()), min_per_class) for n in counts]
    generator = np.random.RandomState(check_seed(seed))
    if lots is None:
        part_N = _draw_images(labels, wanted_KS, generator)
    else:
        part_N = _draw_lots(labels, wanted_KS, lots, generator)
    return {name: np.flatnonzero(part_N == part) for part, name in enumerate(("train", *held_out))}


def _sizes(n: int, amounts: list[float], k: int) -> list[int]:
    """Return how many of a class's n images each held-out split gets."""
    sizes = [max(k, round(n * amount)) if amount < 1 else int(amount) for amount in amounts]
    least = [k if amount < 1 else int(amount) for amount in amounts]
    if n < sum(least) + max(least, default=0):
        return [(n + len(sizes) - 1 - i) // (len(sizes) + 1) for i in range(len(sizes))]
    while sum(sizes) > n - max(least):
        sizes[int(np.argmax(sizes))] -= 1
    return sizes


def _draw_images(labels_N: IntArray, wanted_KS: list[list[int]], generator: np.random.RandomState) -> IntArray:
    part_N = np.zeros(len(labels_N), dtype=np.int64)
    for label, sizes in enumerate(wanted_KS):
        own = generator.permutation(np.flatnonzero(labels_N == label))
        part_N[own[: sum(sizes)]] = np.repeat(np.arange(1, len(sizes) + 1), sizes)
    return part_N


def _draw_lots(
    labels_N: IntArray, wanted_KS: list[list[int]], lots: Sequence[str], generator: np.random.RandomState
) -> IntArray:
    """Take whole lots, greedily: the rarest class first, the held-out split with the larger need first."""
    names = list(dict.fromkeys(lots))
    content = {lot: Counter[int]() for lot in names}
    for lot, label in zip(lots, labels_N.tolist(), strict=True):
        content[lot][label] += 1
    with_class: dict[int, list[str]] = defaultdict(list)
    for i in generator.permutation(len(names)):
        for label in content[names[i]]:
            with_class[label].append(names[i])
    left = Counter(labels_N.tolist())  # images still in training
    need_SK = np.array(wanted_KS, dtype=np.int64).reshape(len(wanted_KS), -1).T.copy()
    part: dict[str, int] = {}
    for label in sorted(left, key=lambda c: (left[c], c)):
        for lot in with_class[label]:
            split = int(np.argmax(need_SK[:, label]))
            if lot in part or content[lot][label] > 2 * need_SK[split, label]:
                continue  # a lot far larger than the need would empty training for little
            if all(left[c] > n for c, n in content[lot].items()):
                part[lot] = split + 1
                left.subtract(content[lot])
                for c, n in content[lot].items():
                    need_SK[split, c] = max(need_SK[split, c] - n, 0)
    return np.array([part.get(lot, 0) for lot in lots], dtype=np.int64)


def draw_test(
    labels_N: IntArray,
    class_names: Sequence[str],
    *,
    test: float | None = None,
    min_per_class: int | None = None,
    seed: int | None = None,
    lots: Sequence[str] | None = None,
) -> tuple[dict[str, IntArray], tuple[str, ...]]:
    """Return indices of "train" and "test" (see ``split_tail_safe``) and notes on classes that are small in one.

    Args:
        labels_N: class of each image.
        class_names: K names.
        test: share of each class, or images of each class; ``TEST_SHARE`` when None.
        min_per_class: least images of a class in each split; ``LEAST_PER_CLASS`` when None.
        seed: of the private generator; 0 when None.
        lots: per image, what it belongs with.

    Raises:
        DataError: no image can be drawn.
        UsageError: numbers out of range.
    """
    least = LEAST_PER_CLASS if min_per_class is None else min_per_class
    held_out = {"test": TEST_SHARE if test is None else test}
    parts = split_tail_safe(
        labels_N, held_out, num_classes=len(class_names), min_per_class=least, seed=seed or 0, lots=lots
    )
    check_drawn(parts, lots)
    return parts, name_small_classes(labels_N, parts, least, class_names)


def refuse_draw(
    reason: str, *, test: float | None = None, min_per_class: int | None = None, seed: int | None = None
) -> None:
    """Refuse the options of ``draw_test`` where there is nothing to draw.

    Raises:
        UsageError: one of them was given.
    """
    options = {"--test": test, "--min-per-class": min_per_class, "--seed": seed}
    given = " and ".join(flag for flag, value in options.items() if value is not None)
    if given:
        raise UsageError(f"{reason}: {given} would change nothing", f"Leave {given} out.")


def check_drawn(parts: Mapping[str, IntArray], lots: Sequence[str] | None) -> None:
    """Check that no split is empty.

    Raises:
        DataError: one is.
    """
    empty = [name for name, own in parts.items() if not len(own)]
    if empty and lots is None:
        raise DataError(
            f"no image can be drawn for {empty[0]}: no class has a second image",
            "Collect more, or divide the images yourself.",
        )
    if empty:
        raise DataError(
            f"no image can be drawn for {empty[0]}: of {count_of(len(set(lots or ())), 'group')}, none is small enough"
            " for its share and leaves every class training images",
            "Use smaller groups (--group-col, --group-regex) or a larger share, or divide the images yourself.",
        )


def name_small_classes(
    labels_N: IntArray, parts: Mapping[str, IntArray], min_per_class: int, class_names: Sequence[str]
) -> tuple[str, ...]:
    """Return a note per split that has fewer than ``min_per_class`` images of some classes, naming them."""
    notes = []
    for name, own in parts.items():
        counts = np.bincount(labels_N[own], minlength=len(class_names))
        small = np.flatnonzero(counts < min_per_class)
        if len(small):
            named = ", ".join(f"{class_names[c]} ({counts[c]})" for c in small[:20])
            more = ", ..." if len(small) > 20 else ""
            notes.append(
                f"{name} has fewer than {min_per_class} images of {count_of(len(small), 'class')}: {named}{more}"
            )
    return tuple(notes)


def match_lots(names: Sequence[str], pattern: str, part: str = "") -> list[str]:
    """Return the lot of each image: what the first parenthesis of ``pattern`` finds in its path.

    An image for which it finds nothing, being optional, is a lot of its own, called by its path.

    Args:
        names: paths.
        pattern: with a parenthesis.
        part: folder that the paths are relative to, for the message.

    Raises:
        UsageError: not a pattern with a parenthesis, or it does not match some paths.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise UsageError(f"--group-regex {pattern!r} is not a pattern: {error}") from error
    if compiled.groups < 1:
        raise UsageError(f"--group-regex {pattern!r} has no parenthesis around the group", r"For example 'lot(\d+)_'.")
    found = [compiled.search(name) for name in names]
    unmatched = [name for name, match in zip(names, found, strict=True) if not match]
    if unmatched:
        where = f" of {part}/" if part else ""
        raise UsageError(f"--group-regex matches no group in {len(unmatched)} paths{where}, first: {unmatched[0]}")
    return [match[1] or name for name, match in zip(names, found, strict=True) if match]
