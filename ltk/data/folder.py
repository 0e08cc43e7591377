"""The user's own images: folders of classes, with train/ and test/ or val/, or one folder that ltk splits."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ltk.data.base import Source, count_of
from ltk.data.class_names import check_class_names
from ltk.data.files import FileSplit, create_file_source
from ltk.data.leaks import note_torn_lots
from ltk.data.links import check_link
from ltk.data.listfile import show_names
from ltk.data.split_folders import find_split_folders
from ltk.data.tail_split import draw_test, match_lots, refuse_draw
from ltk.data.walk import SUFFIXES, describe_others, is_folder, scan, walk_images
from ltk.errors import DataError, EnvironmentFault


@dataclass(frozen=True)
class Listing:
    """The images of one folder of classes.

    Attributes:
        class_names: names of the class folders, sorted.
        names: image paths relative to the root given to ``list_classes``, class after class, sorted.
        labels: class of each image.
        notes: what was left out.
    """

    class_names: tuple[str, ...]
    names: list[str]
    labels: list[int]
    notes: tuple[str, ...]


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
    inside = sorted(entry.name for entry in scan(parent))[:8]
    raise DataError(f"no folder {path}", f"{parent} holds: {', '.join(inside) or 'nothing'}")


def list_classes(root: Path, part: str = "", *, allow_outside: bool = False) -> Listing:
    """List the images below ``root/part``: each folder there is a class, images lie at any depth below it.

    Args:
        root: the data set's folder.
        part: "train", "test", ... or "" for ``root`` itself.
        allow_outside: accept links that lead out of ``root``.

    Raises:
        DataError: no classes, classes without images, or classes whose names are not text.
        UnsafeError: a link leads out of ``root``.
    """
    folder = root / part
    check_folder(folder)
    if part and folder.is_symlink():
        check_link(root, part, allow_outside=allow_outside)
    entries = scan(folder)
    classes = sorted(entry.name for entry in entries if is_folder(entry))
    check_class_names(folder, classes)
    names: list[str] = []
    labels: list[int] = []
    others: Counter[str] = Counter()
    links = {entry.name for entry in entries if entry.is_symlink()}
    for label, name in enumerate(classes):
        path = f"{part}/{name}" if part else name
        if name in links:
            check_link(root, path, allow_outside=allow_outside)
        own = sorted(walk_images(root, path, allow_outside=allow_outside, others=others))
        names += own
        labels += [label] * len(own)
    files = {entry.name for entry in entries} - set(classes)
    notes = _note_left_out(part, sorted(name for name in files if name.lower().endswith(SUFFIXES)), others)
    _check_filled(folder, classes, labels, notes)
    return Listing(tuple(classes), names, labels, notes)


def _note_left_out(part: str, beside: Sequence[str], others: Counter[str]) -> tuple[str, ...]:
    notes = []
    where = f"{part}: " if part else ""
    if beside:
        count = count_of(len(beside), "image")
        notes.append(f"{where}{count} beside the class folders, in no class and left out: {show_names(beside)}")
    if others:
        notes.append(where + describe_others(others))
    return tuple(notes)


def _check_filled(folder: Path, classes: Sequence[str], labels: Sequence[int], notes: Sequence[str]) -> None:
    if not labels:
        hint = "; ".join(notes) or "Put each class in a folder of its own."
        raise DataError(f"{folder} holds no folders with images", hint)
    filled = set(labels)
    empty = [name for label, name in enumerate(classes) if label not in filled]
    if empty:
        raise DataError(
            f"no images in {count_of(len(empty), 'class folder')} of {folder}: {', '.join(empty[:10])}",
            f"Remove them, or check the file types ({' '.join(SUFFIXES)}).",
        )


def open_folder(
    name: str,
    root: Path,
    *,
    test: float | None = None,
    min_per_class: int | None = None,
    seed: int | None = None,
    group_regex: str | None = None,
    allow_outside: bool = False,
) -> Source:
    """Open a folder of images.

    With ``root/train`` the other splits are ``root/test`` and ``root/val`` (a lone ``val`` is the test set, as in
    ImageNet). Otherwise ``root`` is one folder of classes, whose test split is drawn here (see ``draw_test``).

    Args:
        name: what to call the source.
        root: the folder.
        test: share of each class (or number of images, from 1) for the test split that ltk draws; 0.2 when None.
        min_per_class: least images of a class in train and the drawn test split; classes too small for that are named
            in the notes; 3 when None.
        seed: of the drawn test split; 0 when None.
        group_regex: images of one lot, animal or patient stay on one side; the first parenthesis of this pattern finds
            it in the path below ``root``, or below ``root/train`` and so on.
        allow_outside: accept links that lead out of ``root``.

    Raises:
        DataError: no images, classes that differ between the splits, or folders that are splits in another spelling.
        UnsafeError: a link leads out of ``root``.
        UsageError: numbers out of range, a bad pattern, or options of a drawn split where there is a test folder.
    """
    check_folder(root)
    present, beside = find_split_folders(root)
    if present:
        refuse_draw(
            f"{root} has a test split of its own, {present[1]}/", test=test, min_per_class=min_per_class, seed=seed
        )
        parts, class_names, notes = _open_parts(root, present, group_regex, allow_outside)
        return create_file_source(name, class_names, parts, beside + notes)
    listing = list_classes(root, allow_outside=allow_outside)
    lots = match_lots(listing.names, group_regex) if group_regex else None
    labels_N = np.array(listing.labels)
    indices, notes = draw_test(
        labels_N, listing.class_names, test=test, min_per_class=min_per_class, seed=seed, lots=lots
    )
    parts = {}
    for split, own in indices.items():
        parts[split] = FileSplit(root, [listing.names[i] for i in own], labels_N[own])
        parts[split].lots = lots and [lots[i] for i in own]
    return create_file_source(name, listing.class_names, parts, listing.notes + notes)


def _open_parts(
    root: Path, present: Sequence[str], group_regex: str | None, allow_outside: bool
) -> tuple[dict[str, FileSplit], tuple[str, ...], tuple[str, ...]]:
    listings = {part: list_classes(root, part, allow_outside=allow_outside) for part in present}
    class_names = listings["train"].class_names
    label_of = {name: label for label, name in enumerate(class_names)}
    parts: dict[str, FileSplit] = {}
    notes: list[str] = []
    for part, listing in listings.items():
        split = "test" if part == "val" and "test" not in present else part
        notes += [*listing.notes, *_compare_classes(root, split, listing.class_names, class_names)]
        to_label = np.array([label_of[n] for n in listing.class_names])
        parts[split] = FileSplit(root, listing.names, to_label[listing.labels])
        if group_regex:
            parts[split].lots = match_lots([name.partition("/")[2] for name in listing.names], group_regex, part)
    notes += note_torn_lots({split: own.lots for split, own in parts.items()})
    return parts, class_names, tuple(notes)


def _compare_classes(root: Path, split: str, found: Sequence[str], class_names: Sequence[str]) -> Iterator[str]:
    unknown = sorted(set(found) - set(class_names))
    absent = sorted(set(class_names) - set(found))
    if unknown:
        raise DataError(
            f"{split} has {count_of(len(unknown), 'class')} not in {root / 'train'}: {', '.join(unknown[:10])}",
            "Every class needs training images; rename or remove these folders.",
        )
    if absent:
        yield f"{split} has no image of {count_of(len(absent), 'class')}: {', '.join(absent[:10])}"
