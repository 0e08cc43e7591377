"""Writing packs (see ``ltk.data.pack``), in parallel and so that it can be stopped at any time.

Finished blocks stand in a journal with their checksums; the next call reads them back, checks them and goes on.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO

import numpy as np

from ltk.data.base import Source
from ltk.data.files import FileSplit
from ltk.data.pack import BLOCK, FORMAT, PackInfo, digest_bytes, measure_files, pack_folders
from ltk.errors import EnvironmentFault, UsageError


def write_pack(
    root: Path,
    names: Sequence[str],
    size: int,
    path: Path,
    *,
    upright: bool = False,
    advance: Callable[[int], None] = lambda images: None,
) -> PackInfo:
    """Decode images into a pack, in parallel, going on where an interrupted call stopped.

    Args:
        root: folder that ``names`` are relative to.
        names: image paths, each once.
        size: side in pixels.
        path: the array, ``<folder>/<name>-<size>.npy``.
        upright: turn images as their EXIF orientation says.
        advance: called with the number of images done since the last call.

    Raises:
        DataError: images cannot be read; all of them are named, the others are kept for the next attempt.
        EnvironmentFault: the folder cannot be written, or the disk is full.
    """
    file_sizes = measure_files(root, names)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial, journal = path.with_suffix(".part"), path.with_suffix(".blocks")
        if not partial.exists():
            journal.unlink(missing_ok=True)
        with partial.open("r+b" if partial.exists() else "w+b") as file, journal.open("a+", encoding="ascii") as done:
            blocks = _write_blocks(root, names, file_sizes, (file, done), size, upright, advance)
            file.flush()
            os.fsync(file.fileno())
        info = PackInfo(size, upright, list(names), file_sizes, blocks, digest_bytes("".join(blocks).encode()))
        path.with_suffix(".json").unlink(missing_ok=True)  # never a description beside pixels it does not describe
        partial.replace(path)
        described = path.with_suffix(".json.part")
        described.write_text(json.dumps({"format": FORMAT, **asdict(info)}), encoding="utf-8")
        described.replace(path.with_suffix(".json"))
        journal.unlink()
    except OSError as error:
        raise EnvironmentFault(
            f"cannot write {path}: {error.strerror}", "Give another place with --out DIR, or set LTK_DATA."
        ) from error
    return info


def _write_blocks(
    root: Path,
    names: Sequence[str],
    file_sizes: Sequence[int],
    files: tuple[IO[bytes], IO[str]],
    size: int,
    upright: bool,
    advance: Callable[[int], None],
) -> list[str]:
    """Write the array's header and all blocks that the journal does not have; return their checksums."""
    from ltk.data.decode import try_read_images, unreadable, useful_threads

    file, journal = files
    journal.seek(0)
    lines = [line.split() for line in journal.read().splitlines()]
    finished = {line[0]: line[1] for line in lines if len(line) == 2}  # a torn last line is no record
    shape = (len(names), 3, size, size)
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
    start_of_data, bytes_per_image = file.tell(), 3 * size * size
    digests: list[str] = []
    faults: list[str] = []
    for start in range(0, len(names), BLOCK):
        own = names[start : start + BLOCK]
        key = digest_bytes(repr((start, size, upright, own, file_sizes[start : start + BLOCK])).encode())
        file.seek(start_of_data + start * bytes_per_image)
        digest = finished.get(key)
        if digest is None or digest_bytes(file.read(len(own) * bytes_per_image)) != digest:
            paths = [f"{root}/{name}" for name in own]
            images, unread = try_read_images(paths, size, upright=upright, threads=useful_threads(size))
            faults += [f"{own[i]}: {reason}" for i, reason in unread]
            data = images.numpy().tobytes()
            digest = digest_bytes(data)
            file.seek(start_of_data + start * bytes_per_image)
            file.write(data)
            if not unread:
                file.flush()
                journal.write(f"{key} {digest}\n")
                journal.flush()
        digests.append(digest)
        advance(len(own))
    if faults:
        raise unreadable(faults)
    return digests


def pack_source(
    source: Source,
    size: int,
    folder: Path | None = None,
    *,
    advance: Callable[[int], None] = lambda images: None,
) -> tuple[Path, PackInfo]:
    """Pack all images of a source; return where and what.

    Args:
        source: its images are files.
        size: side in pixels.
        folder: where to; by default beside the images, or under the data root where that cannot be written.
        advance: called with the number of images done since the last call.

    Raises:
        UsageError: the images of the source are not files.
        DataError: images cannot be read.
        EnvironmentFault: the folder cannot be written, or the disk is full.
    """
    splits = [split for split in source.splits.values() if isinstance(split, FileSplit)]
    if not splits:
        raise UsageError(f"{source.name} is read into memory whole: there is nothing to pack")
    root = splits[0].root
    names = list(dict.fromkeys(name for split in splits for name in split.paths))
    if folder is None:
        beside, elsewhere = pack_folders(root)
        folder = beside if os.access(root, os.W_OK) else elsewhere
    path = folder / f"{source.name}-{size}.npy"
    return path, write_pack(root, names, size, path, upright=splits[0].upright, advance=advance)
