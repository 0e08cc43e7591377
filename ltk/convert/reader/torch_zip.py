"""Zip checkpoints (torch >= 1.6): one folder with data.pkl and data/0, data/1, ..."""

from __future__ import annotations

import contextlib
import io
import struct
from collections.abc import Iterator
from typing import Any, BinaryIO

from ltk.convert.reader.limits import LIMITS, Limits
from ltk.convert.reader.pickle_machine import interpret
from ltk.convert.reader.source import Source
from ltk.convert.reader.storage import Storage, storage_of
from ltk.convert.reader.zip_archive import Record, ZipArchive
from ltk.errors import DataError, UnsafeError

_PICKLE = "data.pkl"


class TorchZip:
    """A zip checkpoint.

    Args:
        file: readable and seekable.
        size: its length in bytes.
        limits: bounds.

    Attributes:
        tree: what its pickle describes.
        named: all names in it.
        warnings: what a reader should know.

    Raises:
        DataError: damaged, cut short, or of another kind.
        UnsafeError: built to do harm, or beyond the limits.
    """

    def __init__(self, file: BinaryIO, size: int, limits: Limits = LIMITS) -> None:
        self.archive = _open_archive(file, size, limits)
        self.root = self._find_root()
        self.warnings = self._check_records()
        record = self.archive.records[self.root + _PICKLE]
        if record.size > limits.pickle_bytes:
            raise UnsafeError(f"its pickle has {record.size} bytes")
        data = b"".join(self.archive.stream(record))
        self.tree, self.named = interpret(Source(io.BytesIO(data), len(data)), storage_of, limits)

    def _find_root(self) -> str:
        names = self.archive.records
        pickles = [name for name in names if name.rpartition("/")[2] == _PICKLE and name.count("/") <= 1]
        if names and all(name.endswith(".npy") for name in names):
            again = "Load the arrays with NumPy and save them as tensors with torch.save."
            raise DataError("an .npz file of NumPy arrays, not a checkpoint", again)
        if len(pickles) != 1:
            raise DataError("a zip archive that is no checkpoint: it has no data.pkl", "If it is packed, unpack it.")
        root = pickles[0].removesuffix(_PICKLE)
        outside = [name for name in names if not name.startswith(root)]
        extra = [name for name in names if name.endswith((".pkl", ".pickle")) and name != pickles[0]]
        if any(name.startswith((root + "code/", root + "constants.pkl")) for name in names):
            raise UnsafeError("a TorchScript archive, which holds code", "Save its state_dict() with torch.save.")
        if outside or extra:
            raise UnsafeError(f"the archive holds {(outside + extra)[0][:80]!r}, which does not belong to a checkpoint")
        return root

    def _check_records(self) -> list[str]:
        warnings = []
        if self.archive.trailing:
            warnings.append(f"{self.archive.trailing} bytes after the end of the archive were ignored")
        unsummed = sum(1 for record in self.archive.records.values() if record.size and not record.crc)
        if unsummed:
            warnings.append(f"{unsummed} records have no checksum: damage to them cannot be seen")
        order = self.archive.records.get(self.root + "byteorder")
        if order is not None and b"".join(self.archive.stream(order)) != b"little":
            raise DataError("a big-endian checkpoint", "Load and save it again on an ordinary machine.")
        return warnings

    def _record(self, key: str) -> Record:
        record = self.archive.records.get(f"{self.root}data/{key}")
        if record is None:
            raise DataError(f"damaged checkpoint: the values of storage {key[:40]!r} are missing")
        return record

    def size_of(self, key: str) -> int:
        """Return how many bytes a storage has."""
        return self._record(key).size

    def stream(self, key: str) -> Iterator[bytes]:
        """Yield the bytes of a storage and compare their checksum."""
        return self.archive.stream(self._record(key))

    def check_rest(self, used: set[str]) -> None:
        """Compare the checksums of all records that were not read."""
        read = {f"{self.root}data/{key}" for key in used} | {self.root + _PICKLE}
        for name, record in self.archive.records.items():
            if name not in read:
                for _ in self.archive.stream(record):
                    pass

    @property
    def total(self) -> int:
        """Unpacked bytes of all records."""
        return sum(record.size for record in self.archive.records.values())


def _open_archive(file: BinaryIO, size: int, limits: Limits) -> ZipArchive:
    """Open the archive; when it is cut short, say how long it should be at least."""
    try:
        return ZipArchive(file, size, limits)
    except DataError as error:
        expected = _bytes_promised(file, size, limits)
        if expected <= size:
            raise
        raise DataError(
            f"the file is incomplete: {size} of at least {expected} bytes", "Download or copy it again."
        ) from error


def _bytes_promised(file: BinaryIO, size: int, limits: Limits) -> int:
    """Sum of the storages that the first record, the pickle, speaks of; 0 when it cannot be read."""
    sizes: dict[str, int] = {}

    def note(persistent_id: Any) -> Any:
        storage = storage_of(persistent_id)
        if isinstance(storage, Storage):
            sizes[storage.key] = storage.nbytes
        return storage

    file.seek(0)
    header = file.read(30)
    if len(header) < 30 or header[8:10] != b"\0\0":
        return 0
    start = 30 + sum(struct.unpack("<26xHH", header))
    if start >= size:
        return 0
    file.seek(start)
    with contextlib.suppress(DataError):
        interpret(Source(file, size - start), note, limits)
    return sum(sizes.values())
