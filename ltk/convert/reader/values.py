"""What a pickle describes, beside plain data: names, calls, marks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ltk.errors import DataError

MARK = object()


class Name(str):
    """A dotted name that was never resolved."""

    __slots__ = ()


@dataclass(slots=True, eq=False)
class Call:
    """A call that was never made.

    Attributes:
        function: what would have been called.
        arguments: its arguments.
        state: what BUILD would have set.
        items: what would have been appended or added.
        pairs: what would have been set by key.
    """

    function: Name
    arguments: Any
    state: Any = None
    items: list[Any] = field(default_factory=list)
    pairs: dict[Any, Any] = field(default_factory=dict)


def shown(value: Any) -> str:
    """Return a text as it is, and of anything else its type: lists that hold lists can take forever to write out."""
    return value if isinstance(value, str) else f"<{type(value).__name__}>"


def on_one_line(text: str, longest: int = 80) -> str:
    """Return a text of the file as a message may hold it: cut, with newlines and terminal codes escaped."""
    escaped = (c if c.isprintable() else ascii(c)[1:-1] for c in text[:longest])
    return "".join(escaped)[:longest]


def corrupt(what: str) -> DataError:
    """Return the error for a pickle that makes no sense."""
    return DataError(f"damaged checkpoint: {what}", "Download or copy it again.")
