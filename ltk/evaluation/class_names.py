"""Names of classes: when two lists are of the same classes, for models, images and logits; which have no image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ltk.evaluation.logits import SavedLogits


def find_other_class(ours: Sequence[str] | None, theirs: Sequence[str]) -> int | None:
    """Return the first class that two lists call otherwise; None where they agree.

    Names that are mere numbers, of a converted file or a list file, say nothing and agree with any others.

    Args:
        ours: K names; None where they are not known.
        theirs: K names.
    """
    numbers = [str(k) for k in range(len(theirs))]
    if ours is None or numbers in (list(ours), list(theirs)):
        return None
    return next((k for k, (one, other) in enumerate(zip(ours, theirs, strict=True)) if one != other), None)


def absent_classes(saved: SavedLogits) -> list[str]:
    """Return the names of the classes that the split has no image of."""
    counts_K = np.bincount(saved.target_N, minlength=saved.num_classes)
    return [saved.class_names[k] for k in np.flatnonzero(counts_K == 0)]
