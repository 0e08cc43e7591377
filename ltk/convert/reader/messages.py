"""What the reading process tells: a description in JSON, the bytes of the storages in order, and an end or an error."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, BinaryIO

from ltk.convert.reader.limits import LIMITS, Limits
from ltk.convert.reader.open_file import Container, open_container, plan_reading
from ltk.errors import DataError, LtkError, UnsafeError

DESCRIPTION, PIECE, END, ERROR = b"H", b"D", b"Z", b"E"
Message = tuple[bytes, bytes]
_ERRORS: dict[str, type[LtkError]] = {"DataError": DataError, "UnsafeError": UnsafeError}


def read_messages(file: BinaryIO, size: int, limits: Limits = LIMITS) -> Iterator[Message]:
    """Read an untrusted file; whatever goes wrong becomes an error message, never an exception.

    Args:
        file: readable and seekable.
        size: its length in bytes.
        limits: bounds.
    """
    try:
        yield from _read(file, size, limits)
        return
    except (DataError, UnsafeError) as error:
        failure: LtkError = error.with_traceback(None)
    except (MemoryError, RecursionError):
        failure = UnsafeError("the file needs more memory than a checkpoint of its size")
    except Exception as error:
        # A fault of the reader on input nobody thought of: refused like any other file that cannot be understood.
        failure = DataError(f"the file cannot be understood ({type(error).__name__})", "It may be damaged.")
    yield ERROR, _encode(failure)  # only now: an exception being handled keeps all that was read alive


def _read(file: BinaryIO, size: int, limits: Limits) -> Iterator[Message]:
    container = open_container(file, size, limits)
    plan = plan_reading(container, size, limits)
    yield DESCRIPTION, json.dumps(plan.description, separators=(",", ":")).encode("ascii")
    for storage, (first, length) in zip(plan.storages, plan.description["spans"], strict=True):
        for piece in _span_of(container, storage, first, length):
            yield PIECE, piece
    container.check_rest({key for key in plan.storages if isinstance(key, str)})
    yield END, b""


def _span_of(container: Container, storage: str | bytes, first: int, length: int) -> Iterator[bytes]:
    """The bytes in use of a storage; the others are read too, for the checksum."""
    position, last = 0, first + length
    for piece in [storage] if isinstance(storage, bytes) else container.stream(storage):
        part = piece[max(first - position, 0) : max(last - position, 0)]
        position += len(piece)
        if part:
            yield part


def _encode(error: LtkError) -> bytes:
    content: dict[str, Any] = {"kind": type(error).__name__, "message": error.message, "hint": error.hint}
    return json.dumps(content).encode("ascii")


def error_of(payload: bytes) -> LtkError:
    """Return the exception of an error message."""
    content = json.loads(payload)
    return _ERRORS[content["kind"]](content["message"], content["hint"])
