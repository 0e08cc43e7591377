"""Corrected and transductive figures say so in every format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ltk.cli import app
from ltk.evaluation.choose import create_request
from ltk.evaluation.compare import compare_entries
from ltk.evaluation.logits import SavedLogits
from ltk.evaluation.payload import describe_comparison
from ltk.evaluation.pipeline import Judge
from ltk.evaluation.report import create_report
from ltk.evaluation.tables import interval_table

CreateSaved = Callable[..., SavedLogits]
CreateRun = Callable[..., Path]
STYLES = ("table", "markdown", "latex", "csv")


@pytest.fixture
def runs(create_run: CreateRun, create_saved: CreateSaved) -> list[Path]:
    val = create_saved(bias=0.8, seed=5)
    return [create_run(m, create_saved(bias=b), val, method=m) for m, b in (("ce", 0.8), ("gcl", 0.2))]


def show(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["eval", *map(str, arguments)], env={"COLUMNS": "250"})
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize("style", STYLES)
def test_the_correction_of_several_runs_is_named(runs: list[Path], style: str) -> None:
    plain = show(*runs, "--format", style)
    assert not any(word in plain for word in ("(", "transductive", "logit adjustment")) or style == "table"
    for options, correction in (
        (("--adjust", "la", "--tau", "2"), "logit adjustment tau=2"),
        (("--adjust", "la", "--tune"), "logit adjustment tau tuned on val"),
        (("--adjust", "pn"), "PN tau=1, transductive"),
        (("--prior", "estimate"), "target prior estimated from the judged images, transductive"),
    ):
        text = show(*runs, *options, "--format", style)
        assert f"ce ({correction})" in text
        assert f"gcl ({correction})" in text


@pytest.mark.parametrize("style", ["markdown", "latex", "csv"])
def test_the_first_table_of_one_run_names_its_correction(runs: list[Path], style: str) -> None:
    text = show(runs[0], "--adjust", "pn", "--per-class", "--shift", "--format", style)
    head = {line for line in text.splitlines() if "(PN tau=1, transductive)" in line}
    assert len(head) == 3  # groups, classes, shifts
    for column in ("top-1", "accuracy"):
        assert f"{column} (PN tau=1, transductive)" in text
    assert "PN tau=1 (transductive)" in text  # the row beside "as trained", marked once
    assert "as trained (" not in text


def test_marks_stand_wherever_figures_do(runs: list[Path]) -> None:
    results = [Judge().evaluate(run, create_request(adjust="pn")) for run in runs]
    assert results[0].marks == ("PN tau=1", "transductive")
    comparison = compare_entries([result.entry() for result in results], results[0].groups)
    assert [row[0] for row in interval_table(comparison).rows] == [
        "ce (PN tau=1, transductive)",
        "gcl (PN tau=1, transductive)",
    ]
    assert [recipe["transductive"] for recipe in describe_comparison(comparison)["recipes"]] == [True, True]
    assert [recipe.name for recipe in comparison.recipes] == ["ce", "gcl"]  # by which a baseline is given
    report = create_report(results)
    assert report.comparison_plot is not None
    (axes,) = report.comparison_plot.figure.axes
    assert axes.get_legend_handles_labels()[1] == ["ce (PN tau=1, transductive)", "gcl (PN tau=1, transductive)"]
    classes = report.sections[0].classes
    assert classes is not None
    assert "accuracy (PN tau=1, transductive)" in classes.columns


def test_pn_on_validation_images_is_transductive_in_both_forms(runs: list[Path]) -> None:
    text = show(runs[0], "--on", "val", "--adjust", "pn", "--format", "markdown")
    assert "PN tau=1, mass of the validation images (transductive)" in text
    text = show(runs[0], "--adjust", "pn", "--format", "markdown")
    assert "PN tau=1, mass of the validation images |" in text
