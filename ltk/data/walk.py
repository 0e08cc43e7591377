"""Which files of a folder are images: those of any depth, behind links, and not hidden; imports no torch."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from ltk.data.base import count_of
from ltk.data.links import check_link, link_to_above
from ltk.data.listfile import show_names

SUFFIXES = (
    ".jpg",
    ".jpeg",
    ".jfif",
    ".png",
    ".ppm",
    ".pgm",
    ".bmp",
    ".tif",
    ".tiff",
    ".webp",
    ".gif",
    ".avif",
    ".jp2",
)
_SIDECARS = ("", ".txt", ".json", ".csv", ".md", ".xml", ".db", ".ini")  # beside images, and expected to be no images
_SYSTEM = ("__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found")


def walk_images(
    root: Path, relative: str, *, allow_outside: bool, others: Counter[str], above: tuple[tuple[int, int], ...] = ()
) -> Iterator[str]:
    """Yield the images below a folder, at any depth and behind links, relative to ``root``.

    Args:
        root: the data set's folder.
        relative: the folder, relative to ``root``.
        allow_outside: accept links that lead out of ``root``.
        others: endings of other files are counted here.
        above: device and inode of the folders passed on the way.

    Raises:
        DataError: a link leads to a folder it lies in, itself or over other links.
        UnsafeError: a link leads out of ``root``.
    """
    status = (root / relative).stat()
    above = (*above, (status.st_dev, status.st_ino))
    if above[-1] in above[:-1]:
        raise link_to_above(relative)
    for entry in scan(root / relative):
        path = f"{relative}/{entry.name}"
        if entry.is_symlink():
            check_link(root, path, allow_outside=allow_outside)
        if is_folder(entry):
            yield from walk_images(root, path, allow_outside=allow_outside, others=others, above=above)
        elif entry.name.lower().endswith(SUFFIXES):
            yield path
        elif (suffix := Path(entry.name).suffix.lower()) not in _SIDECARS:
            others[suffix] += 1


def describe_others(others: Counter[str]) -> str:
    """Return the note on files that are left out, from their counted endings."""
    named = show_names([f"{n} {suffix}" for suffix, n in others.most_common()])
    return f"{count_of(others.total(), 'file')} of kinds that ltk does not read, left out: {named}"


def scan(folder: Path) -> list[os.DirEntry[str]]:
    """Return what a folder holds, without what is hidden.

    What systems and archivers leave begins with a dot, as ``._image.jpg`` does, or has a name of its own.
    """
    with os.scandir(folder) as entries:
        return [entry for entry in entries if not entry.name.startswith(".") and entry.name not in _SYSTEM]


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder, or a link to one."""
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False
