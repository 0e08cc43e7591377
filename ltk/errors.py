"""What the user can mend: one line, a hint, an exit code, never a traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_MOST_NAMED = 40  # names that a hint lists


class LtkError(Exception):
    """A problem the user can mend.

    Args:
        message: what is wrong and where, in one line.
        hint: what to do about it, in one line.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(LtkError):
    """A bad option, value or configuration key."""

    exit_code = 2


class DataError(LtkError):
    """Missing or bad input data, or a bad checkpoint."""

    exit_code = 3


class UnsafeError(LtkError):
    """Input refused because it could do harm."""

    exit_code = 4


class BusyError(LtkError):
    """A run directory that is in use or would be overwritten."""

    exit_code = 5


class EnvironmentFault(LtkError):
    """No such device, no memory, no disk space, no permission."""

    exit_code = 6


class PeerLostError(EnvironmentFault):
    """Another process of the same run ended or fell silent: its own error is the one to read."""


class DivergedError(LtkError):
    """Training produced a loss that is not finite."""

    exit_code = 7


class StoppedError(LtkError):
    """Training was asked to stop and saved a checkpoint first.

    Args:
        signal_number: the signal received; the exit code is 128 plus it.
    """

    def __init__(self, message: str, hint: str, signal_number: int) -> None:
        super().__init__(message, hint)
        self.exit_code = 128 + signal_number


def unknown_name(kind: str, name: str, choices: Iterable[str], listing: str = "") -> UsageError:
    """Return the error for a name that is not in a table, with the nearest ones named, whatever their letter case.

    Args:
        kind: what the name was meant to be ("method", "data set", ...).
        name: what the user typed.
        choices: the names that exist.
        listing: what to say where none is near and there are too many to name.
    """
    known = sorted(choices)
    near = _find_near(name, known)
    hint = f"Did you mean {' or '.join(repr(n) for n in near)}?" if near else ""
    if len(known) <= _MOST_NAMED:
        listing = f"Known: {', '.join(known)}."
    elif near:
        listing = ""
    else:
        listing = listing or f"There are {len(known):,}, such as {', '.join(known[:5])}."
    return UsageError(f"unknown {kind} {name!r}", " ".join(part for part in (hint, listing) if part))


def _find_near(name: str, known: Iterable[str]) -> list[str]:
    folded = {choice.casefold(): choice for choice in known}
    if name.casefold() in folded:
        return [folded[name.casefold()]]
    return [folded[key] for key in difflib.get_close_matches(name.casefold(), folded, n=3, cutoff=0.5)]
