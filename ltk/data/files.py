"""Splits and sources whose images are files: read when asked for, from a pack when there is one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ltk.data.base import IntArray, Source, Split, locate
from ltk.data.catalogue import IMAGENET_MEAN, IMAGENET_STD
from ltk.data.pack import PackedImages, find_pack

if TYPE_CHECKING:
    from torch import Tensor

_THREADED_FROM = 2048  # images: fewer are a batch, read inside a loader worker that has one core
_LARGE = (224, 256)  # side that networks are fed and side that is stored, where images are large or differ


class FileSplit(Split):
    """A split whose images are files.

    Args:
        root: folder that ``paths`` are relative to.
        paths: of the files, with "/".
        labels_N: class labels.
        names: what the images are called wherever they lie; their paths by default.
    """

    def __init__(
        self,
        root: Path,
        paths: Sequence[str],
        labels_N: npt.ArrayLike,
        *,
        names: Sequence[str] | None = None,
    ) -> None:
        self.root, self.paths = root, paths
        self.names = paths if names is None else names
        self.labels_N = np.asarray(labels_N, dtype=np.int64)
        self._packs: dict[int, PackedImages | None] = {}

    def path(self, index: int) -> str:
        """Return where an image lies."""
        return locate(self.root, self.paths[index])

    def pack(self, size: int) -> PackedImages | None:
        """Return the pack that holds these images at this size, if there is one."""
        if size not in self._packs:
            self._packs[size] = find_pack(self.root, self.paths, size, upright=self.upright)
        return self._packs[size]

    def read(self, indices: Sequence[int] | IntArray, size: int) -> Tensor:
        """Return images as uint8 [n, 3, size, size]."""
        import torch

        from ltk.data.decode import read_images, useful_threads

        own_B = np.asarray(indices, dtype=np.int64)
        pack = self.pack(size)
        if pack is not None:
            return torch.from_numpy(pack.read(own_B))
        paths = [self.path(i) for i in own_B.tolist()]
        threads = useful_threads(size) if len(paths) >= _THREADED_FROM else 1
        return read_images(paths, size, upright=self.upright, threads=threads)

    def read_whole(self, indices: Sequence[int] | IntArray) -> list[Tensor]:
        """Return images as uint8 [3, H, W] each, decoded anew."""
        from ltk.data.decode import read_images_whole

        return read_images_whole([self.path(i) for i in np.asarray(indices).tolist()], upright=self.upright)


def create_file_source(
    name: str, class_names: tuple[str, ...], splits: dict[str, FileSplit], notes: tuple[str, ...] = ()
) -> Source:
    """Build a source of image files; its size is that of the images where they are small, square and alike."""
    native, stored = _find_size(splits["train"])
    return Source(
        name=name,
        class_names=class_names,
        splits=splits,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        native_size=native,
        stored_size=stored,
        notes=notes,
    )


def _find_size(split: FileSplit, probes: int = 16) -> tuple[int, int]:
    from ltk.data.decode import UnreadableImageError, read_image

    shapes = set()
    for index in np.linspace(0, len(split) - 1, probes).astype(int):
        try:
            shapes.add(tuple(read_image(split.path(index)).shape[1:]))
        except UnreadableImageError:
            continue  # reading the split reports it, together with all others
    if len(shapes) == 1:
        height, width = shapes.pop()
        if height == width <= 128:
            return height, height
    return _LARGE
