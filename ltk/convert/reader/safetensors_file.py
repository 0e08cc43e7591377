"""Safetensors files: a JSON header and the bytes of the tensors, end to end."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any, BinaryIO

from ltk.convert.reader.source import stream_span
from ltk.convert.reader.storage import ITEM_SIZES, Storage
from ltk.convert.reader.values import Call, Name
from ltk.errors import DataError, UnsafeError

_DTYPES = {
    "BOOL": "bool", "U8": "uint8", "I8": "int8", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "I16": "int16",
    "U16": "uint16", "F16": "float16", "BF16": "bfloat16", "I32": "int32", "U32": "uint32", "F32": "float32",
    "I64": "int64", "U64": "uint64", "F64": "float64",
}  # fmt: skip
_LONGEST_HEADER = 100_000_000
METADATA = "__metadata__"


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise UnsafeError("the safetensors header names something twice")
    return result


class SafetensorsFile:
    """A safetensors file; attributes as ``TorchZip``. Its metadata is the entry ``__metadata__``."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.file, self.size = file, size
        self.named: set[str] = set()
        self.warnings: list[str] = []
        self._places: dict[str, tuple[int, int]] = {}
        header = self._read_header()
        metadata = header.pop(METADATA, {})
        if type(metadata) is not dict or not all(type(value) is str for value in metadata.values()):
            raise DataError("damaged safetensors file: malformed metadata")
        self.tree: dict[str, Any] = {name: self._tensor(name, entry) for name, entry in header.items()}
        self._check_layout()
        if metadata:
            self.tree[METADATA] = metadata

    def _read_header(self) -> dict[str, Any]:
        length = int.from_bytes(self.file.read(8), "little")
        if length > _LONGEST_HEADER or 8 + length > self.size:
            raise DataError(f"the file is incomplete: {self.size} of at least {8 + length} bytes", "Copy it again.")
        self._start = 8 + length
        try:
            header = json.loads(self.file.read(length).decode("utf-8"), object_pairs_hook=_unique)
        except (ValueError, RecursionError) as error:
            raise DataError("damaged safetensors file: its header is no JSON") from error
        if type(header) is not dict:
            raise DataError("damaged safetensors file: its header is no JSON object")
        return header

    def _tensor(self, name: str, entry: Any) -> Call:
        """The same description as a pickled tensor has."""
        if type(entry) is not dict or entry.keys() != {"dtype", "shape", "data_offsets"}:
            raise DataError(f"damaged safetensors file: malformed entry {name[:80]!r}")
        dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
        if not isinstance(dtype, str) or dtype not in _DTYPES:
            raise DataError(f"tensor {name[:80]!r} has an unsupported type {str(dtype)[:40]!r}")
        if not _are_counts(shape) or len(shape) > 8 or not _are_counts(offsets) or len(offsets) != 2:
            raise DataError(f"damaged safetensors file: malformed entry {name[:80]!r}")
        kind, count = _DTYPES[dtype], math.prod(shape)
        first, last = offsets
        if last - first != count * ITEM_SIZES[kind]:
            raise UnsafeError(f"tensor {name[:80]!r} claims {count} elements in {last - first} bytes")
        self._places[name] = (first, last)
        storage = Storage(kind, name, count, 0, count)
        strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
        return Call(Name("torch._utils._rebuild_tensor_v2"), (storage, 0, tuple(shape), tuple(strides)))

    def _check_layout(self) -> None:
        """Tensors follow each other without gap or overlap and fill the file."""
        end = 0
        for first, last in sorted(self._places.values()):
            if first != end:
                raise UnsafeError("tensors of the safetensors file overlap or leave gaps")
            end = last
        if self._start + end > self.size:
            raise DataError(f"the file is incomplete: {self.size} of {self._start + end} bytes", "Copy it again.")
        if self._start + end < self.size:
            raise DataError(f"damaged safetensors file: {self.size - self._start - end} bytes after its end")

    def size_of(self, key: str) -> int:
        """Return how many bytes a tensor has."""
        first, last = self._places[key]
        return last - first

    def stream(self, key: str) -> Iterator[bytes]:
        """Yield the bytes of a tensor."""
        first, last = self._places[key]
        return stream_span(self.file, self._start + first, last - first)

    def check_rest(self, used: set[str]) -> None:
        """Nothing to check: the format has no checksums."""

    @property
    def total(self) -> int:
        """Bytes of all tensors."""
        return sum(last - first for first, last in self._places.values())


def _are_counts(value: Any) -> bool:
    return type(value) is list and all(type(number) is int and 0 <= number < 1 << 48 for number in value)
