"""Names of class folders that can be written down, in reports and models, and told apart; imports no torch."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

from ltk.data.base import count_of
from ltk.errors import DataError


def check_class_names(folder: Path, classes: Sequence[str]) -> None:
    """Check the names of the class folders in ``folder``.

    Raises:
        DataError: some are not UTF-8, or two look alike.
    """
    strange = [repr(os.fsencode(name))[2:-1] for name in classes if not _is_text(name)]
    if strange:
        raise DataError(
            f"{folder} has {count_of(len(strange), 'class folder')} with names that are not UTF-8:"
            f" {', '.join(strange[:10])}",
            "Rename them; `convmv` translates a whole tree from another encoding.",
        )
    for twins in find_twins(classes):
        raise DataError(f"{folder} has class folders {twins}", "Merge them or rename one.")


def _is_text(name: str) -> bool:
    """Whether a name is UTF-8, whatever encoding this process takes names for."""
    try:
        os.fsencode(name).decode()
    except UnicodeDecodeError:
        return False
    return True


def find_twins(classes: Sequence[str]) -> Iterator[str]:
    """Yield the pairs of names that look alike, each as a part of a sentence."""
    seen: dict[str, str] = {}
    for name in classes:
        twin = seen.setdefault(unicodedata.normalize("NFC", name).casefold(), name)
        if twin != name:
            yield f"{twin!r} and {name!r}, which differ only in letter case or in how accents are encoded"
