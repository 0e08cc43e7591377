"""Packs: the images of a data set decoded once, at one size, into a memory-mapped uint8 array.

A pack is ``<name>-<size>.json``, which lists the images with sizes and times of their files and a SHA-256 per block,
beside shards of at most 2 GiB, ``<name>-<size>.000.npy`` and so on (uint8 [rows, 3, size, size]). Splits look images up
by name, so one pack serves every split and cut of a data set. It lies in ``.ltk-packs`` beside the images, or under the
data root where that folder cannot be written.
"""

from __future__ import annotations

import hashlib
import json
import os
import tokenize
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, ValidationError, model_validator

from ltk.data.base import IntArray, locate
from ltk.errors import DataError
from ltk.files import open_file, read_bytes
from ltk.settings import Settings, first_fault

FORMAT: Final = "ltk.pack/4"
FOLDER = ".ltk-packs"
BLOCK = 256
_SHARD_BYTES = 2**31

Pixels = npt.NDArray[np.uint8]


class PackInfo(Settings, strict=True):
    """What is in a pack.

    Attributes:
        format: of this file.
        size: side in pixels.
        upright: images were turned as their EXIF orientation says.
        shard_rows: images in each shard but the last, whole blocks.
        names: image paths relative to the root, by row.
        file_sizes: bytes of each image file when it was packed.
        file_times: when each had been changed (nanoseconds since 1970); another size or time makes a pack stale.
        blocks: SHA-256 of each block of 256 rows.
        sha256: of the concatenated block checksums.
    """

    format: Literal["ltk.pack/4"] = FORMAT
    size: int = Field(ge=1)
    upright: bool
    shard_rows: int = Field(ge=BLOCK, multiple_of=BLOCK)
    names: list[str]
    file_sizes: list[int]
    file_times: list[int]
    blocks: list[str]
    sha256: str

    @model_validator(mode="after")
    def _one_of_each(self) -> Self:
        images = len(self.names)
        if not len(set(self.names)) == images == len(self.file_sizes) == len(self.file_times):
            raise ValueError("each image has one name, one size and one time")
        if len(self.blocks) != -(-images // BLOCK):
            raise ValueError(f"{len(self.blocks)} checksums for {images} images")
        return self

    def shards(self, path: Path) -> dict[Path, tuple[int, int, int, int]]:
        """Return the shards of the pack described by the file ``path``, with their shapes."""
        rows = cut_shards(len(self.names), self.shard_rows)
        return {shard_path(path, i): (n, 3, self.size, self.size) for i, n in enumerate(rows)}


def choose_shard_rows(size: int) -> int:
    """Return how many images of a size one shard holds: whole blocks."""
    return max(1, _SHARD_BYTES // (3 * size * size) // BLOCK) * BLOCK


def cut_shards(images: int, shard_rows: int) -> list[int]:
    """Return the number of images in each shard."""
    return [min(shard_rows, images - start) for start in range(0, images, shard_rows)]


def shard_path(path: Path, number: int) -> Path:
    """Return the array of a shard of the pack described by the file ``path``."""
    return path.with_suffix(f".{number:03}.npy")


@dataclass(frozen=True)
class PackedImages:
    """A pack opened for the images of one split.

    Attributes:
        shards: memory-mapped uint8 [rows, 3, size, size] each.
        shard_rows: images in each shard but the last.
        row_N: the row of each image of the split, over all shards.
    """

    shards: list[Pixels]
    shard_rows: int
    row_N: IntArray

    def read(self, index_B: IntArray) -> Pixels:
        """Return images of the split, uint8 [B, 3, size, size]."""
        shard_B, row_B = np.divmod(self.row_N[index_B], self.shard_rows)
        pixels = np.empty((len(index_B), *self.shards[0].shape[1:]), dtype=np.uint8)
        for shard in np.unique(shard_B).tolist():
            own_B = shard_B == shard
            pixels[own_B] = self.shards[shard][row_B[own_B]]
        return pixels


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
            if (info.size, info.upright) != (size, upright) or not all(name in row_of for name in names):
                continue
            rows = [row_of[name] for name in names]
            packed = [info.file_sizes[row] for row in rows], [info.file_times[row] for row in rows]
            if packed == measure_files(root, names):
                return PackedImages(_open_shards(path, info), info.shard_rows, np.array(rows, dtype=np.int64))
    return None


def measure_files(root: Path, names: Sequence[str]) -> tuple[list[int], list[int]]:
    """Return the bytes of each file, -1 where it is missing, and when it was changed (nanoseconds since 1970)."""
    sizes, times = [], []
    for name in names:
        try:
            found = os.stat(locate(root, name))  # noqa: PTH116 - called once per image
            size, time = found.st_size, found.st_mtime_ns
        except OSError:
            size, time = -1, 0
        sizes.append(size)
        times.append(time)
    return sizes, times


def read_info(path: Path) -> PackInfo:
    """Read the JSON file of a pack.

    Raises:
        DataError: not such a file.
    """
    try:
        return PackInfo.model_validate(json.loads(read_bytes(path)))
    except ValidationError as error:
        reason = first_fault(error)
    except (OSError, ValueError, RecursionError) as error:
        reason = str(error)
    raise DataError(f"{path} is not the description of a pack: {reason}", "Delete it and pack again.")


def verify_pack(path: Path) -> list[int]:
    """Return the blocks whose pixels do not have the checksum they were written with.

    Args:
        path: the JSON file of a pack.

    Raises:
        DataError: the pack is not what its JSON file describes.
    """
    info = read_info(path)
    found = (
        digest_bytes(shard[start : start + BLOCK].tobytes())
        for shard in _open_shards(path, info)
        for start in range(0, len(shard), BLOCK)
    )
    return [block for block, digest in enumerate(found) if digest != info.blocks[block]]


def _open_shards(path: Path, info: PackInfo) -> list[Pixels]:
    shards = []
    for file, shape in info.shards(path).items():
        try:
            open_file(file).close()
            pixels: Pixels = np.load(file, mmap_mode="r")
        except (OSError, ValueError, EOFError, SyntaxError, tokenize.TokenError) as error:  # all from np.load
            raise DataError(f"{file} cannot be read: {error}", "Pack again.") from error
        if pixels.shape != shape or pixels.dtype != np.uint8:
            raise DataError(f"{file} has shape {pixels.shape} of {pixels.dtype}, not {shape} of uint8", "Pack again.")
        shards.append(pixels)
    return shards


def digest_bytes(data: bytes) -> str:
    """Return the SHA-256 of bytes in hexadecimal."""
    return hashlib.sha256(data).hexdigest()
