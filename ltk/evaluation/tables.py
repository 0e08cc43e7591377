"""Tables as data, and as Markdown, LaTeX, CSV; accuracies are shown in percent."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass

from ltk.evaluation.assessment import ClassRow
from ltk.evaluation.compare import Comparison
from ltk.evaluation.names import with_marks
from ltk.evaluation.protocol import short_parameters
from ltk.evaluation.published import PublishedFigure
from ltk.evaluation.recipes import Recipe
from ltk.evaluation.shift import ShiftRow
from ltk.evaluation.summary import Summary

EMPTY = "-"
_MARKDOWN = re.compile(r"[\\`*<\[\]|~]|(?<![^\W_])_|_(?![^\W_])|&(?=#?\w+;)")  # "_" and "&" mean nothing in a word
_LATEX = str.maketrans(
    {c: f"\\{c}" for c in "&%$#_{}"}
    | {c: f"{{{c}}}" for c in "[*"}  # behind the end of a row they would belong to it
    | {
        "\\": r"\textbackslash{}",
        "^": r"\textasciicircum{}",
        "~": r"\textasciitilde{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        "±": r"$\pm$",
    }
)


@dataclass(frozen=True, slots=True)
class Table:
    """Column titles and rows of text."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    title: str = ""

    def markdown(self) -> str:
        """Return a Markdown table, numbers right-aligned."""
        rule = [":--"] + ["--:"] * (len(self.columns) - 1)
        cells = [[_escape_markdown(cell) for cell in row] for row in (self.columns, *self.rows)]
        lines = [cells[0], rule, *cells[1:]]
        return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"

    def latex(self) -> str:
        """Return a LaTeX tabular with booktabs rules."""
        head, *body = (
            " & ".join(cell.translate(_LATEX) for cell in row) + r" \\" for row in (self.columns, *self.rows)
        )
        layout = "l" + "r" * (len(self.columns) - 1)
        parts = [rf"\begin{{tabular}}{{{layout}}}", r"\toprule", head, r"\midrule", *body, r"\bottomrule"]
        return "\n".join([*parts, r"\end{tabular}"]) + "\n"

    def csv(self) -> str:
        """Return comma-separated values."""
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows((self.columns, *self.rows))
        return text.getvalue()


def _escape_markdown(text: str) -> str:
    """Return text that stands in a cell as it is: in one line, and no markup."""
    return " ".join(_MARKDOWN.sub(r"\\\g<0>", text).splitlines())


def percent(value: float | None) -> str:
    """Return a fraction as percent with one decimal; "-" for None."""
    return EMPTY if value is None else f"{100 * value:.1f}"


def span(interval: tuple[float, float] | None) -> str:
    """Return an interval of fractions in percent; "-" for None."""
    return EMPTY if interval is None else f"{percent(interval[0])} to {percent(interval[1])}"


def summary_table(
    summary: Summary, shown: Sequence[str], title: str = "", *, split: str = "test", marks: Sequence[str] = ()
) -> Table:
    """Return the groups of one model, a row each.

    Args:
        summary: accuracy by group.
        shown: which groups.
        title: of the table.
        split: the judged images.
        marks: what has to be known of the figures, see ``EvaluatedRun.marks``.
    """
    judged, top1 = f"{_judged(split)} images", with_marks("top-1", marks)
    columns = ("split", "classes", judged, top1, "95% interval", "balanced", "top-5", "train images")
    rows = [
        (
            row.group,
            f"{row.classes}",
            f"{row.images:,}",
            percent(row.top1),
            span(row.interval),
            percent(row.balanced),
            percent(row.top5),
            f"{row.train_images:,}",
        )
        for row in summary.rows
        if row.group in shown
    ]
    return Table(columns, tuple(rows), title)


def class_table(
    classes: Sequence[ClassRow], title: str = "per class", *, split: str = "test", marks: Sequence[str] = ()
) -> Table:
    """Return a row per class, judged on the images of a split; for the marks see ``summary_table``."""
    accuracy = with_marks("accuracy", marks)
    columns = ("class", "group", "train", _judged(split), "correct", accuracy, "95% interval")
    rows = [
        (r.name, r.group, f"{r.n_train}", f"{r.n_test}", f"{r.correct}", percent(r.accuracy), span(r.interval))
        for r in classes
    ]
    return Table(columns, tuple(rows), title)


def _judged(split: str) -> str:
    """The column of the judged images, which is not that of the training images."""
    return "judged" if split == "train" else split


def shift_table(rows: Sequence[ShiftRow], marks: Sequence[str] = ()) -> Table:
    """Return a row per shifted test distribution; for the marks see ``summary_table``."""
    cells = [(row.name, percent(row.top1), percent(row.top1_known)) for row in rows]
    columns = ("test classes", with_marks("top-1", marks), "told the shares")
    return Table(columns, tuple(cells), "shifted tests (re-weighted)")


def comparison_table(
    comparison: Comparison, published: Sequence[PublishedFigure] = (), shown: Sequence[str] = ()
) -> Table:
    """Return a row per recipe, then the published figures.

    Args:
        comparison: recipes on the same images.
        published: figures to put below.
        shown: which groups; all by default.
    """
    groups = _columns(comparison, shown)
    columns = ("recipe", *groups, "balanced", "seeds", "network", "width", "params")
    rows = [_recipe_row(recipe, groups) for recipe in comparison.recipes]
    for figure in published:
        name = f"{figure.name} [{figure.confidence}, {figure.source}]"
        rows.append((name, *_published_cells(figure, groups), EMPTY, EMPTY, figure.network, EMPTY, EMPTY))
    return Table(columns, tuple(rows), f"comparison on the same {comparison.split} images")


def interval_table(comparison: Comparison, shown: Sequence[str] = ()) -> Table:
    """Return the 95% interval of every accuracy of the recipes: a row per recipe, a column per group.

    Args:
        comparison: recipes on the same images.
        shown: which groups; all by default.
    """
    groups = _columns(comparison, shown)
    rows = [
        (recipe.label, *(span(recipe.interval(recipe.groups.mask(group))) for group in groups))
        for recipe in comparison.recipes
    ]
    return Table(("recipe", *groups), tuple(rows), "95% intervals")


def _columns(comparison: Comparison, shown: Sequence[str]) -> list[str]:
    return [group for group in ("all", *comparison.groups.names) if not shown or group in shown]


def _published_cells(figure: PublishedFigure, groups: Sequence[str]) -> list[str]:
    return [figure.shown if group == "all" else EMPTY for group in groups]


def _recipe_row(recipe: Recipe, groups: Sequence[str]) -> tuple[str, ...]:
    card = recipe.card
    accuracies = [_with_spread(recipe.accuracy(group)) for group in groups]
    accuracies.append(_with_spread(recipe.accuracy("all", balanced=True)))
    network = (str(card.get("backbone", EMPTY)), str(card.get("width") or EMPTY))
    return (recipe.label, *accuracies, f"{len(recipe.entries)}", *network, short_parameters(card.get("parameters")))


def _with_spread(value: tuple[float, float | None] | None) -> str:
    if value is None:
        return EMPTY
    centre, spread = value
    return percent(centre) if spread is None else f"{percent(centre)} ± {percent(spread)}"
