"""What a data source is: splits of uint8 images with labels and names."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from torch import Tensor

IntArray = npt.NDArray[np.int64]


def count_of(number: int, noun: str) -> str:
    """Return "1 image", "2 images", "2 classes", ..."""
    plural = f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{number:,} {noun if number == 1 else plural}"


def locate(root: Path, name: str) -> str:
    """Return where a listed file lies: below ``root``, unless its name is absolute."""
    return os.path.join(root, name)  # noqa: PTH118 - a tenth of a Path's time, once per image


class Split(ABC):
    """The images of one split, in a fixed order.

    Attributes:
        labels_N: int64 class labels.
        names: one stable name per image: its path relative to the root, or "cifar10/train/123".
        lots: per image, what it belongs with (a lot, an animal, a patient); None when that is not known.
        upright: turn image files as their EXIF orientation says.
    """

    labels_N: IntArray
    names: Sequence[str]
    lots: Sequence[str] | None = None
    upright: bool = False

    def __len__(self) -> int:
        return len(self.labels_N)

    @abstractmethod
    def read(self, indices: Sequence[int] | IntArray, size: int) -> Tensor:
        """Return images as uint8 [n, C, size, size].

        Images of another shape are resized (shorter side, bilinear, antialiased) and cropped in the middle.

        Args:
            indices: positions in this split.
            size: side in pixels.

        Raises:
            DataError: some images cannot be read; all of them are named.
        """

    @abstractmethod
    def read_whole(self, indices: Sequence[int] | IntArray) -> list[Tensor]:
        """Return images in the shape they have, uint8 [C, H, W] each.

        Args:
            indices: positions in this split.

        Raises:
            DataError: as ``read``.
        """

    def subset(self, indices: Sequence[int] | IntArray) -> Split:
        """Return a view on some of the images, in the order of ``indices``."""
        return _Subset(self, np.asarray(indices, dtype=np.int64))


class _Subset(Split):
    def __init__(self, split: Split, indices_N: IntArray) -> None:
        self._split, self._indices_N = split, indices_N
        self.labels_N = split.labels_N[indices_N]
        self.names = [split.names[i] for i in indices_N]
        self.lots = split.lots and [split.lots[i] for i in indices_N]

    def read(self, indices: Sequence[int] | IntArray, size: int) -> Tensor:
        return self._split.read(self._indices_N[np.asarray(indices, dtype=np.int64)], size)

    def read_whole(self, indices: Sequence[int] | IntArray) -> list[Tensor]:
        return self._split.read_whole(self._indices_N[np.asarray(indices, dtype=np.int64)])


class ArraySplit(Split):
    """A split that is in memory.

    Args:
        images_NCHW: uint8, square.
        labels_N: class labels.
        prefix: the names are "<prefix>/<position>".
    """

    def __init__(self, images_NCHW: npt.NDArray[np.uint8], labels_N: npt.ArrayLike, prefix: str) -> None:
        self._images_NCHW = images_NCHW
        self.labels_N = np.asarray(labels_N, dtype=np.int64)
        self.names = [f"{prefix}/{i}" for i in range(len(self.labels_N))]

    def read(self, indices: Sequence[int] | IntArray, size: int) -> Tensor:
        """Return images as uint8 [n, C, size, size]."""
        import torch
        from torchvision.transforms.v2.functional import resize

        images = torch.from_numpy(self._images_NCHW[np.asarray(indices, dtype=np.int64)])
        return images if images.shape[-1] == size else resize(images, [size, size], antialias=True)

    def read_whole(self, indices: Sequence[int] | IntArray) -> list[Tensor]:
        """Return images as uint8 [C, H, W] each."""
        import torch

        return list(torch.from_numpy(self._images_NCHW[np.asarray(indices, dtype=np.int64)]))


@dataclass(frozen=True)
class Source:
    """A data set that is present on this machine.

    Attributes:
        name: the name it was opened by.
        class_names: K names, by label.
        splits: "train" and "test", and "val" where the data set has one.
        mean: per channel, of images in [0, 1]; one entry for grey images, three for colour.
        std: as ``mean``.
        native_size: side in pixels that networks are fed.
        stored_size: side in pixels to ``read`` and pack at; larger than ``native_size`` where training crops.
        groups: many/medium/few limits (see ``splits.assign_groups``).
        notes: what the user should know about the data, one line each.
    """

    name: str
    class_names: tuple[str, ...]
    splits: Mapping[str, Split]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    native_size: int
    stored_size: int
    groups: tuple[int, int] = (100, 20)
    notes: tuple[str, ...] = ()

    @property
    def channels(self) -> int:
        """1 for grey images, 3 for colour."""
        return len(self.mean)

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.class_names)
