"""What the machine, not ltk, got wrong: memory, disk, permissions."""

from __future__ import annotations

import errno
import sys

from ltk.errors import DataError, EnvironmentFault, LtkError
from ltk.files import DISK_FULL, explain_disk_fault

_NO_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "cannot allocate memory",
    "not enough memory",
    "could not create a primitive",
)
_NO_ROOM = "failed to map segment from shared object"  # for the libraries themselves
_NO_THREAD = "can't start new thread"


def explain_fault(error: Exception) -> LtkError | None:
    """Return what the user is told of an exception that no part of ltk foresaw; None if it is a bug.

    Args:
        error: whatever reached the top.
    """
    text = (str(error).splitlines() or [""])[0][:200]
    if isinstance(error, ImportError) and _NO_ROOM in text:
        hint = "Raise the memory limit of the shell (ulimit -v) or of the job."
        return EnvironmentFault(f"out of memory: {text}", hint)
    if isinstance(error, MemoryError) or any(phrase in text.lower() for phrase in _NO_MEMORY):
        hint = "Use a smaller --batch-size, image size or model; checkpoints on the disk are whole."
        return EnvironmentFault(f"out of memory: {text}" if text else "out of memory", hint)
    if _NO_THREAD in text:
        hint = "Use fewer readers (--set run.workers=1 --set run.threads=1), or ask for more: ulimit -u"
        return EnvironmentFault("the system allows no more threads", hint)
    if isinstance(error, UnicodeEncodeError):
        return _explain_name(error)
    if not isinstance(error, OSError):
        return None
    if error.errno in {*DISK_FULL, errno.ENAMETOOLONG}:
        return explain_disk_fault(error, error.filename or "the output")
    if error.errno == errno.ENOENT and error.filename is None:
        return EnvironmentFault("the current folder does not exist any more", "Change to another one.")
    return EnvironmentFault(f"{error.strerror or error}: {error.filename or 'the system refused'}", "See --debug.")


def _explain_name(error: UnicodeEncodeError) -> LtkError:
    """Say which name of a file, alone or within a text, the system's encoding does not have."""
    around = error.object[max(0, error.start - 40) : error.end + 40]
    if sys.getfilesystemencoding() != "utf-8":
        hint = "Set LC_ALL=C.UTF-8 or PYTHONUTF8=1."
        return EnvironmentFault(f"this locale ({error.encoding}) has no name for {around}", hint)
    return DataError(f"{around} is not UTF-8", "Rename this file or folder.")
