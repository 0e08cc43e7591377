"""Which class belongs to which group: by limits, by tertile, or from a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import numpy as np
from numpy.typing import ArrayLike

from ltk.data.limits import GroupRule, parse_groups
from ltk.data.longtail import assign_groups
from ltk.errors import DataError
from ltk.evaluation.inputs import read_class_values
from ltk.evaluation.metrics import GROUP_NAMES, BoolArray, IntArray

# What tables and verdicts have of their own beside the groups.
_TAKEN = ("all", "balanced", "recipe", "seeds", "network", "width", "params")


@dataclass(frozen=True, slots=True)
class Groups:
    """Groups of classes, most frequent first.

    Attributes:
        names: names of the groups.
        group_K: the group of each class, an index of ``names``.
        rule: how the groups were made, for the title of a table.
    """

    names: tuple[str, ...]
    group_K: IntArray
    rule: str

    @property
    def rarest(self) -> str:
        """Of the groups that have classes, the one with the fewest training images per class."""
        return self.names[self.group_K.max()]

    def mask(self, name: str) -> BoolArray:
        """Return which classes belong to a group; "all" is every class."""
        if name == "all":
            return np.ones(len(self.group_K), dtype=bool)
        return np.asarray(self.group_K == self.names.index(name))


def create_groups(class_counts_K: ArrayLike, rule: GroupRule | str, class_names: Sequence[str] = ()) -> Groups:
    """Build the groups a rule describes.

    Args:
        class_counts_K: training images of each class.
        rule: limits (100, 20) or "100,20" (many > 100 >= medium >= 20 > few), "tertile", or the path of a file with
            a line ``class,group`` for every class.
        class_names: names of the classes, which a file refers to.

    Raises:
        UsageError: the rule is none of these.
        DataError: the file leaves a class out, lists one twice or names one that does not exist, or a group has a name
            that tables use for something else.
    """
    if isinstance(rule, str) and Path(rule).is_file():
        return _read_groups(Path(rule), class_names, class_counts_K)
    limits = parse_groups(rule) if isinstance(rule, str) else rule
    group_K = assign_groups(class_counts_K, limits)
    if isinstance(limits, str):
        return Groups(GROUP_NAMES, group_K, "thirds of the classes by training images")
    return Groups(GROUP_NAMES, group_K, f"many > {limits[0]} >= medium >= {limits[1]} > few training images")


def _read_groups(path: Path, class_names: Sequence[str], counts_K: ArrayLike) -> Groups:
    rows = read_class_values(path, class_names, "group")
    for line, group in rows.values():
        if group in _TAKEN or not group or "," in group:
            hint = f"Any but {', '.join(_TAKEN)}, without a comma."
            raise DataError(f"{path}:{line}: a group cannot be called {group!r}", hint)
    chosen = {name: group for name, (_, group) in rows.items()}
    counts = dict(zip(class_names, np.asarray(counts_K).tolist(), strict=True))
    sizes = {group: mean(counts[n] for n in class_names if chosen[n] == group) for group in chosen.values()}
    names = tuple(sorted(sizes, key=lambda group: -sizes[group]))
    group_K = np.array([names.index(chosen[name]) for name in class_names], dtype=np.int64)
    return Groups(names, group_K, f"groups of {path.name}")
