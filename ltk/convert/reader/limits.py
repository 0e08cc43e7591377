"""How much an untrusted file may ask for."""

from __future__ import annotations

from dataclasses import dataclass

MEBIBYTE = 1 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on reading one file; an honest checkpoint of thousands of tensors stays far below each.

    Attributes:
        operations: pickle opcodes.
        text: bytes of one string in a pickle.
        memo: objects remembered by a pickle.
        pickle_bytes: size of a pickle inside a zip archive.
        entries: records of a zip archive.
        depth: nesting of containers.
        nodes: values in the tree that is handed back; see ``tree``.
        expansion: unpacked bytes per byte of file, one MiB always allowed.
    """

    operations: int = 4_000_000
    text: int = 64 * MEBIBYTE
    memo: int = 2_000_000
    pickle_bytes: int = 64 * MEBIBYTE
    entries: int = 100_000
    depth: int = 64
    nodes: int = 1_000_000
    expansion: int = 4

    def unpacked(self, file_size: int) -> int:
        """Return how many bytes a file may unpack to."""
        return self.expansion * file_size + MEBIBYTE

    def tree(self, file_size: int) -> int:
        """Return how many values a file may hand back: a value costs it a byte, but for what it repeats."""
        return min(self.nodes, 20_000 + file_size)


LIMITS = Limits()
