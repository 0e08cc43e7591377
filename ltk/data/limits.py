"""What an imbalance factor and group limits may be; imports not even NumPy: mistakes are told at once."""

from __future__ import annotations

import math

from ltk.errors import UsageError

GroupRule = tuple[int, int] | str
"""How classes are divided into many, medium and few: (high, low), or "tertile"."""


def check_imbalance(imb: float) -> float:
    """Return ``imb`` when it is a usable imbalance factor.

    Raises:
        UsageError: it is not a finite number >= 1.
    """
    hint = "Give the size of the largest class divided by the smallest, for example --imb 100."
    if not math.isfinite(imb) or imb <= 0:
        raise UsageError(f"imbalance factor {imb:g} is not a number of at least 1", hint)
    if imb < 1:
        raise UsageError(f"imbalance factor {imb:g} is below 1", f"Use {1 / imb:g}, not {imb:g}.")
    return imb


def check_limits(limits: tuple[int, int]) -> tuple[int, int]:
    """Return (high, low) when they can divide classes into many, medium and few.

    Raises:
        UsageError: they do not decrease, or ``low`` is not positive.
    """
    high, low = limits
    if not 0 < low <= high + 1:
        raise UsageError(f"group limits {high},{low} do not decrease", "Give HIGH,LOW such as 100,20.")
    return limits


def parse_groups(text: str) -> GroupRule:
    """Read "100,20" or "tertile".

    Raises:
        UsageError: anything else.
    """
    parts = text.split(",")
    if len(parts) == 2 and all(p.strip().isdecimal() for p in parts):
        return check_limits((int(parts[0]), int(parts[1])))
    if text != "tertile":
        raise UsageError(f"groups {text!r} are neither HIGH,LOW nor 'tertile'", "Give for example 100,20.")
    return text
