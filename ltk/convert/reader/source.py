"""A byte source that never promises more than it holds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from ltk.errors import DataError, UnsafeError

CHUNK = 1 << 20
_LONGEST_LINE = 1 << 16


def stream_span(file: BinaryIO, start: int, length: int) -> Iterator[bytes]:
    """Yield ``length`` bytes from position ``start`` on, in pieces of at most one MiB.

    Raises:
        DataError: the file ends before.
    """
    while length:
        file.seek(start)
        piece = file.read(min(length, CHUNK))
        if not piece:
            raise DataError("the file became shorter while it was read", "Copy it again.")
        start, length = start + len(piece), length - len(piece)
        yield piece


class Source:
    """Reads forward through part of a file and knows how much is left.

    Args:
        file: positioned at the first byte.
        size: bytes from there to the end.
    """

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.file = file
        self.size = size
        self.left = size

    @property
    def position(self) -> int:
        """Bytes read so far."""
        return self.size - self.left

    def take(self, count: int) -> bytes:
        """Return exactly ``count`` bytes.

        Raises:
            DataError: fewer are left.
        """
        if not 0 <= count <= self.left:
            raise DataError(
                f"the file is incomplete: {self.size} of at least {self.position + max(count, 0)} bytes",
                "Download or copy it again.",
            )
        self.left -= count
        data = self.file.read(count)
        if len(data) != count:
            raise DataError("the file became shorter while it was read", "Copy it again.")
        return data

    def line(self) -> str:
        """Return the text up to the next newline, which is consumed."""
        data = self.file.readline(min(self.left, _LONGEST_LINE))
        self.left -= len(data)
        if not data.endswith(b"\n"):
            raise DataError("damaged checkpoint: a line in the pickle has no end")
        return data[:-1].decode("utf-8", "surrogateescape")

    def text(self, count: int, longest: int) -> str:
        """Return ``count`` bytes as text, at most ``longest``."""
        if count > longest:
            raise UnsafeError(f"the pickle claims a string of {count} bytes")
        return self.take(count).decode("utf-8", "surrogateescape")
