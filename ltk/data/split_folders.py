"""Which folders of the user's own images are splits, and which only look like it; imports no torch."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from ltk.data.base import count_of
from ltk.data.listfile import show_names
from ltk.data.walk import is_folder, scan
from ltk.errors import DataError

_SPELLINGS = {
    "train": ("train", "training", "trn"),
    "test": ("test", "testing", "tst"),
    "val": ("val", "valid", "validation", "validate", "dev", "eval"),
}
_SPLIT_OF = {spelling: split for split, spellings in _SPELLINGS.items() for spelling in spellings}


def find_split_folders(root: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the splits that have a folder, train first, and notes on the folders beside them.

    Both are empty where the folders are classes.

    Args:
        root: the data set's folder.

    Raises:
        DataError: train alone, or folders that are splits in another spelling.
    """
    folders = sorted(entry.name for entry in scan(root) if is_folder(entry))
    if "train" not in folders:
        _refuse_spellings(root, folders)
        return (), ()
    present = tuple(split for split in _SPELLINGS if split in folders)
    beside = [_suggest(name, present) for name in folders if name not in present]
    if len(present) == 1:
        found = f"; beside it: {show_names(beside)}" if beside else ""
        raise DataError(
            f"{root} has train/ but neither test/ nor val/{found}", "Add one, or give one folder of classes to split."
        )
    if not beside:
        return present, ()
    return present, (f"{count_of(len(beside), 'folder')} beside train/ and left out: {show_names(beside)}",)


def _suggest(name: str, present: Collection[str]) -> str:
    split = _SPLIT_OF.get(name.casefold())
    return f"{name} (did you mean {split}?)" if split and split not in present else name


def _refuse_spellings(root: Path, folders: Sequence[str]) -> None:
    """Refuse two or more folders that are named like splits and hold folders: they would become the classes."""
    spelt = [name for name in folders if name.casefold() in _SPLIT_OF and any(map(is_folder, scan(root / name)))]
    if len(spelt) < 2:
        return
    renames = [f"{name} to {_SPLIT_OF[name.casefold()]}" for name in spelt if name not in _SPELLINGS]
    raise DataError(
        f"the folders of {root} are named like splits and not like classes: {', '.join(spelt)}",
        f"Rename {', '.join(renames)}." if renames else "Call the one to train on train.",
    )
