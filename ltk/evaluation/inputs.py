"""Small files a user hands to an evaluation: class shares, costs and groups, as CSV by class name."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from ltk.errors import DataError, unknown_name
from ltk.evaluation.metrics import FloatArray
from ltk.files import read_bytes


def read_rows(path: Path, fields: int) -> list[tuple[int, list[str]]]:
    """Return line numbers and stripped fields of a CSV file, blank lines left out.

    Raises:
        DataError: unreadable, or a line with another number of fields.
    """
    try:
        text = io.StringIO(read_bytes(path).decode("utf-8-sig"), newline="")
        rows = [(i, [cell.strip() for cell in row]) for i, row in enumerate(csv.reader(text), 1) if row]
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot read {path}: {error}") from error
    for line, row in rows:
        if len(row) != fields:
            raise DataError(f"{path}:{line}: {len(row)} fields, expected {fields}", "Separate them by commas.")
    return rows


def check_names(names: Iterable[str], class_names: Sequence[str], path: Path) -> None:
    """Check that every name is a class.

    Raises:
        DataError: one is not; the nearest names are in the hint.
    """
    for name in names:
        if name not in class_names:
            fault = unknown_name("class", name, class_names)
            raise DataError(f"{path}: {fault.message}", fault.hint)


def read_class_values(path: Path, class_names: Sequence[str], kind: str) -> dict[str, tuple[int, str]]:
    """Read ``class,value`` lines, one for every class.

    Args:
        path: the file.
        class_names: all classes.
        kind: what the value is, for messages.

    Returns:
        line number and value of each class.

    Raises:
        DataError: unreadable, a class missing, unknown or listed twice.
    """
    found: dict[str, tuple[int, str]] = {}
    for line, (name, value) in read_rows(path, 2):
        if name in found:
            hint = f"Give each class one {kind}."
            raise DataError(f"{path}:{line}: class {name!r} stands in line {found[name][0]} already", hint)
        found[name] = line, value
    check_names(found, class_names, path)
    missing = [name for name in class_names if name not in found]
    if missing:
        raise DataError(f"{path}: no {kind} for {', '.join(missing[:5])}", f"{len(missing)} classes are missing.")
    return found


def read_prior(path: Path, class_names: Sequence[str]) -> FloatArray:
    """Read ``class,share`` lines; shares need not sum to 1.

    Returns:
        prior_K that sums to 1.

    Raises:
        DataError: unreadable, a class missing or listed twice, or a share that is not a number of at least 0.
    """
    rows = read_class_values(path, class_names, "share")
    shares = {name: _number(text, path, line) for name, (line, text) in rows.items()}
    prior_K = np.array([shares[name] for name in class_names])
    if prior_K.sum() <= 0:
        raise DataError(f"{path}: all shares are 0", "Give at least one class a share.")
    return prior_K / prior_K.sum()


def read_costs(path: Path, class_names: Sequence[str]) -> FloatArray:
    """Read ``true,answer,cost`` lines; "*" stands for every class, later lines win, other mistakes cost 1.

    Returns:
        cost_KK, true classes in rows; right answers cost 0 unless a line names them.

    Raises:
        DataError: unreadable, or a cost that is not a number of at least 0.
    """
    cost_KK = 1.0 - np.eye(len(class_names))
    place = {name: i for i, name in enumerate(class_names)}
    for line, (true, answer, text) in read_rows(path, 3):
        check_names([name for name in (true, answer) if name != "*"], class_names, path)
        rows = slice(None) if true == "*" else place[true]
        columns = slice(None) if answer == "*" else place[answer]
        kept_K = np.diag(cost_KK).copy()
        cost_KK[rows, columns] = _number(text, path, line)
        if "*" in (true, answer):
            np.fill_diagonal(cost_KK, kept_K)
    return cost_KK


def _number(text: str, path: Path, line: int) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise DataError(f"{path}:{line}: {text!r} is not a number of at least 0")
    return value
