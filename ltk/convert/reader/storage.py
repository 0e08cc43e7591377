"""Storages: typed runs of bytes that tensors are windows of, and where their bytes come from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from ltk.convert.reader.values import Name, shown
from ltk.errors import DataError

# torch storage class -> dtype; dtype -> bytes of one element
STORAGE_DTYPES = {
    "FloatStorage": "float32",
    "DoubleStorage": "float64",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
    "UntypedStorage": "uint8",
}
ITEM_SIZES = {
    "bool": 1, "uint8": 1, "int8": 1, "float8_e4m3fn": 1, "float8_e5m2": 1,
    "int16": 2, "uint16": 2, "float16": 2, "bfloat16": 2,
    "int32": 4, "uint32": 4, "float32": 4,
    "int64": 8, "uint64": 8, "float64": 8, "complex64": 8,
    "complex128": 16,
}  # fmt: skip
_STORAGE_MODULES = {"torch", "torch.cuda", "torch.storage"}


@dataclass(frozen=True, slots=True)
class Storage:
    """A run of elements in the file.

    Attributes:
        dtype: of its elements.
        key: its name in the file.
        count: how many elements it claims.
        start: first element of the part meant (views of old files).
        length: elements of that part.
    """

    dtype: str
    key: str
    count: int
    start: int
    length: int

    @property
    def nbytes(self) -> int:
        """Bytes it claims."""
        return self.count * ITEM_SIZES[self.dtype]


class Bytes(Protocol):
    """Where the bytes of storages are."""

    def size_of(self, key: str) -> int:
        """Return how many bytes are present under a key."""

    def stream(self, key: str) -> Iterator[bytes]:
        """Yield them in pieces and check their checksum at the end, where there is one."""


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def storage_of(persistent_id: Any) -> Any:
    """Interpret a persistent id: a storage, or the module of a file that carried its source code.

    Raises:
        DataError: neither, or malformed.
    """
    if type(persistent_id) is not tuple or not persistent_id:
        raise DataError("damaged checkpoint: unknown persistent id")
    if persistent_id[0] == "module" and len(persistent_id) > 1:
        return persistent_id[1]
    if persistent_id[0] != "storage" or len(persistent_id) not in (5, 6):
        raise DataError("damaged checkpoint: unknown persistent id")
    kind, key, _, count, *view = persistent_id[1:]
    module, _, class_name = kind.rpartition(".") if isinstance(kind, Name) else ("", "", "")
    if class_name.startswith(("QInt", "QUInt")):
        raise DataError(f"a quantised tensor ({shown(kind)[:60]!r})", "Save the weights as they were before.")
    if module not in _STORAGE_MODULES or class_name not in STORAGE_DTYPES:
        raise DataError(f"a storage of unsupported type {shown(kind)[:60]!r}")
    if not _is_count(count) or not isinstance(key, str | int):
        raise DataError("damaged checkpoint: malformed storage")
    start, length = _view(view[0] if view else None, count)
    return Storage(STORAGE_DTYPES[class_name], str(key), count, start, length)


def _view(view: Any, count: int) -> tuple[int, int]:
    """First element and length of a storage that is a part of another (files of torch < 1.6)."""
    if view is None:
        return 0, count
    if type(view) is not tuple or len(view) != 3 or not all(_is_count(number) for number in view[1:]):
        raise DataError("damaged checkpoint: malformed storage view")
    return view[1], view[2]
