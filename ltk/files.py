"""Files that are the old one or the new one, whole, whatever happens while they are written; imports no torch."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, BinaryIO

from ltk.errors import DataError, EnvironmentFault

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


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object that a file holds.

    Raises:
        DataError: not readable, or something else.
    """
    try:
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is damaged: {error}", "Put back the file of this run.") from error
    if not isinstance(value, dict):
        raise DataError(f"{path} is damaged: it holds no JSON object", "Put back the file of this run.")
    return value


def read_records(path: Path) -> list[dict[str, Any]]:
    """Return the epochs of a journal, one JSON object per line; lines that a kill or a fault tore are left out."""
    if not path.exists():
        return []
    records = []
    for line in path.read_bytes().splitlines():
        with contextlib.suppress(ValueError, RecursionError):
            record = json.loads(line)
            if isinstance(record, dict) and isinstance(record.get("epoch"), int):
                records.append(record)
    return records


def try_lock(file: IO[Any] | int) -> bool:
    """Lock a file (or a folder, by its descriptor) until it is closed or the process dies; False if another has it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


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
