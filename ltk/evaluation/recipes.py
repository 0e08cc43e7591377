"""Evaluated models as a comparison needs them: an entry per run, and the recipes they are seeds of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np

from ltk.evaluation.groups import Groups
from ltk.evaluation.logits import SavedLogits
from ltk.evaluation.metrics import BoolArray, IntArray
from ltk.evaluation.names import shortest_name, with_marks
from ltk.evaluation.outcomes import Outcome
from ltk.evaluation.paired import accuracy_interval
from ltk.evaluation.posthoc import Adjustment, no_adjustment
from ltk.evaluation.protocol import recipe_key, seed_key, tuned_values
from ltk.evaluation.summary import Summary, summarise_ranks
from ltk.methods import METHODS
from ltk.presets import STAGE_TWO


@dataclass(frozen=True, slots=True)
class Entry:
    """One evaluated model; the logits themselves are not kept.

    Attributes:
        name: of the run.
        card: its protocol card, with "checkpoint" and "adjustment" added.
        correct_N: whether each test image is classified correctly.
        target_N: classes of the test images.
        fingerprint: of the names and labels of the test images.
        summary: accuracy by group.
        groups: the groups of its classes.
        split: the images it is judged on.
        marks: what a reader has to know of its figures wherever they stand, see ``find_marks``.
        corrections: what was done to the logits, unless the name tells it.
        chosen: its own values where the rule is to choose them on images.
        path: of the run, absolute, where it is one.
        pixels: of the test images, see ``SavedLogits``.
        remarks: see ``EvaluatedRun``.
    """

    name: str
    card: Mapping[str, Any]
    correct_N: BoolArray
    target_N: IntArray
    fingerprint: str
    summary: Summary
    groups: Groups
    split: str = "test"
    marks: tuple[str, ...] = ()
    corrections: tuple[str, ...] = ()
    chosen: tuple[str, ...] = ()
    path: Path | None = None
    pixels: str = ""
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Recipe:
    """Runs that differ in nothing but their seed, and in what is chosen for each by one rule.

    Attributes:
        name: unique in a comparison.
        entries: one per seed.
        repeated: further runs of a seed that is there already; they are not counted.
    """

    name: str
    entries: tuple[Entry, ...]
    repeated: tuple[Entry, ...] = ()

    @property
    def card(self) -> Mapping[str, Any]:
        """The rules all its runs share."""
        return self.entries[0].card

    @property
    def groups(self) -> Groups:
        """The groups of its classes."""
        return self.entries[0].groups

    @property
    def marks(self) -> tuple[str, ...]:
        """See ``Entry.marks``."""
        return self.entries[0].marks

    @property
    def label(self) -> str:
        """Its name with its corrections and marks, for whatever shows its figures."""
        return with_marks(self.name, (*self.entries[0].corrections, *self.marks))

    def accuracy(self, group: str, balanced: bool = False) -> tuple[float, float | None] | None:
        """Return mean and standard deviation over seeds of a group's accuracy; None for an empty group.

        Args:
            group: "all" or the name of a group.
            balanced: take the mean over classes instead of images.
        """
        rows = [entry.summary[group] for entry in self.entries]
        values = [row.balanced if balanced else row.top1 for row in rows]
        known = [value for value in values if value is not None]
        return (mean(known), stdev(known) if len(known) > 1 else None) if known else None

    def interval(self, mask_K: BoolArray) -> tuple[float, float] | None:
        """Return the 95% interval of the accuracy on the images of some classes; see ``accuracy_interval``."""
        inside_N = mask_K[self.entries[0].target_N]
        return accuracy_interval([entry.correct_N[inside_N] for entry in self.entries])


def create_entry(
    name: str,
    card: Mapping[str, Any],
    saved: SavedLogits,
    outcome: Outcome,
    groups: Groups,
    adjustment: Adjustment | None = None,
    split: str = "test",
) -> Entry:
    """Reduce one evaluated model to what a comparison needs.

    Args:
        name: of the run.
        card: its protocol card.
        saved: labels and counts.
        outcome: its answers.
        groups: groups of the classes.
        adjustment: what was done to the logits; its notes say by which rules.
        split: the images it is judged on.
    """
    order = np.argsort(saved.index_N, kind="stable")
    adjustment = adjustment or no_adjustment(saved.num_classes)
    checkpoint = describe_checkpoint(saved.checkpoint, card, split)
    return Entry(
        name=name,
        card={**card, "checkpoint": checkpoint, "adjustment": adjustment.label},
        correct_N=outcome.is_correct[order],
        target_N=saved.target_N[order],
        fingerprint=saved.fingerprint,
        summary=summarise_ranks(outcome.rank_N, saved, groups),
        groups=groups,
        split=split,
        marks=find_marks(card, checkpoint, adjustment),
        corrections=adjustment.notes,
        chosen=tuned_values(card),
        pixels=saved.pixels,
    )


def find_marks(card: Mapping[str, Any], checkpoint: str, adjustment: Adjustment) -> tuple[str, ...]:
    """Return what a reader has to know of figures wherever they stand: transductive, oracle, unfinished.

    Args:
        card: the run's protocol card.
        checkpoint: how the weights were chosen, see ``describe_checkpoint``.
        adjustment: what was done to the logits.
    """
    facts = {
        "transductive": adjustment.transductive or card.get("transductive"),
        "oracle": adjustment.oracle or checkpoint.endswith("(oracle)"),
        "unfinished": card.get("unfinished"),
    }
    return tuple(mark for mark, holds in facts.items() if holds)


def describe_checkpoint(checkpoint: str, card: Mapping[str, Any], split: str) -> str:
    """Return how the weights were chosen; chosen on the judged images they are an oracle.

    Args:
        checkpoint: last or best.
        card: the run's protocol card.
        split: the judged images.
    """
    if checkpoint != "best":
        return checkpoint
    chosen = str(card.get("best_checkpoint", checkpoint)).removesuffix(" (oracle)")
    return f"{chosen} (oracle)" if chosen.endswith(f" on {split}") else chosen


def tell_apart(entries: Sequence[Entry]) -> list[Entry]:
    """Return the entries; runs of one name are called by as much of their paths as it takes to tell them apart."""

    def rename(entry: Entry) -> Entry:
        namesakes = {other.path for other in entries if other.path and other.name == entry.name}
        if entry.path is None or namesakes == {entry.path}:
            return entry
        return replace(entry, name=shortest_name(entry.path, namesakes))

    return [rename(entry) for entry in entries]


def group_recipes(entries: Sequence[Entry]) -> tuple[Recipe, ...]:
    """Put runs that differ in their seed alone together, if their groups are the same; of two with a seed one counts.

    They are named after their method or recipe; after the preset's recipe where that is not unique; else after a run.

    Args:
        entries: of unlike names, see ``tell_apart``.
    """
    found: dict[str, list[Entry]] = {}
    repeated: dict[str, list[Entry]] = {}
    for entry in entries:
        groups, training = entry.groups, _training(entry)
        key = f"{recipe_key(entry.card)} {groups.names} {groups.group_K.tolist()}"
        is_known = bool(training) and training in map(_training, found.get(key, ()))
        (repeated if is_known else found).setdefault(key, []).append(entry)
    cards = [members[0].card for members in found.values()]
    methods, recipes = Counter(map(_name_of, cards)), Counter(map(_preset_recipe, cards))

    def name(members: Sequence[Entry]) -> str:
        method, recipe = _name_of(members[0].card), _preset_recipe(members[0].card)
        if methods[method] == 1:
            return method
        return recipe if recipe and recipes[recipe] == 1 else members[0].name

    names = [name(members) for members in found.values()]
    return tuple(
        Recipe(own if names.count(own) == 1 else members[0].name, tuple(members), tuple(repeated.get(key, ())))
        for own, (key, members) in zip(names, found.items(), strict=True)
    )


def _training(entry: Entry) -> str:
    """A text that is equal for one training twice; empty if unknown."""
    return seed_key(entry.card) or str(entry.path or "")


def _preset_recipe(card: Mapping[str, Any]) -> str:
    """The recipe of the preset; empty without one."""
    return str(card.get("preset") or "").partition("/")[0]


def _name_of(card: Mapping[str, Any]) -> str:
    """The method, or the recipe that is a method with options: mixup, ldam-drw, ride-reslt."""
    recipe = _preset_recipe(card)
    is_own = bool(recipe) and recipe not in METHODS and not recipe.startswith(STAGE_TWO)
    return recipe if is_own else str(card.get("method"))
