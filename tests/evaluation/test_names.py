"""Runs of one name in two folders stay two runs."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ltk.errors import UsageError
from ltk.evaluation.compare import Comparison, compare_entries
from ltk.evaluation.logits import SavedLogits
from ltk.evaluation.names import is_called, shortest_name, with_marks
from ltk.evaluation.payload import describe_comparison
from ltk.evaluation.pipeline import Judge
from ltk.evaluation.report import create_report, write_plots

CreateSaved = Callable[..., SavedLogits]
CreateRun = Callable[..., Path]


@pytest.fixture
def twins(create_run: CreateRun, create_saved: CreateSaved, tmp_path: Path) -> list[Path]:
    """Two runs of other rules: runs/toy-imb20/ce-001 and expB/toy-imb20/ce-001."""
    second = create_run("ce-001", create_saved(bias=0.0), lr=0.02)
    moved = shutil.move(second, tmp_path / "expB" / "toy-imb20" / "ce-001")
    return [create_run("ce-001", create_saved(bias=0.9), lr=0.1), Path(moved)]


def compare(paths: list[Path], baseline: str | None = None) -> Comparison:
    results = [Judge().evaluate(path) for path in paths]
    return compare_entries([result.entry() for result in results], results[0].groups, baseline)


def test_runs_of_one_name_are_told_apart(twins: list[Path]) -> None:
    comparison = compare(twins)
    names = ["runs/toy-imb20/ce-001", "expB/toy-imb20/ce-001"]
    assert [recipe.name for recipe in comparison.recipes] == names
    found = describe_comparison(comparison)
    assert found["differences"]["lr"] == dict(zip(names, ("0.1", "0.02"), strict=True))
    assert [recipe["runs"] for recipe in found["recipes"]] == [[name] for name in names]
    assert str(comparison.verdicts[1]).startswith(f"{names[1]} helps on few, against {names[0]}: +")


def test_a_baseline_is_any_name_that_fits_one_run(twins: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(twins[0].parents[2])
    for name in ("expB/toy-imb20/ce-001", "./expB/toy-imb20/../toy-imb20/ce-001/", str(twins[1])):
        assert compare(twins, name).baseline == "expB/toy-imb20/ce-001"
    for name in ("ce", "ce-001", "toy-imb20/ce-001"):
        with pytest.raises(UsageError, match="may be any of runs/toy-imb20/ce-001, expB/toy-imb20/ce-001"):
            compare(twins, name)
    monkeypatch.chdir(twins[1].parents[1])
    assert compare(twins, "toy-imb20/ce-001").baseline == "expB/toy-imb20/ce-001"  # that path is one of them
    with pytest.raises(UsageError, match="unknown baseline"):
        compare(twins, "001")


def test_a_report_keeps_the_figures_of_both(twins: list[Path], tmp_path: Path) -> None:
    report = create_report([Judge().evaluate(path) for path in twins])
    names = [section.name for section in report.sections]
    assert names == ["runs/toy-imb20/ce-001", "expB/toy-imb20/ce-001"]
    assert report.comparison_plot is not None
    (axes,) = report.comparison_plot.figure.axes
    assert axes.get_legend_handles_labels()[1] == names
    written = write_plots(report, tmp_path / "plots", "svg")
    assert len({path.name for path in written}) == len(written) == len(list((tmp_path / "plots").iterdir()))


def test_the_names_of_methods_and_presets_do_not_meet(create_run: CreateRun, saved: SavedLogits) -> None:
    cards = [{"method": "gcl", "preset": "paco/x"}, {"method": "gcl", "preset": ""}, {"method": "paco", "preset": ""}]
    paths = [create_run(f"r-{i}", saved, **card) for i, card in enumerate(cards)]
    names = [recipe.name for recipe in compare(paths).recipes]
    assert len(set(names)) == 3


@pytest.mark.parametrize(
    ("path", "others", "name"),
    [
        ("/a/x/ce", ["/a/x/ce", "/b/x/la"], "x/ce"),
        ("/a/x/ce", ["/b/x/ce", "/c/y/ce"], "a/x/ce"),
        ("/x/ce", ["/a/x/ce"], "/x/ce"),
        ("/ce", [], "/ce"),
    ],
)
def test_shortest_name(path: str, others: list[str], name: str) -> None:
    assert shortest_name(Path(path), map(Path, others)) == name
    assert is_called(Path(path), name)


def test_a_mark_is_given_once() -> None:
    assert with_marks("top-1", ("oracle", "unfinished")) == "top-1 (oracle, unfinished)"
    assert with_marks("PN tau=1 (transductive)", ("transductive",)) == "PN tau=1 (transductive)"
    assert with_marks("toy/oracle-1", ("oracle",)) == "toy/oracle-1 (oracle)"
