"""Files that are the old one or the new one, whole, whatever happens while they are written; imports no torch."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ltk.errors import EnvironmentFault

LAST, PREVIOUS, BEST = "last.safetensors", "previous.safetensors", "best.safetensors"
DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def explain_disk_fault(error: OSError, path: object) -> EnvironmentFault:
    """Return what the user is told of an operating-system error while ``path`` was written."""
    if error.errno in DISK_FULL:
        free = "Free some space or write elsewhere with --out; what was saved before is whole."
        return EnvironmentFault(f"disk full while writing {path}", free)
    return EnvironmentFault(f"cannot write {path}: {error.strerror or error}", "Check the folder's rights.")


@contextlib.contextmanager
def disk_faults(path: Path) -> Iterator[None]:
    """Turn operating-system errors of a write into an EnvironmentFault that says what to do."""
    try:
        yield
    except OSError as error:
        raise explain_disk_fault(error, path) from error


@contextlib.contextmanager
def open_atomic(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file beside ``path`` that takes its place when the block ends, flushed to the disk.

    A kill, an error or a full disk at any moment leaves the old file; only a kill leaves the temporary one.

    Raises:
        EnvironmentFault: disk full, quota, read-only.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with disk_faults(path):
        try:
            with temporary.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def write_atomically(path: Path, *chunks: bytes | memoryview) -> None:
    """Write a file of bytes; see ``open_atomic``."""
    with open_atomic(path) as file:
        for chunk in chunks:
            file.write(chunk)


def write_text(path: Path, text: str) -> None:
    """Write a text file as UTF-8; see ``open_atomic``."""
    write_atomically(path, text.encode())


def sync_folder(folder: Path) -> None:
    """Flush a folder to the disk, so that renames in it outlast a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_leftovers(folder: Path) -> None:
    """Delete the temporary files of a process killed while it wrote into ``folder``, which must be locked."""
    for path in folder.glob(".*.tmp"):
        path.unlink(missing_ok=True)
