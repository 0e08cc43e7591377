"""The user's own images: folders of classes, with train/ and test/ or val/, or one folder that ltk splits."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ltk.data.base import Source, count_of
from ltk.data.files import FileSplit, create_file_source
from ltk.data.tail_split import match_lots, name_small_classes, split_tail_safe
from ltk.errors import DataError, EnvironmentFault, UnsafeError

SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".pgm", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".avif", ".jp2")


@dataclass(frozen=True)
class Listing:
    """The images of one folder of classes.

    Attributes:
        class_names: names of the class folders, sorted.
        names: image paths relative to the root given to ``list_classes``, class after class, sorted.
        labels: class of each image.
    """

    class_names: tuple[str, ...]
    names: list[str]
    labels: list[int]


def check_folder(path: Path) -> None:
    """Check that a folder is there and may be read.

    Raises:
        DataError: it is missing or is a file; the nearest folder that exists is shown.
        EnvironmentFault: no permission.
    """
    try:
        if path.is_dir():
            os.listdir(path)  # noqa: PTH208 - proves that it may be read
            return
    except PermissionError as error:
        raise EnvironmentFault(f"no permission to read {path}", "Check it with `ls -ld`.") from error
    if path.exists():
        raise DataError(f"{path} is a file, not a folder", "Give the folder that holds the images.")
    parent = next((p for p in path.absolute().parents if p.is_dir()), Path("/"))
    inside = sorted(entry.name for entry in _scan(parent))[:8]
    raise DataError(f"no folder {path}", f"{parent} holds: {', '.join(inside) or 'nothing'}")


def list_classes(root: Path, part: str = "", *, allow_outside: bool = False) -> Listing:
    """List the images below ``root/part``: each folder there is a class, images lie at any depth below it.

    Args:
        root: the data set's folder.
        part: "train", "test", ... or "" for ``root`` itself.
        allow_outside: accept links that lead out of ``root``.

    Raises:
        DataError: no classes, or classes without images.
        UnsafeError: a link leads out of ``root``.
    """
    folder = root / part
    check_folder(folder)
    classes = sorted(entry.name for entry in _scan(folder) if _is_folder(entry))
    _check_twins(folder, classes)
    names: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        own = sorted(_walk(root, f"{part}/{name}" if part else name, allow_outside))
        names += own
        labels += [label] * len(own)
    filled = set(labels)
    empty = [name for label, name in enumerate(classes) if label not in filled]
    if not names:
        raise DataError(f"{folder} holds no folders with images", "Put each class in a folder of its own.")
    if empty:
        raise DataError(
            f"{len(empty)} class folders in {folder} have no images: {', '.join(empty[:10])}",
            f"Remove them, or check the file types ({' '.join(SUFFIXES)}).",
        )
    return Listing(tuple(classes), names, labels)


def _check_twins(folder: Path, classes: list[str]) -> None:
    seen: dict[str, str] = {}
    for name in classes:
        twin = seen.setdefault(unicodedata.normalize("NFC", name).casefold(), name)
        if twin != name:
            raise DataError(
                f"{folder} has class folders {twin!r} and {name!r}, which differ only in letter case or in how accents"
                " are encoded",
                "Merge them or rename one.",
            )


def _walk(root: Path, relative: str, allow_outside: bool) -> Iterator[str]:
    for entry in _scan(root / relative):
        path = f"{relative}/{entry.name}"
        if entry.is_symlink():
            _check_link(root, path, allow_outside)
        if _is_folder(entry):
            yield from _walk(root, path, allow_outside)
        elif entry.name.lower().endswith(SUFFIXES):
            yield path


def _scan(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return [entry for entry in entries if not entry.name.startswith(".")]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _check_link(root: Path, relative: str, allow_outside: bool) -> None:
    try:
        target = (root / relative).resolve()
    except (OSError, RuntimeError):
        return  # a link to itself: reading it reports it
    if (root / relative).parent.resolve().is_relative_to(target):
        raise DataError(f"{relative} is a link to a folder it lies in", "Remove it.")
    if not allow_outside and not target.is_relative_to(root.resolve()):
        raise UnsafeError(f"{relative} is a link that leads out of {root}", "Use --allow-outside if that is intended.")


def open_folder(
    name: str,
    root: Path,
    *,
    test: float = 0.2,
    min_per_class: int = 3,
    seed: int = 0,
    group_regex: str | None = None,
    allow_outside: bool = False,
) -> Source:
    """Open a folder of images.

    With ``root/train`` the other splits are ``root/test`` and ``root/val`` (a lone ``val`` is the test set, as in
    ImageNet). Otherwise ``root`` is one folder of classes, whose test split is drawn here (see ``split_tail_safe``).

    Args:
        name: what to call the source.
        root: the folder.
        test: share of each class (or number of images, from 1) for the test split, when ltk draws it.
        min_per_class: least images of a class in each split; classes too small for that are named in the notes.
        seed: of the split.
        group_regex: images of one lot, animal or patient stay on one side; the first parenthesis of this pattern finds
            it in the path.
        allow_outside: accept links that lead out of ``root``.

    Raises:
        DataError: no images, or classes that differ between the splits.
        UnsafeError: a link leads out of ``root``.
        UsageError: numbers out of range or a bad pattern.
    """
    check_folder(root)
    if (root / "train").is_dir():
        parts, class_names, notes = _open_parts(root, allow_outside)
        return create_file_source(name, class_names, parts, notes)
    listing = list_classes(root, allow_outside=allow_outside)
    lots = match_lots(listing.names, group_regex) if group_regex else None
    labels_N = np.array(listing.labels)
    indices = split_tail_safe(
        labels_N,
        {"test": test},
        num_classes=len(listing.class_names),
        min_per_class=min_per_class,
        seed=seed,
        lots=lots,
    )
    notes = name_small_classes(labels_N, indices, min_per_class, listing.class_names)
    parts = {}
    for split, own in indices.items():
        parts[split] = FileSplit(root, [listing.names[i] for i in own], labels_N[own])
        parts[split].lots = lots and [lots[i] for i in own]
    return create_file_source(name, listing.class_names, parts, notes)


def _open_parts(root: Path, allow_outside: bool) -> tuple[dict[str, FileSplit], tuple[str, ...], tuple[str, ...]]:
    present = [part for part in ("test", "val") if (root / part).is_dir()]
    if not present:
        raise DataError(
            f"{root} has train/ but neither test/ nor val/", "Add one, or give one folder of classes to split."
        )
    listings = {part: list_classes(root, part, allow_outside=allow_outside) for part in ("train", *present)}
    if present == ["val"]:
        listings["test"] = listings.pop("val")
    class_names = listings["train"].class_names
    parts, notes = {}, []
    for part, listing in listings.items():
        unknown = sorted(set(listing.class_names) - set(class_names))
        absent = sorted(set(class_names) - set(listing.class_names))
        if unknown:
            raise DataError(
                f"{part} has {count_of(len(unknown), 'class')} not in {root / 'train'}: {', '.join(unknown[:10])}",
                "Every class needs training images; rename or remove these folders.",
            )
        if absent:
            notes.append(f"{part} has no image of {count_of(len(absent), 'class')}: {', '.join(absent[:10])}")
        to_label = np.array([class_names.index(n) for n in listing.class_names])
        parts[part] = FileSplit(root, listing.names, to_label[listing.labels])
    return parts, class_names, tuple(notes)
