"""What the images of a split show, as a checksum: files of one name may hold other pictures. Imports no torch."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ltk.data.base import IntArray, Split

if TYPE_CHECKING:
    from torch import Tensor


class ReadSplit(Split):
    """A split that remembers what was read of it, whatever the order, the batches and the threads.

    Args:
        split: the images.
    """

    def __init__(self, split: Split) -> None:
        self._split, self._size = split, 0
        self.labels_N, self.names, self.lots, self.upright = split.labels_N, split.names, split.lots, split.upright
        self._checksum_N = np.zeros(len(split), dtype="<u4")

    def read(self, indices: Sequence[int] | IntArray, size: int) -> Tensor:
        """Return images as the split does, and keep their checksums."""
        images_BCHW = self._split.read(indices, size)
        self._checksum_N[indices] = [zlib.crc32(image) for image in images_BCHW.contiguous().numpy()]
        self._size = size
        return images_BCHW

    def read_whole(self, indices: Sequence[int] | IntArray) -> list[Tensor]:
        """Return images as the split does."""
        return self._split.read_whole(indices)

    def describe_pixels(self) -> str:
        """Return side in pixels and checksum of the images, all of which have been read at one size: "32:5f0c..."."""
        return f"{self._size}:{hashlib.sha256(self._checksum_N.tobytes()).hexdigest()}"


def show_other_images(first: str, second: str) -> bool:
    """Return whether two descriptions tell other pictures; False where one is unknown or they are of unlike sizes."""
    return first != second and first.partition(":")[0] == second.partition(":")[0] != ""
