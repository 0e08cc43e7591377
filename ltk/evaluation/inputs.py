"""Small files a user hands to an evaluation: class shares, costs and groups, as CSV by class name."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from ltk.errors import DataError, unknown_name
from ltk.evaluation.metrics import FloatArray


def read_rows(path: Path, fields: int) -> list[tuple[int, list[str]]]:
    """Return line numbers and stripped fields of a CSV file, blank lines left out.

    Raises:
        DataError: unreadable, or a line with another number of fields.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [(i, [cell.strip() for cell in row]) for i, row in enumerate(csv.reader(file), 1) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
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


def read_prior(path: Path, class_names: Sequence[str]) -> FloatArray:
    """Read ``class,share`` lines; shares need not sum to 1.

    Returns:
        prior_K that sums to 1.

    Raises:
        DataError: unreadable, a class missing, or a share that is not a number of at least 0.
    """
    shares = {row[0]: _number(row[1], path, line) for line, row in read_rows(path, 2)}
    check_names(shares, class_names, path)
    missing = [name for name in class_names if name not in shares]
    if missing:
        raise DataError(f"{path}: no share for {', '.join(missing[:5])}", f"{len(missing)} classes are missing.")
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
