"""SHA-256 of image files, in the format of ``sha256sum``: rotten bits in a JPEG decode without complaint."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ltk.data.base import Split, count_of
from ltk.data.duplicates import Finding, Scan
from ltk.data.files import FileSplit
from ltk.errors import DataError
from ltk.files import open_file, read_bytes, write_atomically

_LINE = re.compile(rb"(\\?)([0-9a-f]{64}) [ *](.+)")
_ESCAPES = {b"\\": rb"\\", b"\n": rb"\n", b"\r": rb"\r"}
_LETTERS = {escape: letter for letter, escape in _ESCAPES.items()}


def check_checksums(splits: Mapping[str, Split], scans: Mapping[str, Scan], path: Path) -> Iterable[Finding]:
    """Compare the image files that can be read with their checksums; write these when ``path`` does not exist.

    Args:
        splits: the images; those that are no files of their own are left out.
        scans: which of them cannot be read.
        path: the checksums; ``sha256sum --check`` in the images' folder reads them too.

    Raises:
        DataError: ``path`` is something else.
    """
    known = read_checksums(path) if path.exists() else None
    digests = _hash_files(splits, scans)
    if known is None:
        write_checksums(path, digests)
        yield Finding("ok", f"wrote the checksums of {count_of(len(digests), 'image')} to {path}")
        return
    changed = tuple(name for name, digest in digests.items() if known.get(name, digest) != digest)
    added = tuple(name for name in digests if name not in known)
    gone = tuple(name for name in known if name not in digests)
    if changed:
        yield Finding("error", f"{count_of(len(changed), 'image')} changed since {path} was written", changed)
    if added:
        yield Finding("warning", f"{count_of(len(added), 'image')} not in {path}", added)
    if gone:
        yield Finding("error", f"{count_of(len(gone), 'image')} of {path} not there, or not readable", gone)
    if not (changed or added or gone):
        yield Finding("ok", f"checksums of {count_of(len(digests), 'image')} agree with {path}")


def write_checksums(path: Path, digests: Mapping[str, str]) -> None:
    """Write names and hexadecimal digests; see ``open_atomic``."""
    write_atomically(path, b"".join(_format(digest, os.fsencode(name)) for name, digest in digests.items()))


def read_checksums(path: Path) -> dict[str, str]:
    """Return hexadecimal digests by name.

    Raises:
        DataError: not readable, or a line is none of ``sha256sum``.
    """
    try:
        lines = read_bytes(path).split(b"\n")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    found = {}
    for number, line in enumerate(lines, 1):
        match = _LINE.fullmatch(line)
        if match:
            escaped, digest, name = match.groups()
            found[os.fsdecode(_unescape(name) if escaped else name)] = digest.decode()
        elif line:
            raise DataError(f"{path}:{number}: no checksum and name", "The format is that of sha256sum.")
    return found


def _format(digest: str, name: bytes) -> bytes:
    escaped = re.sub(rb"[\\\n\r]", lambda match: _ESCAPES[match[0]], name)
    return (b"\\" if escaped != name else b"") + digest.encode() + b"  " + escaped + b"\n"


def _unescape(name: bytes) -> bytes:
    return re.sub(rb"\\[\\nr]", lambda match: _LETTERS[match[0]], name)


def _hash_files(splits: Mapping[str, Split], scans: Mapping[str, Scan]) -> dict[str, str]:
    files: dict[str, str] = {}
    images = {name: split for name, split in splits.items() if isinstance(split, FileSplit)}
    base = os.path.commonpath([Path(split.root).resolve() for split in images.values()]) if images else ""
    for name, split in images.items():
        broken = {i for i, _ in scans[name].faults}  # among them pipes, which must not be opened
        paths = (split.path(i) for i in range(len(split)) if i not in broken)
        files |= {os.path.relpath(path, base): path for path in paths}
    with ThreadPoolExecutor() as pool:
        return dict(zip(files, pool.map(_hash_file, files.values()), strict=True))


def _hash_file(path: str) -> str:
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
