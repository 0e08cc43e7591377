"""List files ("relative/path label" per line) and CSV tables, read strictly; imports no torch."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np

from ltk.data.base import IntArray
from ltk.errors import DataError, UnsafeError, UsageError
from ltk.files import read_bytes

_LINE = re.compile(r"(\S(?:.*\S)?)[ \t]+([0-9]{1,7})")  # the label is the last field: paths may hold blanks
_SHOWN = 5


@dataclass(frozen=True)
class ImageList:
    """The content of a list file.

    Attributes:
        names: relative paths, with "/".
        labels_N: int64 labels, from 0.
    """

    names: list[str]
    labels_N: IntArray


def read_text(path: Path) -> str:
    """Return the text of a file, without a byte order mark.

    Raises:
        DataError: the file is missing, empty or not UTF-8 text.
    """
    try:
        data = read_bytes(path)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}", "Check the path.") from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text (byte {error.start})", "Is this the right file?") from error
    if "\0" in text:
        raise DataError(f"{path} is a binary file, not a list", "Is this the right file?")
    if not text.strip():
        raise DataError(f"{path} is empty", "A list has one line per image: relative/path label")
    return text


def parse_list(path: Path, num_classes: int | None = None, *, allow_outside: bool = False) -> ImageList:
    """Read a list file.

    Accepted: UTF-8 with or without byte order mark, LF or CRLF, blank lines, blanks in paths, blank or tab before the
    label, no newline at the end.

    Args:
        path: the list.
        num_classes: K, when it is known: labels are 0..K-1.
        allow_outside: accept absolute paths and "..".

    Raises:
        DataError: not such a file; the lines at fault are shown.
        UnsafeError: a path that leads out of the data root.
    """
    names: list[str] = []
    labels: list[int] = []
    faults: list[str] = []
    for number, raw in enumerate(read_text(path).split("\n"), start=1):
        line = raw.strip(" \t\r")
        if not line:
            continue
        match = _LINE.fullmatch(line)
        if not match:
            faults.append(f"{path}:{number}: no label 0, 1, ... at the end: {_escape(line)}")
        elif num_classes is not None and int(match[2]) >= num_classes:
            faults.append(f"{path}:{number}: label {match[2]} is not below {num_classes}: {_escape(line)}")
        else:
            names.append(match[1])
            labels.append(int(match[2]))
    if faults:
        raise DataError(_gather(faults), "Each line is: relative/path label")
    return ImageList(check_names(names, path, allow_outside=allow_outside), np.array(labels, dtype=np.int64))


def _escape(line: str) -> str:
    return repr(line[:200])[1:-1] + ("..." if len(line) > 200 else "")


def show_names(names: Sequence[str], most: int = _SHOWN) -> str:
    """Return the first few names in one line, with what cannot be printed escaped."""
    return ", ".join(map(_escape, names[:most])) + (", ..." if len(names) > most else "")


def _gather(faults: Sequence[str]) -> str:
    rest = f"\n  ... and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
    return "\n  ".join(faults[:_SHOWN]) + rest


def check_names(names: list[str], path: Path, *, allow_outside: bool = False) -> list[str]:
    """Return ``names`` when they all stay below the data root.

    Raises:
        UnsafeError: an absolute path or one with "..".
    """
    if not allow_outside:
        outside = [name for name in names if _leads_out(name)]
        if outside:
            raise UnsafeError(
                f"{path}: {len(outside)} paths lead out of the data root, first: {_escape(outside[0])}",
                "Use paths relative to the root, or --allow-outside if that is intended.",
            )
    return names


def _leads_out(name: str) -> bool:
    if not (name.startswith(("/", "\\")) or ".." in name or ":" in name[:3]):
        return False
    return (
        PurePosixPath(name).is_absolute()
        or ".." in name.replace("\\", "/").split("/")
        or (PureWindowsPath(name).anchor != "")
    )


def check_labels(labels_N: IntArray, path: Path) -> int:
    """Return K, one more than the largest label.

    Raises:
        DataError: a label below K has no image.
    """
    counts = np.bincount(labels_N)
    holes = np.flatnonzero(counts == 0)
    if len(holes):
        raise DataError(
            f"{path}: {len(holes)} labels below {len(counts)} have no image: {', '.join(map(str, holes[:10]))}",
            "Number the classes 0, 1, 2, ... without gaps.",
        )
    return len(counts)


def derive_class_names(names: Sequence[str], labels_N: IntArray) -> tuple[str, ...]:
    """Return the folders of the images as class names where each class has one of its own, else the labels."""
    folders: dict[int, str] = {}
    for name, label in zip(names, labels_N.tolist(), strict=True):
        if folders.setdefault(label, name.rpartition("/")[0]) != name.rpartition("/")[0]:
            break
    else:
        common = [str(folders[label]) for label in range(len(folders))]
        if len(set(common)) == len(common) and "" not in common:
            return _strip_common(common)
    return tuple(str(label) for label in range(int(labels_N.max()) + 1))


def _strip_common(folders: Sequence[str]) -> tuple[str, ...]:
    parts = [folder.split("/") for folder in folders]
    while len(parts) > 1 and all(len(p) > 1 and p[0] == parts[0][0] for p in parts):
        parts = [p[1:] for p in parts]
    return tuple("/".join(p) for p in parts)


@dataclass(frozen=True)
class ImageTable:
    """The content of a CSV table.

    Attributes:
        names: relative paths, with "/".
        class_names: distinct labels; in order of number when all are whole numbers, else sorted.
        labels_N: int64 positions in ``class_names``.
        lots: what belongs together (a lot, an animal, a patient), per image, its own path where the cell is blank; None
            without such a column.
        splits: "train", "val" or "test", per image; None without such a column.
    """

    names: list[str]
    class_names: tuple[str, ...]
    labels_N: IntArray
    lots: list[str] | None
    splits: list[str] | None

    def take(self, indices: Sequence[int]) -> ImageTable:
        """Return some of the rows; the classes stay."""
        return replace(
            self,
            names=[self.names[i] for i in indices],
            labels_N=self.labels_N[np.asarray(indices, dtype=np.int64)],
            lots=self.lots and [self.lots[i] for i in indices],
            splits=self.splits and [self.splits[i] for i in indices],
        )


def parse_table(path: Path, *, group_col: str = "group", allow_outside: bool = False) -> ImageTable:
    """Read a CSV file with a header: path, label and optionally a group column and split.

    Args:
        path: the table.
        group_col: name of the column that says what belongs together.
        allow_outside: accept absolute paths and "..".

    Raises:
        DataError: not such a table, or it has one of these columns twice; the lines at fault are shown.
        UsageError: ``group_col`` was given and is not a column.
        UnsafeError: a path that leads out of the data root.
    """
    reader = csv.DictReader(io.StringIO(read_text(path), newline=""), skipinitialspace=True, strict=True)
    try:
        columns = _name_columns(path, reader.fieldnames or (), {"path", "label", "split", group_col.lower()})
        rows = [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        raise DataError(f"{path}:{reader.line_num}: {error}", "Quote fields that hold a comma.") from error
    if not {"path", "label"} <= columns.keys():
        found = ",".join(reader.fieldnames or ())
        separator = next((f", with commas and not {each!r} between" for each in ";\t|" if each in found), "")
        raise DataError(
            f"{path} has no columns 'path' and 'label', its first line is: {_escape(found)}",
            f"The first line must be: path,label[,group,split]{separator}",
        )
    if group_col != "group" and group_col.lower() not in columns:
        raise UsageError(f"{path} has no column {group_col!r}", f"It has: {', '.join(columns)}.")
    values = {key: [(row[column] or "").strip() for _, row in rows] for key, column in columns.items() if column}
    _check_rows(path, rows, values)
    class_names = _order_classes(values["label"])
    position = {name: label for label, name in enumerate(class_names)}
    lots = values.get(group_col.lower())
    return ImageTable(
        names=check_names(values["path"], path, allow_outside=allow_outside),
        class_names=class_names,
        labels_N=np.array([position[label] for label in values["label"]], dtype=np.int64),
        lots=lots and [lot or name for lot, name in zip(lots, values["path"], strict=True)],
        splits=[split.lower() for split in values["split"]] if "split" in values else None,
    )


def _name_columns(path: Path, titles: Sequence[str], read: set[str]) -> dict[str, str]:
    """Return the titles by their names, of which those that are read must be unique."""
    times = Counter(title.strip().lower() for title in titles)
    twice = sorted(name for name in read if times[name] > 1)
    if twice:
        raise DataError(f"{path}: column {twice[0]!r} is there {times[twice[0]]} times", "Rename or remove the others.")
    return {title.strip().lower(): title for title in titles}


def _check_rows(path: Path, rows: Iterable[tuple[int, Mapping[str, str]]], values: Mapping[str, list[str]]) -> None:
    faults = []
    splits = values.get("split") or ["train"] * len(values["path"])
    for (number, row), name, label, split in zip(rows, values["path"], values["label"], splits, strict=True):
        if not name or not label or None in row:
            faults.append(f"{path}:{number}: a path and a label are needed: {_escape(str(list(row.values())))}")
        elif split.lower() not in ("train", "val", "test"):
            faults.append(f"{path}:{number}: split {_escape(split)!r} is not train, val or test")
    if faults or not values["path"]:
        raise DataError(_gather(faults) if faults else f"{path} has no rows", "Each row is: path,label[,group,split]")


def _order_classes(labels: Sequence[str]) -> tuple[str, ...]:
    distinct = set(labels)
    if all(re.fullmatch("[0-9]{1,7}", label) for label in distinct):
        return tuple(sorted(distinct, key=int))
    return tuple(sorted(distinct))
