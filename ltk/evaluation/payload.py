"""What ``--json`` prints: stable keys, accuracies as fractions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from ltk.evaluation.assessment import Assessment
from ltk.evaluation.compare import Comparison, Verdict
from ltk.evaluation.pipeline import EvaluatedRun
from ltk.evaluation.published import PublishedFigure
from ltk.evaluation.recipes import Recipe
from ltk.evaluation.shift import ShiftRow


def describe_run(
    result: EvaluatedRun,
    assessment: Assessment,
    shown: Sequence[str],
    *,
    per_class: bool = False,
    shifts: Sequence[ShiftRow] = (),
) -> dict[str, Any]:
    """Return the figures of one run.

    Args:
        result: the judged run.
        assessment: its figures.
        shown: which groups.
        per_class: keep the rows of the classes.
        shifts: accuracies on shifted tests.
    """
    figures = assessment.as_dict()
    figures["splits"] = {name: row for name, row in figures["splits"].items() if name in shown}
    if not per_class:
        del figures["per_class"]
    best = result.run.best_on_test
    return {
        "schema": "ltk.eval/1",
        "run": str(result.run.path),
        "checkpoint": result.saved.checkpoint,
        "selection": result.checkpoint,
        "on": result.split,
        "images": len(result.saved.target_N),
        "fingerprint": result.saved.fingerprint,
        **figures,
        "transductive": "transductive" in result.marks,
        "oracle": result.is_oracle,
        "tuning": asdict(result.curve) if result.curve else None,
        "shifts": [asdict(row) for row in shifts],
        "best_on_test": {"top1": best[0], "epoch": best[1], "label": "oracle"} if best else None,
        "unfinished": result.run.unfinished or None,
        "notes": list(result.remarks),
        "card": dict(result.run.rules),
    }


def describe_comparison(comparison: Comparison, published: Sequence[PublishedFigure] = ()) -> dict[str, Any]:
    """Return a comparison: differing rules, accuracies, verdicts, published figures."""
    return {
        "schema": "ltk.compare/1",
        "on": comparison.split,
        "baseline": comparison.baseline,
        "differences": {row.key: dict(row.values) for row in comparison.differences},
        "recipes": [_describe_recipe(recipe) for recipe in comparison.recipes],
        "verdicts": [_describe_verdict(verdict) for verdict in comparison.verdicts],
        "published": [asdict(figure) for figure in published],
        "notes": list(comparison.notes),
    }


def _describe_recipe(recipe: Recipe) -> dict[str, Any]:
    def spread(value: tuple[float, float | None] | None) -> dict[str, float | None] | None:
        return None if value is None else {"mean": value[0], "sd": value[1]}

    groups = recipe.groups
    names = ("all", *groups.names)
    return {
        "name": recipe.name,
        "runs": [entry.name for entry in recipe.entries],
        "repeated": [entry.name for entry in recipe.repeated],
        "seeds": len(recipe.entries),
        "chosen": [list(entry.chosen) for entry in recipe.entries],
        "transductive": "transductive" in recipe.marks,
        "oracle": "oracle" in recipe.marks,
        "unfinished": recipe.card.get("unfinished"),
        "top1": {name: spread(recipe.accuracy(name)) for name in names},
        "intervals": {name: recipe.interval(groups.mask(name)) for name in names},
        "balanced": spread(recipe.accuracy("all", balanced=True)),
        "card": dict(recipe.card),
    }


def _describe_verdict(verdict: Verdict) -> dict[str, Any]:
    difference = verdict.difference
    return {
        "recipe": verdict.recipe,
        "baseline": verdict.baseline,
        "group": verdict.group,
        "verdict": difference.verdict if difference else None,
        "difference": asdict(difference) if difference else None,
        "sentence": str(verdict),
    }
