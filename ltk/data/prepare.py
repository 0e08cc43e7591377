"""``ltk data prepare``: bring a data set to the data root, or say exactly what to place there; imports no torch."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ltk.data.catalogue import get_facts
from ltk.data.cifar import LAYOUTS
from ltk.data.download import Advance, download, hash_file, unpack
from ltk.data.official import find_list
from ltk.data.official_lists import OFFICIAL
from ltk.errors import BusyError, DataError
from ltk.files import disk_faults, try_lock

_ADDRESS = "https://www.cs.toronto.edu/~kriz/"


def prepare_cifar(name: str, root: Path, given: Path | None, advance: Advance = lambda had, total: None) -> Path:
    """Download (or take) the official archive, check it and unpack it under the data root.

    Args:
        name: "cifar10" or "cifar100".
        root: the data root.
        given: the archive, or a folder that holds it; None downloads it.
        advance: called with the bytes had and the bytes in all.

    Returns:
        The folder of the data set, whose files have the published checksums.

    Raises:
        DataError: not the official archive.
        BusyError: another process does the same.
        EnvironmentFault: no network, no space, no permission.
    """
    layout = LAYOUTS[name]
    folder = root / layout.folder
    if not folder.is_dir():
        archive = _find_archive(given, layout.archive) if given else root / layout.archive
        if archive.is_file() and (found := hash_file(archive)) != layout.md5:
            raise DataError(f"{archive} is not {layout.archive} (md5 {found}, not {layout.md5})", "Download it again.")
        with _alone_in(root):
            if not archive.is_file():
                download(_ADDRESS + layout.archive, archive, layout.md5, advance)
            if not folder.is_dir():  # another process may have been faster
                unpack(archive, root, layout.folder)
    wrong = check_files(folder, layout.files)
    if wrong:
        raise DataError(f"{folder}: {'; '.join(wrong)}", f"Delete {folder} and prepare again.")
    return folder


@contextlib.contextmanager
def _alone_in(root: Path) -> Iterator[None]:
    """Make a folder and lock it, so that two processes do not write the same files."""
    with disk_faults(root):
        root.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(root, os.O_RDONLY)
    try:
        if not try_lock(descriptor):
            raise BusyError(f"another process prepares data under {root}", "Wait for it.")
        yield
    finally:
        os.close(descriptor)


def _find_archive(given: Path, name: str) -> Path:
    archive = given / name if given.is_dir() else given
    if not archive.is_file():
        raise DataError(f"no file {archive}", f"Give {name} or the folder that holds it.")
    return archive


def check_files(folder: Path, md5: dict[str, str]) -> list[str]:
    """Return the files that are missing or have another checksum, with what is wrong."""
    wrong = []
    for name, expected in md5.items():
        if not (folder / name).is_file():
            wrong.append(f"{name} is missing")
        elif (found := hash_file(folder / name)) != expected:
            wrong.append(f"{name} is damaged (md5 {found}, not {expected})")
    return wrong


@dataclass(frozen=True)
class Step:
    """One thing to place under the data root.

    Attributes:
        what: file or folder.
        where: path under the data root.
        check: what it must be (lines, checksum).
        source: where to get it.
        present: whether it is there.
    """

    what: str
    where: Path
    check: str
    source: str
    present: bool


def plan_licensed(name: str, root: Path) -> list[Step]:
    """Return what the user has to place where for a data set that ltk may not download."""
    official, facts = OFFICIAL[name], get_facts(name)
    steps = []
    for archive, folders in official.archives.items():
        bases = [*(root / home for home in official.homes), root]
        places = [base / folder for base in bases for folder in folders]
        found = next((place for place in places if place.is_dir()), None)
        check = f"unpacked to {' or '.join(f'{folder}/' for folder in folders)}"
        steps.append(Step(archive, found or places[0], check, official.images_from, found is not None))
    for split, file in official.files.items():
        known = [md5 for md5, copy in official.md5.items() if copy.startswith(split)]
        check = f"{facts.images[split]:,} lines, md5 {' or '.join(known) or 'unknown (class counts are checked)'}"
        path = find_list(name, split, root)
        steps.append(Step(file, path or root / "lists" / file, check, official.lists_from, path is not None))
    return steps
