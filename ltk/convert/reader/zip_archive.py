"""The zip archives that torch.save writes, read strictly: one root, no overlaps, no duplicates, every checksum.

Format: PKWARE APPNOTE 6.3. Python's zipfile is more forgiving than is good here (it accepts overlapping and duplicate
records, and data before the archive).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from ltk.convert.reader.limits import LIMITS, Limits
from ltk.convert.reader.source import CHUNK, stream_span
from ltk.errors import DataError, UnsafeError

_LOCAL, _CENTRAL, _END, _END64, _LOCATOR64 = (struct.pack("<I", n) for n in (0x04034B50, 0x02014B50, 0x06054B50,
                                                                            0x06064B50, 0x07064B50))  # fmt: skip
_STORED, _DEFLATED = 0, 8
_UNKNOWN = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Record:
    """One file of the archive.

    Attributes:
        name: with the root folder.
        method: 0 stored, 8 deflated.
        crc: CRC-32 of the content; 0 on a non-empty record means that none was computed.
        packed: bytes in the archive.
        size: bytes unpacked.
        offset: where its local header stands.
    """

    name: str
    method: int
    crc: int
    packed: int
    size: int
    offset: int


def _damaged(what: str) -> DataError:
    return DataError(f"damaged archive: {what}", "Download or copy the file again.")


class ZipArchive:
    """The records of a zip file, by name.

    Args:
        file: readable and seekable.
        size: its length in bytes.
        limits: bounds.

    Attributes:
        records: by full name.
        trailing: bytes after the end of the archive.

    Raises:
        DataError: damaged or cut short.
        UnsafeError: built to deceive, or beyond the limits.
    """

    def __init__(self, file: BinaryIO, size: int, limits: Limits = LIMITS) -> None:
        self.file, self.size = file, size
        end, count, start, length = self._find_directory()
        if count > limits.entries:
            raise UnsafeError(f"the archive claims {count} records")
        if start + length > end or length > limits.pickle_bytes:
            raise _damaged("its directory lies outside the file")
        if start + length < end:
            raise UnsafeError("the file has bytes that belong to no record")
        records = list(self._read_directory(self._read(start, length), count))
        self.records = {record.name: record for record in records}
        if len(self.records) != len(records):
            raise UnsafeError("the archive holds two records of one name")
        self._check_layout(sorted(records, key=lambda record: record.offset), start)
        total = sum(record.size for record in records)
        if total > limits.unpacked(size):
            raise UnsafeError(f"{size} bytes would unpack to {total} (a zip bomb?)")

    def _read(self, offset: int, length: int) -> bytes:
        self.file.seek(offset)
        data = self.file.read(length)
        if len(data) != length:
            raise _damaged("the file became shorter while it was read")
        return data

    def _find_directory(self) -> tuple[int, int, int, int]:
        """Position of the end record (zip64 if there is one), number of records, start and length of the directory."""
        reach = min(self.size, 22 + 0xFFFF)
        tail = self._read(self.size - reach, reach)
        at = tail.rfind(_END)
        if at < 0 or at + 22 > len(tail):
            raise _damaged("it has no directory")
        end = self.size - reach + at
        count, length, start, comment = struct.unpack("<6xHIIH", tail[at + 4 : at + 22])
        self.trailing = self.size - end - 22 - comment
        if self.trailing < 0:
            raise _damaged("its end is cut off")
        locator = self._read(end - 20, 20) if end >= 20 else b""
        if not locator.startswith(_LOCATOR64):
            return end, count, start, length
        (position,) = struct.unpack("<8xQ4x", locator)
        wide = self._find_directory64(position, end)
        narrow = zip((count, start, length), (0xFFFF, _UNKNOWN, _UNKNOWN), wide[1:], strict=True)
        if any(number not in (unknown, exact) for number, unknown, exact in narrow):
            raise UnsafeError("the archive's directory is described in two ways")
        return wide

    def _find_directory64(self, position: int, end: int) -> tuple[int, int, int, int]:
        record = self._read(position, 56) if position + 56 <= end else b""
        if not record.startswith(_END64):
            raise _damaged("its zip64 directory is missing")
        count, length, start = struct.unpack("<32xQQQ", record)
        return position, count, start, length

    def _read_directory(self, data: bytes, count: int) -> Iterator[Record]:
        at = 0
        for _ in range(count):
            fixed = data[at : at + 46]
            if len(fixed) != 46 or not fixed.startswith(_CENTRAL):
                raise _damaged("its directory is cut short")
            flags, method, crc, packed, size, *lengths, offset = struct.unpack("<8xHH4xIIIHHH8xI", fixed)
            name_length, extra_length, comment_length = lengths
            name = data[at + 46 : at + 46 + name_length].decode("utf-8", "surrogateescape")
            extra = data[at + 46 + name_length : at + 46 + name_length + extra_length]
            at += 46 + name_length + extra_length + comment_length
            size, packed, offset = _wide(extra, size, packed, offset)
            self._check_record(name, flags, method)
            yield Record(name, method, crc, packed, size, offset)
        if at != len(data):
            raise _damaged("its directory has more than it declares")

    @staticmethod
    def _check_record(name: str, flags: int, method: int) -> None:
        if flags & 1:
            raise UnsafeError("the archive claims to be encrypted")
        if method not in (_STORED, _DEFLATED):
            raise DataError(f"the archive uses an unsupported compression ({method})")
        parts = name.replace("\\", "/").split("/")
        if name.startswith(("/", "\\")) or ".." in parts or ":" in parts[0] or "\0" in name:
            raise UnsafeError(f"the archive holds a path that leads out of it: {name[:80]!r}")

    def _check_layout(self, records: list[Record], directory: int) -> None:
        """Records follow each other from the first byte on; none overlaps another."""
        if not records or records[0].offset != 0:
            raise UnsafeError("the file has bytes before its archive")
        for record, following in zip(records, [*(r.offset for r in records[1:]), directory], strict=True):
            if record.method == _STORED and record.packed != record.size:
                raise _damaged(f"record {record.name[:80]!r} has two sizes")
            if self._content(record) + record.packed > following:
                raise UnsafeError(f"record {record.name[:80]!r} overlaps another one")

    def stream(self, record: Record) -> Iterator[bytes]:
        """Yield the content in pieces of at most one MiB; the checksum is compared at the end.

        Raises:
            DataError: the content is not what the directory says.
        """
        position = self._content(record)
        crc = count = 0
        for piece in self._unpack(record, position):
            count += len(piece)
            if count > record.size:
                raise UnsafeError(f"record {record.name[:80]!r} unpacks to more than it declares")
            crc = zlib.crc32(piece, crc)
            yield piece
        if count != record.size:
            raise _damaged(f"record {record.name[:80]!r} has {count} of {record.size} bytes")
        if record.crc and crc != record.crc:
            raise _damaged(f"record {record.name[:80]!r} does not match its checksum")

    def _content(self, record: Record) -> int:
        """Position of the content, after the local header."""
        header = self._read(record.offset, 30)
        flags, method, name_length, extra_length = struct.unpack("<6xHH16xHH", header)
        name = self._read(record.offset + 30, name_length).decode("utf-8", "surrogateescape")
        if not header.startswith(_LOCAL):
            raise _damaged(f"record {record.name[:80]!r} is not where the directory says")
        if name != record.name or method != record.method or flags & 1:
            raise UnsafeError(f"record {record.name[:80]!r} is described in two ways")
        return record.offset + 30 + name_length + extra_length

    def _unpack(self, record: Record, position: int) -> Iterator[bytes]:
        inflater = zlib.decompressobj(-15) if record.method == _DEFLATED else None
        for data in stream_span(self.file, position, record.packed):
            if inflater is None:
                yield data
                continue
            try:
                while data:
                    yield inflater.decompress(data, CHUNK)
                    data = inflater.unconsumed_tail
            except zlib.error as error:
                raise _damaged(f"record {record.name[:80]!r} does not unpack") from error
        if inflater is not None:
            yield inflater.flush()


def _wide(extra: bytes, *numbers: int) -> list[int]:
    """Replace numbers that do not fit 32 bits by those of the zip64 field."""
    at, wide = 0, b""
    while at + 4 <= len(extra):
        kind, length = struct.unpack("<HH", extra[at : at + 4])
        if kind == 1:
            wide = extra[at + 4 : at + 4 + length]
        at += 4 + length
    result = []
    for number in numbers:
        if number == _UNKNOWN:
            if len(wide) < 8:
                raise _damaged("a record without its size")
            number, wide = struct.unpack("<Q", wide[:8])[0], wide[8:]
        result.append(number)
    return result
