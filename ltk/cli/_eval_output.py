"""How ``ltk eval`` shows what it found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from ltk.cli import _console
from ltk.errors import unknown_name
from ltk.evaluation.assessment import Assessment
from ltk.evaluation.choose import AdjustmentRequest
from ltk.evaluation.compare import Comparison, compare_entries
from ltk.evaluation.payload import describe_comparison, describe_run
from ltk.evaluation.pipeline import EvaluatedRun, Judge, evaluate_variants
from ltk.evaluation.published import PublishedFigure, read_published
from ltk.evaluation.shift import evaluate_shifts
from ltk.evaluation.tables import (
    Table,
    class_table,
    comparison_table,
    percent,
    shift_table,
    span,
    summary_table,
)

FORMATS = ("table", "markdown", "latex", "csv", "json")
Part = tuple[Table, Sequence[str]]  # a table and the lines below it


@dataclass(frozen=True, slots=True)
class Look:
    """What to show and how.

    Attributes:
        style: one of ``FORMATS``.
        groups: which groups; empty: all of them.
        per_class: a row per class too.
        worst: how many of the worst classes to name.
        shift: long-tailed tests too.
        published: published figures too.
    """

    style: str
    groups: tuple[str, ...] = ()
    per_class: bool = False
    worst: int = 5
    shift: bool = False
    published: bool = False

    @classmethod
    def create(
        cls,
        style: str,
        split: str | None = None,
        *,
        per_class: bool = False,
        worst: int = 5,
        shift: bool = False,
        published: bool = False,
    ) -> Self:
        """Check command-line values.

        Raises:
            UsageError: no such format.
        """
        if style not in FORMATS:
            raise unknown_name("format", style, FORMATS)
        groups = tuple(part.strip() for part in split.split(",") if part.strip()) if split else ()
        return cls(style, groups, per_class, worst, shift, published)

    def choose(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return the groups to show, in their usual order.

        Raises:
            UsageError: a group that does not exist.
        """
        known = ("all", *names)
        for group in self.groups:
            if group not in known:
                raise unknown_name("split", group, known)
        return tuple(name for name in known if not self.groups or name in self.groups)


def show_single(judge: Judge, path: Path, request: AdjustmentRequest, look: Look) -> None:
    """Judge one run and print it; corrected, beside what it was as trained."""
    results = evaluate_variants(judge, path, request)
    result = results[min(1, len(results) - 1)][1]
    shown = look.choose(result.groups.names)
    figures = result.assessment(worst=look.worst, with_classwise=look.style == "json")
    shifts = evaluate_shifts(result.saved, result.adjustment, result.outcome.predicted_N) if look.shift else []
    published = _read_published(result, look)
    comparison = None
    if len(results) > 1 or published:
        entries = [variant.entry(label) for label, variant in results]
        comparison = compare_entries(entries, result.groups, results[0][0], same_run=True)
    if look.style == "json":
        payload = describe_run(result, figures, shown, per_class=look.per_class, shifts=shifts)
        extra = {"comparison": describe_comparison(comparison, published)} if comparison else {}
        _console.print_json(payload | extra)
        return
    title = _title(result, figures)
    table = summary_table(figures.summary, shown, title, split=result.split, marks=result.marks)
    parts: list[Part] = [(table, [*_footer(result, figures), *(() if comparison else _notes(result))])]
    if look.per_class:
        parts.append((class_table(figures.classes, split=result.split, marks=result.marks), ()))
    if shifts:
        parts.append((shift_table(shifts, result.marks), ()))
    if comparison:
        parts.append(_compare(comparison, published, shown))
    _print(parts, look)


def show_several(
    judge: Judge, paths: Sequence[Path], request: AdjustmentRequest, look: Look, baseline: str | None
) -> None:
    """Judge runs and print them side by side."""
    entries = [judge.evaluate(path, request).entry() for path in paths[:-1]]  # one at a time: logits may be large
    last = judge.evaluate(paths[-1], request)
    shown, published = look.choose(last.groups.names), _read_published(last, look)
    comparison = compare_entries([*entries, last.entry()], last.groups, baseline)
    if look.style == "json":
        _console.print_json(describe_comparison(comparison, published))
        return
    print_comparison(comparison, published, shown, look)


def _read_published(result: EvaluatedRun, look: Look) -> list[PublishedFigure]:
    if not look.published:
        return []
    name, imb = str(result.run.rules.get("dataset", "")), result.run.rules.get("imb")
    figures = read_published(name, imb)
    if not figures:
        _console.note(f"no preset has published figures for {name}" + (f" at imbalance {imb:g}" if imb else ""))
    return figures


def _title(result: EvaluatedRun, figures: Assessment) -> str:
    correction = f" · {figures.adjustment}" if figures.adjustment != "none" else ""
    state = f" · unfinished, {result.run.unfinished}" if result.run.unfinished else ""
    return f"{result.run.name} · {_weights(result)} · {result.split} images{correction}{state}"


def _weights(result: EvaluatedRun) -> str:
    """Which weights, and how they were chosen."""
    name = result.saved.checkpoint
    return f"{name} checkpoint" + (f", {result.checkpoint}" if result.checkpoint != name else "")


def _footer(result: EvaluatedRun, figures: Assessment) -> list[str]:
    worst = " · ".join(f"{_console.printable(row.name)} {percent(row.accuracy)}" for row in figures.worst)
    lines = [
        f"groups: {figures.summary.rule}",
        f"balanced accuracy {percent(figures.summary['all'].balanced)} ({span(figures.balanced_interval)})"
        f" · macro-F1 {percent(figures.macro_f1)} · geometric mean {percent(figures.geometric_mean)}"
        f" · calibration error {percent(figures.reliability.ece)} · NLL {figures.nll:.3f}",
        f"worst {len(figures.worst)} classes: {worst} (mean {percent(figures.worst_accuracy)})",
    ]
    best = result.run.best_on_test
    if best and result.split == "test" and figures.adjustment == "none":
        lines.append(f"best epoch on test: {percent(best[0])} in epoch {best[1]} (an oracle, as papers report it)")
    return lines


def _notes(result: EvaluatedRun) -> list[str]:
    """What a comparison would note too."""
    unfinished = [f"note: the run is unfinished: {result.run.unfinished}"] if result.run.unfinished else []
    oracle = [f"note: oracle figures chose a value on the {result.split} images"] if result.is_oracle else []
    return [*oracle, *unfinished, *(f"note: {remark}" for remark in result.remarks)]


def print_comparison(
    comparison: Comparison, published: Sequence[PublishedFigure], shown: Sequence[str], look: Look
) -> None:
    """Print recipes side by side, what differs in their rules, and the verdicts."""
    if look.style == "table" and comparison.differences:
        _console.print_text("These differ in more than their method:")
        _console.print_text("\n".join(f"  {row}" for row in comparison.differences))
    _print([_compare(comparison, published, shown)], look)


def _compare(comparison: Comparison, published: Sequence[PublishedFigure], shown: Sequence[str]) -> Part:
    lines = [*(str(verdict) for verdict in comparison.verdicts), *(f"note: {note}" for note in comparison.notes)]
    return comparison_table(comparison, published, shown), lines


def _print(parts: Sequence[Part], look: Look) -> None:
    """Print tables, each with the lines below it; in a file format tables alone, a blank line and a title between."""
    if look.style == "table":
        for table, lines in parts:
            _console.print_table(table.title, table.columns, table.rows)
            _console.print_text("\n".join(lines))
        return
    write = {"markdown": Table.markdown, "latex": Table.latex, "csv": Table.csv}[look.style]
    mark = "% " if look.style == "latex" else ""
    (first, _), *others = parts
    _console.print_text("\n".join([write(first), *(f"{mark}{table.title}\n\n{write(table)}" for table, _ in others)]))
