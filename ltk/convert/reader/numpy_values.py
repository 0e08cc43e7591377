"""NumPy scalars and arrays as a pickle describes them."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Any

from ltk.convert.reader.values import Call, shown

_SCALARS = {
    "f8": "<d", "f4": "<f", "f2": "<e", "i8": "<q", "i4": "<i", "i2": "<h", "i1": "<b", "u8": "<Q", "u4": "<I",
    "u2": "<H", "u1": "<B", "b1": "<?",
}  # fmt: skip
_DTYPES = {
    "f8": ("float64", 8), "f4": ("float32", 4), "f2": ("float16", 2), "i8": ("int64", 8), "i4": ("int32", 4),
    "i2": ("int16", 2), "i1": ("int8", 1), "u1": ("uint8", 1), "b1": ("bool", 1), "c8": ("complex64", 8),
    "c16": ("complex128", 16),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Array:
    """A dense array.

    Attributes:
        raw: its bytes, little-endian.
        dtype: name of its type.
        shape: sizes.
        strides: in elements.
    """

    raw: bytes
    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def scalar_of(arguments: tuple[Any, ...]) -> int | float | None:
    """Return the Python number of ``multiarray.scalar(dtype, raw)``; None when it is not a plain one."""
    if len(arguments) != 2:
        return None
    raw, layout = arguments[1], _SCALARS.get(_dtype_code(arguments[0]))
    if type(raw) is not bytes or layout is None or struct.calcsize(layout) != len(raw):
        return None
    number: int | float = struct.unpack(layout, raw)[0]
    return number


def array_of(call: Call) -> Array | None:
    """Return the array of ``_reconstruct`` (with its state) or ``_frombuffer``; None when it is not a plain one."""
    arguments, state = call.arguments, call.state
    if call.function.endswith("_frombuffer") and type(arguments) is tuple and len(arguments) == 4:
        raw, dtype, shape, order = arguments
        fortran = order == "F"
    elif type(state) is tuple and len(state) == 5:
        _, shape, dtype, fortran, raw = state
    else:
        return None
    name, size = _DTYPES.get(_dtype_code(dtype), ("", 0))
    if type(raw) is not bytes or type(shape) is not tuple or len(shape) > 8:
        return None
    if not name or not all(type(length) is int and length > 0 for length in shape):
        return None
    if math.prod(shape) * size != len(raw):
        return None
    return Array(raw, name, shape, _dense_strides(shape, bool(fortran)))


def _dtype_code(value: Any) -> str:
    """The code of a little-endian ``numpy.dtype`` call, such as f4."""
    if not isinstance(value, Call) or value.function != "numpy.dtype" or type(value.arguments) is not tuple:
        return ""
    big_endian = type(value.state) is tuple and len(value.state) > 1 and value.state[1] == ">"
    return "" if big_endian or not value.arguments else shown(value.arguments[0])


def _dense_strides(shape: tuple[int, ...], fortran: bool) -> tuple[int, ...]:
    order = list(range(len(shape))) if fortran else list(reversed(range(len(shape))))
    strides, step = [0] * len(shape), 1
    for axis in order:
        strides[axis] = step
        step *= shape[axis]
    return tuple(strides)
