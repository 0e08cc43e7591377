"""Several runs side by side: what differs in their rules, how accurate each is, whether a method is worth it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

import numpy as np

from ltk.errors import DataError, unknown_name
from ltk.evaluation.groups import Groups
from ltk.evaluation.logits import SavedLogits
from ltk.evaluation.metrics import BoolArray, IntArray
from ltk.evaluation.outcomes import Outcome
from ltk.evaluation.paired import Difference, class_weights, compare_seeds
from ltk.evaluation.protocol import ProtocolDifference, protocol_differences, recipe_key
from ltk.evaluation.summary import Summary, summarise_ranks
from ltk.methods import METHODS
from ltk.presets import STAGE_TWO

BALANCED = "balanced"


@dataclass(frozen=True, slots=True)
class Entry:
    """One evaluated model; the logits themselves are not kept.

    Attributes:
        name: of the run.
        card: its protocol card, with "checkpoint" and "adjustment" added.
        correct_N: whether each test image is classified correctly.
        target_N: classes of the test images.
        fingerprint: of the test images.
        summary: accuracy by group.
    """

    name: str
    card: Mapping[str, Any]
    correct_N: BoolArray
    target_N: IntArray
    fingerprint: str
    summary: Summary


@dataclass(frozen=True, slots=True)
class Recipe:
    """Runs that differ in nothing but their seed.

    Attributes:
        name: shown in tables.
        entries: one per seed.
    """

    name: str
    entries: tuple[Entry, ...]

    @property
    def card(self) -> Mapping[str, Any]:
        """The rules all its runs share."""
        return self.entries[0].card

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


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a recipe is worth it, for one group of classes.

    Attributes:
        recipe: the recipe that is judged.
        baseline: the recipe it is judged against.
        group: the classes it is about; "balanced" for balanced accuracy over all of them.
        difference: None when the group has no test images.
    """

    recipe: str
    baseline: str
    group: str
    difference: Difference | None

    def __str__(self) -> str:
        d, where = self.difference, "balanced accuracy" if self.group == BALANCED else self.group
        if d is None:
            return f"{self.recipe} against {self.baseline} on {where}: no test images"
        low, high = (100 * x for x in d.interval)
        if d.verdict.startswith("is"):
            finding = f"{self.recipe} {d.verdict} from {self.baseline} on {where}"
        else:
            finding = f"{self.recipe} {d.verdict} on {where}, against {self.baseline}"
        p_value = "p < 0.0001" if d.p_value < 1e-4 else f"p = {d.p_value:.2g}"
        interval = f"95%: {low:+.1f} to {high:+.1f}"
        return f"{finding}: {100 * d.value:+.1f} points ({interval}; {p_value}, {d.images:,} images)"


@dataclass(frozen=True, slots=True)
class Comparison:
    """Recipes on the same test images.

    Attributes:
        recipes: in the order given.
        differences: rules that are not the same for all.
        verdicts: each recipe but the baseline, for all images, for balanced accuracy where that is something else,
            and for the rarest group.
        baseline: name of the baseline recipe.
        groups: names of the groups.
        notes: what a reader should keep in mind.
    """

    recipes: tuple[Recipe, ...]
    differences: tuple[ProtocolDifference, ...]
    verdicts: tuple[Verdict, ...]
    baseline: str
    groups: tuple[str, ...]
    notes: tuple[str, ...]


def create_entry(
    name: str, card: Mapping[str, Any], saved: SavedLogits, outcome: Outcome, groups: Groups, adjustment: str = "none"
) -> Entry:
    """Reduce one evaluated model to what a comparison needs.

    Args:
        name: of the run.
        card: its protocol card.
        saved: labels and counts.
        outcome: its answers.
        groups: groups of the classes.
        adjustment: what was done to the logits, in words.
    """
    order = np.argsort(saved.index_N, kind="stable")
    return Entry(
        name=name,
        card={**card, "checkpoint": _describe_checkpoint(saved.checkpoint, card), "adjustment": adjustment},
        correct_N=outcome.is_correct[order],
        target_N=saved.target_N[order],
        fingerprint=saved.fingerprint,
        summary=summarise_ranks(outcome.rank_N, saved, groups),
    )


def _describe_checkpoint(checkpoint: str, card: Mapping[str, Any]) -> str:
    return str(card.get("best_checkpoint", checkpoint)) if checkpoint == "best" else checkpoint


def group_recipes(entries: Sequence[Entry]) -> tuple[Recipe, ...]:
    """Put runs that differ in their seed alone together.

    They are named after their method or recipe; after the preset's recipe where that is not unique; else after a run.
    """
    found: dict[str, list[Entry]] = {}
    for entry in entries:
        found.setdefault(recipe_key(entry.card), []).append(entry)
    cards = [members[0].card for members in found.values()]
    methods = [_name_of(card) for card in cards]
    recipes = [str(card.get("preset") or "").partition("/")[0] for card in cards]
    return tuple(
        Recipe(_first_unique((method, methods), (recipe, recipes), default=members[0].name), tuple(members))
        for method, recipe, members in zip(methods, recipes, found.values(), strict=True)
    )


def _name_of(card: Mapping[str, Any]) -> str:
    """The method, or the recipe that is a method with options: mixup, ldam-drw, ride-reslt."""
    recipe = str(card.get("preset") or "").partition("/")[0]
    is_own = bool(recipe) and recipe not in METHODS and not recipe.startswith(STAGE_TWO)
    return recipe if is_own else str(card.get("method"))


def _first_unique(*candidates: tuple[str, Sequence[str]], default: str) -> str:
    """The first name that stands once among its kind."""
    return next((name for name, kind in candidates if name and kind.count(name) == 1), default)


def compare_entries(
    entries: Sequence[Entry], groups: Groups, baseline: str | None = None, *, same_run: bool = False
) -> Comparison:
    """Compare evaluated models.

    Args:
        entries: at least one.
        groups: groups of the classes, for the paired tests.
        baseline: name of a recipe, method or run; by default the recipe of method "ce", else the first.
        same_run: they are corrections of one run, named after what they differ in: rules and seeds are not at issue.

    Raises:
        DataError: they were not tested on the same images.
        UsageError: no recipe of that name.
    """
    _require_same_images(entries)
    recipes = group_recipes(entries)
    base = _find_baseline(recipes, baseline)
    judged = ("all", *((BALANCED,) if _is_uneven(entries[0].target_N) else ()), groups.rarest)
    verdicts = tuple(
        Verdict(recipe.name, base.name, group, _difference(recipe, base, groups, group))
        for recipe in recipes
        if recipe is not base
        for group in judged
    )
    differences = [] if same_run else protocol_differences({recipe.name: recipe.card for recipe in recipes})
    notes = (*(() if same_run else _seed_notes(recipes)), *_notes(recipes))
    return Comparison(recipes, tuple(differences), verdicts, base.name, groups.names, notes)


def _require_same_images(entries: Sequence[Entry]) -> None:
    first = entries[0]
    for other in entries[1:]:
        same = other.fingerprint == first.fingerprint and np.array_equal(other.target_N, first.target_N)
        if not same:
            raise DataError(
                f"{first.name} and {other.name} were tested on different images"
                f" ({first.fingerprint[:12] or 'unknown'}, {other.fingerprint[:12] or 'unknown'})",
                "Only runs tested on the same images can be compared.",
            )


def _find_baseline(recipes: Sequence[Recipe], wanted: str | None) -> Recipe:
    if wanted is None:
        return next((recipe for recipe in recipes if recipe.card.get("method") == "ce"), recipes[0])
    for recipe in recipes:
        names = {recipe.name, recipe.card.get("method")} | {entry.name for entry in recipe.entries}
        if wanted in names:
            return recipe
    raise unknown_name("baseline", wanted, [recipe.name for recipe in recipes])


def _is_uneven(target_N: IntArray) -> bool:
    """Whether some classes have more test images than others."""
    _, count_K = np.unique(target_N, return_counts=True)
    return len(set(count_K.tolist())) > 1


def _difference(recipe: Recipe, base: Recipe, groups: Groups, group: str) -> Difference | None:
    is_balanced = group == BALANCED
    target_N = recipe.entries[0].target_N
    inside_N = groups.mask("all" if is_balanced else group)[target_N]
    first, second = ([entry.correct_N[inside_N] for entry in side.entries] for side in (recipe, base))
    return compare_seeds(first, second, class_weights(target_N) if is_balanced else None)


def _seed_notes(recipes: Sequence[Recipe]) -> tuple[str, ...]:
    single = [recipe.name for recipe in recipes if len(recipe.entries) == 1]
    if len(recipes) == 1 or not single:
        return ()
    return (f"one seed ({', '.join(single)}): the chance of another training run is not in the intervals",)


def _notes(recipes: Sequence[Recipe]) -> tuple[str, ...]:
    notes = []
    if any(recipe.card.get("transductive") or "transductive" in recipe.card["adjustment"] for recipe in recipes):
        notes.append("transductive figures use the whole unlabelled test set at once")
    if any("oracle" in recipe.card["adjustment"] + recipe.card["checkpoint"] for recipe in recipes):
        notes.append("oracle figures chose a value on the test images")
    return tuple(notes)
