"""Writing packs (see ``ltk.data.pack``), in parallel and so that it can be stopped at any time.

Finished blocks stand in a journal with their checksums; the next call reads them back, checks them and goes on.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from ltk.data.base import Source, locate
from ltk.data.files import FileSplit
from ltk.data.pack import (
    BLOCK,
    FORMAT,
    PackInfo,
    choose_shard_rows,
    cut_shards,
    digest_bytes,
    measure_files,
    pack_folders,
    shard_path,
)
from ltk.errors import BusyError, EnvironmentFault, UsageError
from ltk.files import DISK_FULL, explain_disk_fault, try_lock, write_text


def write_pack(
    root: Path,
    names: Sequence[str],
    size: int,
    path: Path,
    *,
    upright: bool = False,
    shard_rows: int | None = None,
    advance: Callable[[int], None] = lambda images: None,
) -> PackInfo:
    """Decode images into a pack, in parallel, going on where an interrupted call stopped.

    Args:
        root: folder that ``names`` are relative to.
        names: image paths, each once.
        size: side in pixels.
        path: the description, ``<folder>/<name>-<size>.json``; the shards lie beside it.
        upright: turn images as their EXIF orientation says.
        shard_rows: images per shard, whole blocks; by default as many as 2 GiB hold.
        advance: called with the number of images done since the last call.

    Raises:
        DataError: images cannot be read; all of them are named, the others are kept for the next attempt.
        BusyError: another process writes this pack.
        EnvironmentFault: the folder cannot be written, or the disk is full.
    """
    task = _Task(root, names, *measure_files(root, names), size, upright, shard_rows or choose_shard_rows(size))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        journal = path.with_suffix(".blocks")
        with journal.open("a+", encoding="ascii") as done:
            if not try_lock(done):
                raise BusyError(f"another process packs into {path}", "Wait for it, or choose another --out.")
            blocks = _write_shards(task, path, done, advance)
            digest = digest_bytes("".join(blocks).encode())
            info = PackInfo(
                size=size,
                upright=upright,
                shard_rows=task.shard_rows,
                names=list(names),
                file_sizes=task.file_sizes,
                file_times=task.file_times,
                blocks=blocks,
                sha256=digest,
            )
            path.unlink(missing_ok=True)  # never a description beside pixels it does not describe
            for shard in info.shards(path):
                _partial(shard).replace(shard)
            write_text(path, json.dumps(info.model_dump()))
            journal.unlink()
    except OSError as error:
        if error.errno in DISK_FULL:
            raise explain_disk_fault(error, path) from error
        raise EnvironmentFault(
            f"cannot write {path}: {error.strerror}", "Give another place with --out DIR, or set LTK_DATA."
        ) from error
    return info


@dataclass(frozen=True)
class _Task:
    """What to pack, in the order of the rows."""

    root: Path
    names: Sequence[str]
    file_sizes: list[int]
    file_times: list[int]
    size: int
    upright: bool
    shard_rows: int

    def key(self, start: int, stop: int) -> str:
        """Return what a block in the journal is known by: whatever decides its pixels."""
        images = (self.names[start:stop], self.file_sizes[start:stop], self.file_times[start:stop])
        return digest_bytes(repr((FORMAT, start, self.size, self.upright, self.shard_rows, *images)).encode())

    def decode(self, start: int, stop: int) -> tuple[bytes, list[str]]:
        """Return the pixels of some rows, and what is wrong with those that cannot be read."""
        from ltk.data.decode import try_read_images, useful_threads

        own = self.names[start:stop]
        paths = [locate(self.root, name) for name in own]
        images, unread = try_read_images(paths, self.size, upright=self.upright, threads=useful_threads(self.size))
        return images.numpy().tobytes(), [f"{own[i]}: {reason}" for i, reason in unread]


def _partial(path: Path) -> Path:
    return path.with_name(f"{path.name}.part")


def _write_shards(task: _Task, path: Path, journal: IO[str], advance: Callable[[int], None]) -> list[str]:
    """Write all blocks that the journal does not have; return the checksums of all."""
    from ltk.data.decode import unreadable

    journal.seek(0)
    lines = [line.split() for line in journal.read().splitlines()]
    finished = {line[0]: line[1] for line in lines if len(line) == 2}  # a torn last line is no record
    digests: list[str] = []
    faults: list[str] = []
    for number, rows in enumerate(cut_shards(len(task.names), task.shard_rows)):
        partial = _partial(shard_path(path, number))
        with partial.open("r+b" if partial.exists() else "w+b") as file:
            shape = (rows, 3, task.size, task.size)
            np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
            first = number * task.shard_rows
            for start in range(first, first + rows, BLOCK):
                stop = min(start + BLOCK, first + rows)
                key = task.key(start, stop)
                digest, unread = _write_block(task, start, stop, file, finished.get(key))
                digests.append(digest)
                faults += unread
                if not unread and digest != finished.get(key):
                    journal.write(f"{key} {digest}\n")
                    journal.flush()
                advance(stop - start)
            file.flush()
            os.fsync(file.fileno())
    if faults:
        raise unreadable(faults)
    return digests


def _write_block(task: _Task, start: int, stop: int, file: IO[bytes], known: str | None) -> tuple[str, list[str]]:
    """Write a block where the file stands, unless it is there already; return its checksum and its faults."""
    place, length = file.tell(), (stop - start) * 3 * task.size**2
    if known is not None and digest_bytes(file.read(length)) == known:
        return known, []
    data, faults = task.decode(start, stop)
    file.seek(place)
    file.write(data)
    file.flush()
    return digest_bytes(data), faults


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
    path = folder / f"{source.name}-{size}.json"
    return path, write_pack(root, names, size, path, upright=splits[0].upright, advance=advance)
