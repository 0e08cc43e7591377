"""What is in two splits, or has two labels, by name; for equal pixels see ``duplicates``. Imports no torch."""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations

from ltk.data.base import count_of
from ltk.data.listfile import ImageList, show_names

_GROUPS_SHOWN = 10


def note_torn_lots(lots: Mapping[str, Sequence[str] | None]) -> tuple[str, ...]:
    """Return a note per held-out split that shares groups with the training split.

    Args:
        lots: per split, what each image belongs with; None when that is not known.
    """
    train = set(lots["train"] or ())
    notes = []
    for split in sorted(lots.keys() - {"train"}):
        shared = sorted(train & set(lots[split] or ()))
        if shared:
            named = show_names(shared, _GROUPS_SHOWN)
            notes.append(f"{len(shared)} groups are in both train and {split}: {named}")
    return tuple(notes)


def note_repeats(lists: Mapping[str, ImageList]) -> tuple[str, ...]:
    """Return notes on paths that are in two splits, twice in one, or have two labels, however they are written.

    Args:
        lists: names and labels of each split.
    """
    names = {split: [posixpath.normpath(name) for name in content.names] for split, content in lists.items()}
    sides = {split: set(own) for split, own in names.items()}
    found = {f"in both {a} and {b}": sides[a] & sides[b] for a, b in combinations(sides, 2)}
    for split, content in lists.items():
        if len(content.names) > len(sides[split]):
            times = Counter(names[split])
            found[f"twice in {split}"] = {name for name, number in times.items() if number > 1}
    pairs = {pair for split, c in lists.items() for pair in zip(names[split], c.labels_N.tolist(), strict=True)}
    if len(pairs) > len(set[str]().union(*sides.values())):
        labels = Counter(name for name, _ in pairs)
        found["with two labels"] = {name for name, times in labels.items() if times > 1}
    return tuple(
        f"{count_of(len(paths), 'path')} {what}: {show_names(sorted(paths))}" for what, paths in found.items() if paths
    )
