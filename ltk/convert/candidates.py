"""Which parts of a checkpoint make up a network, and the one to convert."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass

from ltk.convert.keymaps import CLASSIFIER
from ltk.convert.parts import Contents, Entry, Part, Role
from ltk.errors import DataError, UsageError

_MOST_LISTED = 8


@dataclass(frozen=True)
class Candidate:
    """Parts that together may be a network.

    Attributes:
        path: where they stand.
        parts: names of the dictionaries.
        entries: all tensors by name: the body's own, ``layer4.N.`` for a block apart, ``head.`` for a classifier apart.
        has_block: whether a block stood apart.
    """

    path: str
    parts: tuple[str, ...]
    entries: dict[str, Entry]
    has_block: bool = False

    @property
    def is_classifier(self) -> bool:
        """Whether it is a classifier without a body."""
        return all(name.startswith(CLASSIFIER + ".") for name in self.entries)


def find_candidates(contents: Contents, key: str | None = None) -> list[Candidate]:
    """Return what in a file may be a network.

    Args:
        contents: of the file.
        key: the part to look at, by its path or the beginning of it (``state_dict_best``).

    Raises:
        UsageError: no part of that name.
    """
    parts = contents.parts
    if key is not None:
        parts = [part for part in parts if part.path == key or part.path.startswith(key.rstrip("/") + "/")]
        if not parts:
            known = _listed(sorted({part.path for part in contents.parts})) or "none"
            raise UsageError(f"the file has no state dict {key!r}", f"It has: {known}.")
    siblings: dict[str, list[Part]] = defaultdict(list)
    for part in parts:
        siblings[part.parent].append(part)
    return [candidate for group in siblings.values() for candidate in _join(group)]


def _join(group: list[Part]) -> list[Candidate]:
    """One candidate per body; block and classifier join the only body beside them."""
    by_role: dict[Role, list[Part]] = {"body": [], "block": [], "classifier": []}
    for part in group:
        by_role[part.role].append(part)
    bodies, blocks, classifiers = by_role["body"], by_role["block"], by_role["classifier"]
    if len(bodies) == 1 and len(blocks) <= 1 and len(classifiers) <= 1:
        return [_joined(bodies[0], blocks, classifiers)]
    alone = [Candidate(part.path, (part.path,), part.entries) for part in bodies]
    return alone + [Candidate(part.path, (part.path,), _classifier_entries(part)) for part in classifiers]


def _joined(body: Part, blocks: list[Part], classifiers: list[Part]) -> Candidate:
    entries = dict(body.entries)
    numbers = [int(match[1]) for name in entries if (match := re.match(r"layer4\.(\d+)\.", name))]
    for part in blocks:
        place = f"layer4.{max(numbers, default=-1) + 1}."
        entries |= {place + name.removeprefix("layer5."): entry for name, entry in part.entries.items()}
    for part in classifiers:
        entries |= _classifier_entries(part)
    parts = [body, *blocks, *classifiers]
    path = body.path if len(parts) == 1 else body.parent
    return Candidate(path, tuple(part.path for part in parts), entries, has_block=bool(blocks))


def _classifier_entries(part: Part) -> dict[str, Entry]:
    return {f"{CLASSIFIER}.{name.rpartition('.')[2]}": entry for name, entry in part.entries.items()}


def choose_candidate(candidates: list[Candidate], contents: Contents) -> Candidate:
    """Return the only candidate.

    Raises:
        DataError: none, or several.
    """
    if len(candidates) == 1:
        return candidates[0]
    if not candidates:
        found = _listed([*contents.facts, *(leftover.path for leftover in contents.leftovers)]) or "nothing"
        raise DataError("the file holds no state dict", f"At its top it holds: {found}.")
    listing = [f"{candidate.path[:80] or 'the top'} ({len(candidate.entries)} tensors)" for candidate in candidates]
    raise DataError(f"the file holds {len(candidates)} networks: {_listed(listing)}", "Choose one with --key.")


def _listed(names: list[str]) -> str:
    """The first few names, in one line."""
    more = f" and {len(names) - _MOST_LISTED} more" if len(names) > _MOST_LISTED else ""
    return ", ".join(name[:120] for name in names[:_MOST_LISTED]) + more
