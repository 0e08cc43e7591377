"""When two lists of class names may be of the same classes: one rule for a model's file, its images and its logits."""

from __future__ import annotations

from collections.abc import Sequence


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
