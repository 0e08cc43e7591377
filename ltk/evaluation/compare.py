"""Several runs side by side: what differs in their rules, how accurate each is, whether a method is worth it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ltk.errors import DataError, UsageError, unknown_name
from ltk.evaluation.groups import Groups
from ltk.evaluation.metrics import IntArray
from ltk.evaluation.names import is_called
from ltk.evaluation.paired import Difference, class_weights, compare_seeds
from ltk.evaluation.pixels import show_other_images
from ltk.evaluation.protocol import ProtocolDifference, protocol_differences
from ltk.evaluation.recipes import Entry, Recipe, group_recipes, tell_apart

BALANCED = "balanced"


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
            return f"{self.recipe} against {self.baseline} on {where}: no images"
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
    """Recipes on the same images.

    Attributes:
        recipes: in the order given.
        differences: rules that are not the same for all.
        verdicts: each recipe but the baseline, for all images, for balanced accuracy where that is something else,
            and for the rarest group, unless that is all there is.
        baseline: name of the baseline recipe.
        groups: groups of the classes.
        notes: what a reader should keep in mind.
        split: the images.
    """

    recipes: tuple[Recipe, ...]
    differences: tuple[ProtocolDifference, ...]
    verdicts: tuple[Verdict, ...]
    baseline: str
    groups: Groups
    notes: tuple[str, ...]
    split: str = "test"


def compare_entries(
    entries: Sequence[Entry], groups: Groups, baseline: str | None = None, *, same_run: bool = False
) -> Comparison:
    """Compare evaluated models.

    Args:
        entries: at least one.
        groups: groups of the classes, for the paired tests; none is made on them where those of the runs differ.
        baseline: a recipe or method by name, or a run by name or path; by default the recipe of method "ce", else the
            first.
        same_run: they are corrections of one run, named after what they differ in: rules and seeds are not at issue.

    Raises:
        DataError: they were not tested on the same images.
        UsageError: no recipe of that name, or more than one.
    """
    entries = tell_apart(entries)
    _require_same_images(entries)
    recipes = group_recipes(entries)
    base = _find_baseline(recipes, baseline)
    others = [entry.name for entry in entries if not _same_groups(entry.groups, groups)]
    verdicts = tuple(
        Verdict(recipe.name, base.name, group, _difference(recipe, base, groups, group))
        for recipe in recipes
        if recipe is not base
        for group in _judged(entries[0].target_N, None if others else groups)
    )
    differences = [] if same_run else protocol_differences({recipe.name: recipe.card for recipe in recipes})
    split = entries[0].split
    notes = (*(() if same_run else _seed_notes(recipes)), *_notes(entries, split))
    if others:
        notes += ("the runs have other classes in their groups: each row has its own, and no group has a verdict",)
    return Comparison(recipes, tuple(differences), verdicts, base.name, groups, notes, split)


def _same_groups(first: Groups, second: Groups) -> bool:
    return first.names == second.names and np.array_equal(first.group_K, second.group_K)


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
        if first.card.get("upright") == other.card.get("upright") and show_other_images(first.pixels, other.pixels):
            raise DataError(
                f"{first.name} and {other.name} were tested on images of the same names with other pixels",
                "Only runs tested on the same images can be compared. If they are, and were read by other versions of"
                " the libraries: delete the folder logits of both runs, and ltk eval reads the images again.",
            )


def _find_baseline(recipes: Sequence[Recipe], wanted: str | None) -> Recipe:
    if wanted is None:
        return next((recipe for recipe in recipes if recipe.card.get("method") == "ce"), recipes[0])
    path = Path(wanted).resolve()
    named = [recipe for recipe in recipes if recipe.name == wanted]
    located = [recipe for recipe in recipes if any(entry.path == path for entry in _runs(recipe))]
    found = named or located or [recipe for recipe in recipes if _may_be(recipe, wanted)]
    if not found:
        raise unknown_name("baseline", wanted, [recipe.name for recipe in recipes])
    if len(found) > 1:
        names = ", ".join(recipe.name for recipe in found)
        raise UsageError(f"baseline {wanted!r} may be any of {names}", "Give one of these names, or the path of a run.")
    return found[0]


def _may_be(recipe: Recipe, wanted: str) -> bool:
    """Whether a text is the method of a recipe, or calls one of its runs."""
    names = {recipe.card.get("method"), *(entry.name for entry in _runs(recipe))}
    return wanted in names or any(entry.path and is_called(entry.path, wanted) for entry in _runs(recipe))


def _runs(recipe: Recipe) -> tuple[Entry, ...]:
    return (*recipe.entries, *recipe.repeated)


def _judged(target_N: IntArray, groups: Groups | None) -> list[str]:
    """What a verdict is given on; balanced accuracy is another thing where classes differ in their test images."""
    _, count_K = np.unique(target_N, return_counts=True)
    is_uneven = len(set(count_K.tolist())) > 1
    rarest = [] if groups is None or groups.mask(groups.rarest).all() else [groups.rarest]
    return ["all", *([BALANCED] if is_uneven else []), *rarest]


def _difference(recipe: Recipe, base: Recipe, groups: Groups, group: str) -> Difference | None:
    is_balanced = group == BALANCED
    target_N = recipe.entries[0].target_N
    inside_N = groups.mask("all" if is_balanced else group)[target_N]
    first, second = ([entry.correct_N[inside_N] for entry in side.entries] for side in (recipe, base))
    return compare_seeds(first, second, class_weights(target_N) if is_balanced else None)


def _seed_notes(recipes: Sequence[Recipe]) -> tuple[str, ...]:
    notes = [
        f"the same seed again, not counted: {', '.join(entry.name for entry in recipe.repeated)} ({recipe.name})"
        for recipe in recipes
        if recipe.repeated
    ]
    notes += [
        f"chosen for each run of {recipe.name}: {'; '.join(', '.join(entry.chosen) for entry in recipe.entries)}"
        for recipe in recipes
        if recipe.entries[0].chosen
    ]
    single = [recipe.name for recipe in recipes if len(recipe.entries) == 1]
    if len(recipes) > 1 and single:
        notes.append(f"one seed ({', '.join(single)}): the chance of another training run is not in the intervals")
    return tuple(notes)


def _notes(entries: Sequence[Entry], split: str) -> tuple[str, ...]:
    notes = []
    if any("transductive" in entry.marks for entry in entries):
        notes.append(f"transductive figures use the whole unlabelled {split} set at once")
    if any("oracle" in entry.marks for entry in entries):
        notes.append(f"oracle figures chose a value on the {split} images")
    for where in dict.fromkeys(entry.card["unfinished"] for entry in entries if entry.card.get("unfinished")):
        names = [entry.name for entry in entries if entry.card.get("unfinished") == where]
        notes.append(f"unfinished, {where}: {', '.join(names)}")
    notes += dict.fromkeys(remark for entry in entries for remark in entry.remarks)
    return tuple(notes)
