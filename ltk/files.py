"""Files that are the old one or the new one, whole, whatever happens while they are written; imports no torch."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import IO, Any, BinaryIO
from zlib import crc32

from ltk.errors import DataError, EnvironmentFault, LtkError, UsageError, unknown_name

CHECKPOINTS = ("last", "best")  # those of a run that can be asked for
_STREAMS = {"/dev/stdout": 1, "/dev/stderr": 2}
DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def check_checkpoint(name: str) -> str:
    """Return the name of a checkpoint when runs have one of that name.

    Raises:
        UsageError: they have not.
    """
    if name not in CHECKPOINTS:
        raise unknown_name("checkpoint", name, CHECKPOINTS)
    return name


def explain_disk_fault(error: OSError, path: object) -> LtkError:
    """Return what the user is told of an operating-system error while ``path`` was written."""
    if error.errno == errno.ENAMETOOLONG:
        return DataError(f"the name of a file or folder is too long: {str(path)[:100]}...", "Choose a shorter one.")
    if error.errno in DISK_FULL:
        free = "Free some space or write elsewhere with --out; what was saved before is whole."
        return EnvironmentFault(f"disk full while writing {path}", free)
    return EnvironmentFault(f"cannot write {path}: {error.strerror or error}", "Check the folder's rights.")


@contextlib.contextmanager
def disk_faults(path: Path) -> Iterator[None]:
    """Turn operating-system errors of a write into an LtkError that says what to do."""
    try:
        yield
    except OSError as error:
        raise explain_disk_fault(error, path) from error


@contextlib.contextmanager
def open_atomic(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file that takes the place of ``path`` when the block ends, flushed to the disk.

    A kill, an error or a full disk at any moment leaves the old file; only a kill leaves the temporary one. A link
    stays: the file it leads to is replaced. A device or a pipe that is read stays too: it is written to at the end.

    Raises:
        DataError: the name is too long.
        EnvironmentFault: disk full, quota, read-only, links that lead to each other, a pipe that nothing reads.
        UsageError: a folder, or something else that nothing can be written to.
    """
    with disk_faults(path):
        if _is_stream(path):
            with tempfile.TemporaryFile() as file:
                yield file
                _send(file, path)
        else:
            with _open_beside(path.resolve()) as file:
                yield file


def _is_stream(path: Path) -> bool:
    """Whether a place takes what is written, but cannot be replaced; a file, or nothing yet, can be."""
    if str(path) in _STREAMS:
        return True
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return False
    if not (stat.S_ISREG(mode) or stat.S_ISCHR(mode) or stat.S_ISFIFO(mode)):
        raise UsageError(f"{path} is no file to write to", "Give the name of a file.")
    return not stat.S_ISREG(mode)


def _send(file: IO[bytes], path: Path) -> None:
    file.seek(0)
    number = _STREAMS.get(str(path))
    with os.fdopen(_open_for_writing(path) if number is None else os.dup(number), "wb") as stream:
        shutil.copyfileobj(file, stream)


def _open_for_writing(path: Path) -> int:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK)  # else a pipe waits for its reader, maybe for ever
    except OSError as error:
        raise OSError(error.errno, "nothing reads this pipe") if error.errno == errno.ENXIO else error from None
    os.set_blocking(descriptor, True)
    return descriptor


@contextlib.contextmanager
def _open_beside(path: Path) -> Iterator[BinaryIO]:
    name = crc32(os.fsencode(path.name))  # not the name itself: with more to it, it may be too long
    temporary = path.with_name(f".{name:08x}.{os.getpid()}.tmp")
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
    """Write a text file as UTF-8; names of files in it keep bytes that are none. See ``open_atomic``."""
    write_atomically(path, text.encode(errors="surrogateescape"))


def as_text(name: str) -> str:
    """Return the name of a file as UTF-8 has it, whatever the locale: bytes that are none are escaped."""
    return name.encode(errors="surrogateescape").decode(errors="backslashreplace")


def check_text(line: str) -> None:
    """Check that what is written down with a name in it is UTF-8, whatever the locale.

    Raises:
        UsageError: the name holds other bytes.
    """
    try:
        line.encode(errors="surrogateescape").decode()
    except UnicodeDecodeError:
        raise UsageError(f"{as_text(line)} is not UTF-8", "Rename this file or folder.") from None


def open_file(path: Path | str) -> BufferedReader:
    """Open a file for reading in binary; a pipe or a device, whose end may never come, is refused.

    Raises:
        OSError: not there, not readable, or not a regular file.
    """
    mode = os.stat(path).st_mode  # noqa: PTH116 - called once per image
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # the system has words of its own for a folder
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return open(path, "rb")  # noqa: PTH123 - half the time of Path.open on small files


def read_bytes(path: Path | str) -> bytes:
    """Return the content of a file; see ``open_file``."""
    with open_file(path) as file:
        return file.read()


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object that a file holds.

    Raises:
        DataError: not readable, or something else.
    """
    try:
        value = json.loads(read_bytes(path))
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is damaged: {error}", "Put back the file of this run.") from error
    if not isinstance(value, dict):
        raise DataError(f"{path} is damaged: it holds no JSON object", "Put back the file of this run.")
    return value


def read_records(path: Path) -> list[dict[str, Any]]:
    """Return the epochs of a journal, one JSON object per line; lines that a kill or a fault tore are left out.

    Raises:
        DataError: not readable.
    """
    if not path.exists():
        return []
    try:
        lines = read_bytes(path).splitlines()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    records = []
    for line in lines:
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
