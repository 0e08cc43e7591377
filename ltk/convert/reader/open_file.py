"""Recognise a file by its first bytes, never by its name, and read what it describes."""

from __future__ import annotations

import codecs
import math
import re
from dataclasses import asdict, dataclass, replace
from typing import Any, BinaryIO

from ltk.convert.reader.assembly import Assembly
from ltk.convert.reader.limits import LIMITS, MEBIBYTE, Limits
from ltk.convert.reader.names import is_foreign
from ltk.convert.reader.safetensors_file import SafetensorsFile
from ltk.convert.reader.storage import ITEM_SIZES
from ltk.convert.reader.torch_legacy import TorchLegacy
from ltk.convert.reader.torch_zip import TorchZip
from ltk.convert.reader.values import on_one_line
from ltk.errors import DataError

_AGAIN = "Download it again."
_UNPACK = "Unpack it and give the file inside."
_OTHER_KINDS = (
    (b"<", "an HTML or XML page (a download that failed?), not a checkpoint", _AGAIN),
    (b"version https://git-lfs", "a git-lfs pointer, not the file itself", "Fetch it with git lfs pull."),
    (b"\x1f\x8b", "a gzip archive, not a checkpoint", _UNPACK),
    (b"BZh", "a bzip2 archive, not a checkpoint", _UNPACK),
    (b"\xfd7zXZ", "an xz archive, not a checkpoint", _UNPACK),
    (b"7z\xbc\xaf", "a 7-Zip archive, not a checkpoint", _UNPACK),
    (b"Rar!", "a RAR archive, not a checkpoint", _UNPACK),
    (b"\x28\xb5\x2f\xfd", "a Zstandard archive, not a checkpoint", _UNPACK),
    (b"\x89HDF", "an HDF5 file, not a checkpoint", ""),
    (b"\x93NUMPY", "a NumPy array, not a checkpoint", ""),
    (b"\x89PNG", "a PNG image, not a checkpoint", ""),
    (b"\xff\xd8\xff", "a JPEG image, not a checkpoint", ""),
    (b"%PDF", "a PDF document, not a checkpoint", ""),
    (b"GGUF", "a GGUF file, not a checkpoint of torch", ""),
    (b"{", "a JSON file, not a checkpoint", "Give the file of the weights."),
    (b"[", "a JSON file, not a checkpoint", "Give the file of the weights."),
)
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_ONNX = re.compile(rb"\x08[\x01-\x1f]\x12", re.DOTALL)  # field 1 of the protocol buffer, the version; then field 2

Container = TorchZip | TorchLegacy | SafetensorsFile


def open_container(file: BinaryIO, size: int, limits: Limits = LIMITS) -> Container:
    """Return the reader for a file.

    Args:
        file: readable and seekable.
        size: its length in bytes.
        limits: bounds.

    Raises:
        DataError: not a checkpoint, with what it seems to be; damaged; cut short.
        UnsafeError: built to do harm, or beyond the limits.
    """
    file.seek(0)
    head = file.read(512)
    file.seek(0)
    if not size:
        raise DataError("an empty file", _AGAIN)
    if head.startswith(b"PK\x03\x04"):
        return TorchZip(file, size, limits)
    if head.startswith(b"\x80"):
        return _open_pickle(file, size, limits, head)
    if head[8:9] == b"{" and b"\0" in head[:8]:  # behind the length of a header; JSON has no zeros
        return SafetensorsFile(file, size)
    if head[257:262] == b"ustar":
        raise DataError("a tar archive, not a checkpoint", _UNPACK)
    if _ONNX.match(head):
        raise DataError("an ONNX file, not a checkpoint of torch", "Give the checkpoint that it was exported from.")
    text = head.decode("utf-16", "replace").encode() if head.startswith(_UTF16) else head
    text = text.removeprefix(codecs.BOM_UTF8).lstrip()
    for magic, what, hint in _OTHER_KINDS:
        if text.startswith(magic):
            raise DataError(what, hint)
    raise DataError("not a checkpoint: neither of torch.save nor safetensors", "Only such files are read.")


def _open_pickle(file: BinaryIO, size: int, limits: Limits, head: bytes) -> Container:
    try:
        return TorchLegacy(file, size, limits)
    except DataError as error:
        if b"joblib.numpy_pickle" not in head:
            raise
        again = "Load it with joblib and save the weights with torch.save."
        raise DataError("a file of joblib.dump, not of torch.save", again) from error


@dataclass(frozen=True)
class Plan:
    """What a file holds, as JSON values, and which bytes to copy from it.

    Attributes:
        description: ``kind``, ``tree``, ``windows``, ``spans`` (first byte and length per storage), ``warnings``,
            ``foreign``.
        storages: key, or the bytes themselves, per storage.
    """

    description: dict[str, Any]
    storages: list[str | bytes]


def plan_reading(container: Container, file_size: int, limits: Limits = LIMITS) -> Plan:
    """Check every tensor of a file and say where its bytes are.

    Args:
        container: an open file.
        file_size: its length in bytes.
        limits: bounds.

    Raises:
        DataError: a tensor that is malformed, of an unsupported kind, or without its values.
        UnsafeError: a tensor larger than what is stored.
    """
    budget = min(container.total, limits.unpacked(file_size)) + MEBIBYTE
    assembly = Assembly(container, budget, replace(limits, nodes=limits.tree(file_size)))
    tree = assembly.walk(container.tree)
    description = {
        "tree": tree,
        "windows": [asdict(window) for window in assembly.windows],
        "spans": _spans(assembly),
        "warnings": container.warnings,
        "foreign": sorted(on_one_line(name) for name in container.named if is_foreign(name))[:50],
        "kind": type(container).__name__,
    }
    return Plan(description, assembly.storages)


def _spans(assembly: Assembly) -> list[tuple[int, int]]:
    """First byte (a multiple of 16, so that every type stays aligned) and number of bytes in use of each storage."""
    ends = [(-1, 0)] * len(assembly.storages)
    for window in assembly.windows:
        if math.prod(window.shape):
            size = ITEM_SIZES[window.dtype]
            reach = sum((length - 1) * step for length, step in zip(window.shape, window.stride, strict=True))
            first, last = window.offset * size, (window.offset + reach + 1) * size
            lowest, highest = ends[window.storage]
            ends[window.storage] = first if lowest < 0 else min(lowest, first), max(highest, last)
    return [(max(first, 0) // 16 * 16, last - max(first, 0) // 16 * 16) for first, last in ends]
