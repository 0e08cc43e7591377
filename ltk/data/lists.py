"""The user's own list files and CSV tables as sources."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ltk.data.base import IntArray, Source, count_of
from ltk.data.class_names import find_twins
from ltk.data.files import FileSplit, create_file_source
from ltk.data.folder import check_folder
from ltk.data.leaks import note_repeats, note_torn_lots
from ltk.data.links import find_files
from ltk.data.listfile import ImageList, check_labels, derive_class_names, parse_list, parse_table
from ltk.data.tail_split import draw_test, match_lots, refuse_draw
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
        allow_outside: accept paths and links that lead out of ``root``.
        skip_missing: leave out listed files that do not exist, and say so in the notes.

    Raises:
        DataError: a list or listed files are missing or wrong.
        UnsafeError: a path or a link leads out of ``root``.
    """
    check_folder(root)
    train = parse_list(Path(train_list), allow_outside=allow_outside)
    num_classes = check_labels(train.labels_N, Path(train_list))
    lists = {"train": train}
    for split, path in {"test": test_list, "val": val_list}.items():
        if path is not None:
            lists[split] = parse_list(Path(path), num_classes, allow_outside=allow_outside)
    class_names = derive_class_names(train.names, train.labels_N)
    splits, notes = open_listed(root, lists, skip_missing=skip_missing, allow_outside=allow_outside)
    notes += note_repeats({split: ImageList(list(kept.names), kept.labels_N) for split, kept in splits.items()})
    notes += note_absent(class_names, {split: kept.labels_N for split, kept in splits.items()})
    return create_file_source(name, class_names, splits, notes)


def open_csv(  # noqa: PLR0913 - the options of a source are its arguments
    name: str,
    root: Path,
    *,
    csv: Path,
    group_col: str = "group",
    group_regex: str | None = None,
    test: float | None = None,
    min_per_class: int | None = None,
    seed: int | None = None,
    allow_outside: bool = False,
    skip_missing: bool = False,
) -> Source:
    """Open images named by a CSV table with the columns path, label and optionally group and split.

    Without a split column the images are split here (see ``draw_test``).

    Args:
        name: what to call the source.
        root: folder that the paths are relative to.
        csv: the table.
        group_col: column that says what belongs together (a lot, an animal, a patient); a blank cell: nothing else.
        group_regex: take the group from the path instead: the first parenthesis of this pattern.
        test: share of each class (or number of images, from 1) for the test split that ltk draws; 0.2 when None.
        min_per_class: least images of a class in train and the drawn test split; classes too small for that are named
            in the notes; 3 when None.
        seed: of the drawn test split; 0 when None.
        allow_outside: accept paths and links that lead out of ``root``.
        skip_missing: leave out listed files that do not exist, and say so in the notes.

    Raises:
        DataError: the table or files in it are missing or wrong.
        UnsafeError: a path or a link leads out of ``root``.
        UsageError: a bad pattern or column, or options of a drawn split where there is a split column.
    """
    check_folder(root)
    table = parse_table(Path(csv), group_col=group_col, allow_outside=allow_outside)
    if table.splits is not None:
        refuse_draw(f"{csv} has a column of splits", test=test, min_per_class=min_per_class, seed=seed)
    kept, notes = _find_listed(root, table.names, "", skip_missing=skip_missing, allow_outside=allow_outside)
    table = table.take(kept)
    lots = match_lots(table.names, group_regex) if group_regex else table.lots
    require_all_classes(table.class_names, table.labels_N)
    if table.splits is None:
        indices, drawn = draw_test(
            table.labels_N, table.class_names, test=test, min_per_class=min_per_class, seed=seed, lots=lots
        )
        notes += drawn
    else:
        indices = _read_splits(table.splits, csv)
        notes += note_absent(table.class_names, {split: table.labels_N[own] for split, own in indices.items()})
    lists = {k: ImageList([table.names[i] for i in v], table.labels_N[v]) for k, v in indices.items()}
    splits = {split: FileSplit(root, content.names, content.labels_N) for split, content in lists.items()}
    for split, own in indices.items():
        splits[split].lots = lots and [lots[i] for i in own.tolist()]
    notes += note_torn_lots({split: own.lots for split, own in splits.items()}) + note_repeats(lists)
    notes += tuple(f"two classes are called {twins}" for twins in find_twins(table.class_names))
    return create_file_source(name, table.class_names, splits, notes)


def _read_splits(splits: Sequence[str], csv: Path) -> dict[str, IntArray]:
    given = np.array(splits)
    indices = {split: np.flatnonzero(given == split) for split in ("train", "test", "val") if split in splits}
    if not {"train", "test"} <= indices.keys():
        raise DataError(f"{csv}: the split column has no {'train' if 'train' not in indices else 'test'} rows")
    return indices


def open_listed(
    root: Path,
    lists: dict[str, ImageList],
    *,
    paths: dict[str, list[str]] | None = None,
    skip_missing: bool = False,
    allow_outside: bool = False,
) -> tuple[dict[str, FileSplit], tuple[str, ...]]:
    """Return splits of listed files after checking that every file exists, and notes on those left out.

    Args:
        root: folder that paths are relative to.
        lists: names and labels of each split.
        paths: where the images lie, per split; their names by default.
        skip_missing: leave out files that do not exist.
        allow_outside: accept links that lead out of ``root``.

    Raises:
        DataError: listed files are missing.
        UnsafeError: a link leads out of ``root``.
    """
    notes: tuple[str, ...] = ()
    splits = {}
    for split, content in lists.items():
        places = paths[split] if paths else content.names
        kept, left_out = _find_listed(root, places, f"{split} ", skip_missing=skip_missing, allow_outside=allow_outside)
        names = [content.names[i] for i in kept]
        splits[split] = FileSplit(root, [places[i] for i in kept], content.labels_N[kept], names=names)
        notes += left_out
    return splits, notes


def _find_listed(
    root: Path, places: Sequence[str], of: str, *, skip_missing: bool, allow_outside: bool
) -> tuple[list[int], tuple[str, ...]]:
    """Return the positions of the files that are there, and a note on those left out."""
    exists_N = find_files(root, places, allow_outside=allow_outside)
    absent = [places[i] for i in np.flatnonzero(~exists_N).tolist()]
    if absent and not (skip_missing and exists_N.any()):
        raise _missing(root, of, absent, len(places))
    notes = (f"{len(absent)} of {len(places)} {of}images are missing and left out",) if absent else ()
    return np.flatnonzero(exists_N).tolist(), notes


def _missing(root: Path, of: str, absent: Sequence[str], total: int) -> DataError:
    found = total - len(absent)
    return DataError(
        f"{found:,} of {total:,} listed {of}files found under {root}; missing:\n  " + "\n  ".join(absent[:5]),
        "Is this the right root?" if not found else "Fetch them, or leave them out with --skip-missing.",
    )


def require_all_classes(class_names: Sequence[str], labels_N: IntArray) -> None:
    """Check that there are training images of each class.

    Raises:
        DataError: there are none of some.
    """
    absent = _find_absent(class_names, labels_N)
    if absent:
        raise DataError(f"no training image of {count_of(len(absent), 'class')}: {', '.join(absent[:10])}")


def _find_absent(class_names: Sequence[str], labels_N: IntArray) -> list[str]:
    return [class_names[c] for c in np.flatnonzero(np.bincount(labels_N, minlength=len(class_names)) == 0).tolist()]


def note_absent(class_names: Sequence[str], labels: dict[str, IntArray]) -> tuple[str, ...]:
    """Return notes on classes that a held-out split has no image of.

    Raises:
        DataError: classes without training images.
    """
    notes = []
    for split, labels_N in labels.items():
        if split == "train":
            require_all_classes(class_names, labels_N)
        elif absent := _find_absent(class_names, labels_N):
            notes.append(f"{split} has no image of {count_of(len(absent), 'class')}: {', '.join(absent[:10])}")
    return tuple(notes)
