"""The user's own list files and CSV tables as sources."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ltk.data.base import IntArray, Source, count_of
from ltk.data.files import FileSplit, create_file_source
from ltk.data.folder import check_folder
from ltk.data.listfile import ImageList, check_labels, derive_class_names, parse_list, parse_table
from ltk.data.tail_split import match_lots, name_small_classes, split_tail_safe
from ltk.errors import DataError


def open_lists(
    name: str,
    root: Path,
    *,
    train_list: Path,
    test_list: Path,
    val_list: Path | None = None,
    allow_outside: bool = False,
    skip_missing: bool = False,
) -> Source:
    """Open images named by list files ("relative/path label").

    Args:
        name: what to call the source.
        root: folder that the paths are relative to.
        train_list: training images; its labels define the classes.
        test_list: test images.
        val_list: validation images.
        allow_outside: accept paths that lead out of ``root``.
        skip_missing: leave out listed files that do not exist, and say so in the notes.

    Raises:
        DataError: a list or listed files are missing or wrong.
        UnsafeError: a path leads out of ``root``.
    """
    check_folder(root)
    train = parse_list(Path(train_list), allow_outside=allow_outside)
    num_classes = check_labels(train.labels_N, Path(train_list))
    lists = {"train": train}
    for split, path in {"test": test_list, "val": val_list}.items():
        if path is not None:
            lists[split] = parse_list(Path(path), num_classes, allow_outside=allow_outside)
    class_names = derive_class_names(train.names, train.labels_N)
    splits, notes = open_listed(root, lists, skip_missing=skip_missing)
    notes += note_absent(class_names, {split: kept.labels_N for split, kept in splits.items()})
    return create_file_source(name, class_names, splits, notes)


def open_csv(
    name: str,
    root: Path,
    *,
    csv: Path,
    group_col: str = "group",
    group_regex: str | None = None,
    test: float = 0.2,
    min_per_class: int = 3,
) -> Source:
    """Open images named by a CSV table with the columns path, label and optionally group and split.

    Without a split column the images are split here (see ``split_tail_safe``).

    Args:
        name: what to call the source.
        root: folder that the paths are relative to.
        csv: the table.
        group_col: column that says what belongs together (a lot, an animal, a patient).
        group_regex: take the group from the path instead: the first parenthesis of this pattern.
        test: share of each class (or number of images, from 1) for the test split.
        min_per_class: least images of a class in each split; classes too small for that are named in the notes.

    Raises:
        DataError: the table or files in it are missing or wrong.
        UsageError: a bad pattern or column.
    """
    check_folder(root)
    table = parse_table(Path(csv), group_col=group_col)
    lots = match_lots(table.names, group_regex) if group_regex else table.lots
    if table.splits is None:
        held_out = {"test": test}
        num_classes = len(table.class_names)
        indices = split_tail_safe(
            table.labels_N, held_out, num_classes=num_classes, min_per_class=min_per_class, lots=lots
        )
        notes = name_small_classes(table.labels_N, indices, min_per_class, table.class_names)
    else:
        given = np.array(table.splits)
        indices = {split: np.flatnonzero(given == split) for split in ("train", "test", "val") if split in table.splits}
        if not {"train", "test"} <= indices.keys():
            raise DataError(f"{csv}: the split column has no {'train' if 'train' not in indices else 'test'} rows")
        notes = note_absent(table.class_names, {split: table.labels_N[own] for split, own in indices.items()})
        if lots is not None:
            notes += _note_leaks(lots, indices)
    lists = {k: ImageList([table.names[i] for i in v], table.labels_N[v]) for k, v in indices.items()}
    splits, _ = open_listed(root, lists)
    for split, own in indices.items():
        splits[split].lots = lots and [lots[i] for i in own.tolist()]
    return create_file_source(name, table.class_names, splits, notes)


def open_listed(
    root: Path,
    lists: dict[str, ImageList],
    *,
    paths: dict[str, list[str]] | None = None,
    skip_missing: bool = False,
) -> tuple[dict[str, FileSplit], tuple[str, ...]]:
    """Return splits of listed files after checking that every file exists, and notes on those left out.

    Args:
        root: folder that paths are relative to.
        lists: names and labels of each split.
        paths: where the images lie, per split; their names by default.
        skip_missing: leave out files that do not exist.

    Raises:
        DataError: listed files are missing.
    """
    notes: list[str] = []
    splits = {}
    for split, content in lists.items():
        places = paths[split] if paths else content.names
        exists_N = np.array([os.path.isfile(f"{root}/{place}") for place in places])  # noqa: PTH113
        absent = [places[i] for i in np.flatnonzero(~exists_N).tolist()]
        if absent and not (skip_missing and exists_N.any()):
            raise _missing(root, split, absent, len(content.names))
        if absent:
            notes.append(f"{len(absent)} of {len(content.names)} {split} images are missing and left out")
        kept = np.flatnonzero(exists_N).tolist()
        names = [content.names[i] for i in kept]
        splits[split] = FileSplit(root, [places[i] for i in kept], content.labels_N[kept], names=names)
    return splits, tuple(notes)


def _missing(root: Path, split: str, absent: Sequence[str], total: int) -> DataError:
    found = total - len(absent)
    return DataError(
        f"{found:,} of {total:,} listed {split} files found under {root}; missing:\n  " + "\n  ".join(absent[:5]),
        "Is this the right root?" if not found else "Fetch them, or leave them out with --skip-missing.",
    )


def note_absent(class_names: Sequence[str], labels: dict[str, IntArray]) -> tuple[str, ...]:
    """Return notes on classes that a held-out split has no image of.

    Raises:
        DataError: classes without training images.
    """
    notes = []
    for split, labels_N in labels.items():
        counts = np.bincount(labels_N, minlength=len(class_names))
        absent = [class_names[c] for c in np.flatnonzero(counts == 0).tolist()]
        if absent and split == "train":
            raise DataError(f"no training image of {count_of(len(absent), 'class')}: {', '.join(absent[:10])}")
        if absent:
            notes.append(f"{split} has no image of {count_of(len(absent), 'class')}: {', '.join(absent[:10])}")
    return tuple(notes)


def _note_leaks(lots: Sequence[str], indices: dict[str, IntArray]) -> tuple[str, ...]:
    sides = {split: {lots[i] for i in own.tolist()} for split, own in indices.items()}
    notes = []
    for split in sides.keys() - {"train"}:
        shared = sorted(sides["train"] & sides[split])
        if shared:
            notes.append(f"{len(shared)} groups are in both train and {split}: {', '.join(shared[:10])}")
    return tuple(sorted(notes))
