"""Packs: the images of a data set decoded once, at one size, into a memory-mapped uint8 array.

A pack is ``<name>-<size>.npy`` (uint8 [N, 3, size, size]) beside ``<name>-<size>.json``, which lists the images with
their file sizes and a SHA-256 per block. Splits look images up by name, so one pack serves every split and cut of a
data set. It lies in ``.ltk-packs`` beside the images, or under the data root where that folder cannot be written.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ltk.data.base import IntArray
from ltk.errors import DataError

FORMAT = "ltk.pack/1"
FOLDER = ".ltk-packs"
BLOCK = 256

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class PackInfo:
    """What is in a pack.

    Attributes:
        size: side in pixels.
        upright: images were turned as their EXIF orientation says.
        names: image paths relative to the root, by row.
        file_sizes: bytes of each image file when it was packed.
        blocks: SHA-256 of each block of 256 rows.
        sha256: of the concatenated block checksums.
    """

    size: int
    upright: bool
    names: list[str]
    file_sizes: list[int]
    blocks: list[str]
    sha256: str

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Of the array."""
        return (len(self.names), 3, self.size, self.size)


@dataclass(frozen=True)
class PackedImages:
    """A pack opened for the images of one split.

    Attributes:
        pixels: memory-mapped uint8 [rows, 3, size, size].
        row_N: the row of each image of the split.
    """

    pixels: Pixels
    row_N: IntArray


def pack_folders(root: Path) -> tuple[Path, Path]:
    """Return where packs of the images below ``root`` are looked for: beside them, and under the data root."""
    from ltk.data.sources import default_root

    place = hashlib.sha256(str(root.resolve()).encode(errors="surrogateescape")).hexdigest()[:12]
    return root / FOLDER, default_root() / "packs" / place


def find_pack(root: Path, names: Sequence[str], size: int, *, upright: bool = False) -> PackedImages | None:
    """Return the pack that holds all these images as they are on disk now; None when there is none.

    Args:
        root: folder that ``names`` are relative to.
        names: image paths.
        size: side in pixels.
        upright: images are turned as their EXIF orientation says.
    """
    for folder in pack_folders(root):
        for path in sorted(folder.glob(f"*-{size}.json")):
            info = read_info(path)
            row_of = {name: row for row, name in enumerate(info.names)}
            if info.upright != upright or not all(name in row_of for name in names):
                continue
            row_N = np.array([row_of[name] for name in names], dtype=np.int64)
            if [info.file_sizes[row] for row in row_N.tolist()] == measure_files(root, names):
                return PackedImages(np.load(path.with_suffix(".npy"), mmap_mode="r"), row_N)
    return None


def measure_files(root: Path, names: Sequence[str]) -> list[int]:
    """Return the bytes of each file, -1 where it is missing."""
    sizes = []
    for name in names:
        try:
            sizes.append(os.stat(f"{root}/{name}").st_size)  # noqa: PTH116 - called once per image
        except OSError:
            sizes.append(-1)
    return sizes


def read_info(path: Path) -> PackInfo:
    """Read the JSON file of a pack.

    Raises:
        DataError: not such a file.
    """
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        if fields.pop("format") != FORMAT:
            raise ValueError("unknown format")
        return PackInfo(**fields)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is not the description of a pack: {error}", "Delete it and pack again.") from error


def verify_pack(path: Path) -> list[int]:
    """Return the blocks whose pixels do not have the checksum they were written with.

    Args:
        path: the JSON file of a pack.

    Raises:
        DataError: the pack is not what its JSON file describes.
    """
    info = read_info(path)
    try:
        pixels = np.load(path.with_suffix(".npy"), mmap_mode="r")
    except (OSError, ValueError) as error:
        raise DataError(f"{path.with_suffix('.npy')} cannot be read: {error}", "Pack again.") from error
    if pixels.shape != info.shape:
        raise DataError(f"{path.with_suffix('.npy')} has shape {pixels.shape}, not {info.shape}", "Pack again.")
    found = (digest_bytes(pixels[start : start + BLOCK].tobytes()) for start in range(0, len(pixels), BLOCK))
    return [block for block, digest in enumerate(found) if digest != info.blocks[block]]


def digest_bytes(data: bytes) -> str:
    """Return the SHA-256 of bytes in hexadecimal."""
    return hashlib.sha256(data).hexdigest()
