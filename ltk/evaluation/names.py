"""What runs are called: short, told apart, with what has to be known of their figures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

_SHORTEST = 2  # parts of a path: data set and run


def shortest_name(path: Path, others: Iterable[Path]) -> str:
    """Return the last parts of a path, "digits-imb50/ce-001" or as many more as tell it from the others.

    Args:
        path: of a run, absolute.
        others: absolute paths; the same path again is none of the others.
    """
    rivals = [other.parts for other in others if other != path]
    lengths = range(_SHORTEST, len(path.parts))
    length = next((n for n in lengths if all(rival[-n:] != path.parts[-n:] for rival in rivals)), len(path.parts))
    return str(Path(*path.parts[-length:]))


def is_called(path: Path, wanted: str) -> bool:
    """Return whether a text names a run: the last parts of its path, one or more."""
    parts = Path(wanted).parts
    return bool(parts) and path.parts[-len(parts) :] == parts


def with_marks(text: str, marks: Sequence[str]) -> str:
    """Return a heading with what has to be known of its figures behind it once, as in "top-1 (oracle)"."""
    named = text[:-1].rpartition("(")[2].split(", ") if text.endswith(")") else []
    missing = [mark for mark in marks if mark not in named]
    return f"{text} ({', '.join(missing)})" if missing else text
