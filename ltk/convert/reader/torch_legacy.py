"""Checkpoints of torch < 1.6.

Five pickles in a row (magic number, version, machine, contents, storage keys), then the storages, each as its element
count and its bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, BinaryIO

from ltk.convert.reader.limits import LIMITS, Limits
from ltk.convert.reader.pickle_machine import interpret
from ltk.convert.reader.source import Source, stream_span
from ltk.convert.reader.storage import Storage, storage_of
from ltk.errors import DataError

_MAGIC = 0x1950A86A20F9469CFC6C
_VERSION = 1001


def _no_storages(_: Any) -> Any:
    raise DataError("damaged checkpoint: unexpected persistent id")


class TorchLegacy:
    """A checkpoint of torch < 1.6; attributes as ``TorchZip``. The format has no checksums."""

    def __init__(self, file: BinaryIO, size: int, limits: Limits = LIMITS) -> None:
        self.file, self.limits = file, limits
        self.source = Source(file, size)
        self.named: set[str] = set()
        self._declared: dict[str, Storage] = {}
        self._read_header()
        self.tree = self._run(self._note_storage)
        keys = self._run(_no_storages)
        self._places = self._locate(keys)
        self.warnings = ["a file of torch < 1.6 has no checksums: damage to its values cannot be seen"]

    def _run(self, persistent: Any) -> Any:
        result, named = interpret(self.source, persistent, self.limits)
        self.named |= named
        return result

    def _read_header(self) -> None:
        magic = self._run(_no_storages)
        if type(magic) is not int or magic != _MAGIC:
            raise DataError("a bare pickle, not a torch.save file", "Only files of torch.save are read.")
        if self._run(_no_storages) != _VERSION:
            raise DataError("a torch.save file of an unknown version")
        machine = self._run(_no_storages)
        if type(machine) is dict and machine.get("little_endian") is False:
            raise DataError("a big-endian checkpoint", "Load and save it again on an ordinary machine.")

    def _note_storage(self, persistent_id: Any) -> Any:
        storage = storage_of(persistent_id)
        if isinstance(storage, Storage):
            known = self._declared.setdefault(storage.key, storage)
            if (known.dtype, known.count) != (storage.dtype, storage.count):
                raise DataError(f"damaged checkpoint: storage {storage.key[:40]!r} is declared in two ways")
        return storage

    def _locate(self, keys: Any) -> dict[str, tuple[int, int]]:
        """Position and length of each storage, all of them inside the file."""
        if type(keys) is not list or not all(isinstance(key, str | int) for key in keys):
            raise DataError("damaged checkpoint: malformed list of storages")
        names = [str(key) for key in keys]
        if len(set(names)) != len(names) or not set(names) <= set(self._declared):
            raise DataError("damaged checkpoint: its storages and its contents do not fit")
        places = {}
        self._require(sum(self._declared[name].nbytes + 8 for name in names))
        for name in names:
            (count,) = struct.unpack("<q", self.source.take(8))
            storage = self._declared[name]
            if count != storage.count:
                raise DataError(f"damaged checkpoint: storage {name[:40]!r} has {count} elements, not {storage.count}")
            places[name] = (self.source.position, storage.nbytes)
            self._skip(storage.nbytes)
        if self.source.left:
            raise DataError(f"damaged checkpoint: {self.source.left} bytes after its end")
        return places

    def _require(self, count: int) -> None:
        if count > self.source.left:
            expected = self.source.position + count
            raise DataError(
                f"the file is incomplete: {self.source.size} of at least {expected} bytes", "Download or copy it again."
            )

    def _skip(self, count: int) -> None:
        self._require(count)
        self.file.seek(count, 1)
        self.source.left -= count

    def size_of(self, key: str) -> int:
        """Return how many bytes a storage has."""
        if key not in self._places:
            raise DataError(f"damaged checkpoint: the values of storage {key[:40]!r} are missing")
        return self._places[key][1]

    def stream(self, key: str) -> Iterator[bytes]:
        """Yield the bytes of a storage."""
        start, length = self._places[key]
        return stream_span(self.file, start, length)

    def check_rest(self, used: set[str]) -> None:
        """Nothing to check: the format has no checksums."""

    @property
    def total(self) -> int:
        """Bytes of all storages, and of the pickles before them, which hold arrays."""
        return self.source.size
