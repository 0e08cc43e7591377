from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ltk.evaluation import figures
from ltk.evaluation.calibration import reliability
from ltk.evaluation.logits import SavedLogits
from ltk.evaluation.pipeline import Judge
from ltk.evaluation.published import PublishedFigure
from ltk.evaluation.report import create_report

CreateSaved = Callable[..., SavedLogits]
CreateRun = Callable[..., Path]


class Balance(HTMLParser):
    """Collects elements that are closed wrongly."""

    VOID = ("meta", "img", "br", "link", "hr", "input", "use", "path", "rect")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.faults: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: object) -> None: ...

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID and (not self.open or self.open.pop() != tag):
            self.faults.append(tag)


def test_a_page_about_one_run(create_run: CreateRun, create_saved: CreateSaved) -> None:
    saved = replace(create_saved(), class_names=("<b>bold</b>", "cost $5_x^2", "c", "d"))
    report = create_report([Judge().evaluate(create_run("ce-001", saved))])
    page = report.html()
    parser = Balance()
    parser.feed(page)
    assert parser.faults == []
    assert parser.open == []
    assert "<b>bold</b>" not in page  # names are text, in HTML and in SVG
    assert page.count("&lt;b&gt;bold") >= 4
    assert "cost $5_x^2" in page  # and no formula
    assert "The pictures cannot be shown" in page  # this run has no images
    assert "best epoch on test (oracle)" in page
    assert ">70.0%<" in page
    assert "Protocol card" in page
    assert report.comparison is None
    assert not re.search(r'<svg[^>]* id="', page)


def test_a_page_about_several_runs(create_run: CreateRun, create_saved: CreateSaved) -> None:
    runs = [
        create_run("ce-001", create_saved(bias=0.9)),
        create_run("la-001", create_saved(bias=0.0, noise_seed=3), method="la", width=64),
    ]
    figure = PublishedFigure(55.88, "GLMC (paper)", "S001:14", "V", "ResNet-32 (4x wide)", "x")
    report = create_report([Judge().evaluate(run) for run in runs], [figure])
    page = report.html()
    assert report.title == "ce · la"
    assert page.index("differ in more than their method") < page.index("On the same test images")
    assert "la helps on few, against ce" in page
    assert "GLMC (paper) [V, S001:14]" in page
    assert report.plots()[0][0] == "comparison"
    assert len({name for name, _ in report.plots()}) == len(report.plots())


def test_many_classes_make_a_page_without_a_matrix(create_run: CreateRun, create_saved: CreateSaved) -> None:
    counts = tuple(int(400 * 0.98**k) + 1 for k in range(350))
    saved = create_saved(counts=counts, per_class=2)
    report = create_report([Judge().evaluate(create_run("ce-001", saved))])
    assert "confusion" not in [plot.name for plot in report.sections[0].plots]
    assert report.sections[0].classes is None
    (line,) = report.sections[0].plots[0].figure.axes[1].lines  # a dot per stretch of classes
    assert len(np.asarray(line.get_xdata())) == 60
    assert len(report.html()) < 1_500_000


def test_figures_draw_what_they_are_given(create_run: CreateRun, create_saved: CreateSaved) -> None:
    result = Judge().evaluate(create_run("ce-001", create_saved()))
    assessment = result.assessment()
    bars, dots = figures.draw_classes(assessment.classes).axes
    assert bars.patches[0].get_data().values.tolist() == [200, 60, 50, 10]  # type: ignore[attr-defined]
    heights = [float(np.asarray(line.get_ydata())[0]) for line in dots.lines[1::2]]
    assert heights == pytest.approx([100 * (row.accuracy or 0) for row in assessment.classes])
    (groups,) = figures.draw_groups({"": assessment.summary}).axes
    found = [patch.get_height() for patch in groups.patches]  # type: ignore[attr-defined]
    assert found == pytest.approx([100 * (row.top1 or 0) for row in assessment.summary.rows])
    table = reliability(result.outcome.confidence_N, result.outcome.is_correct)
    (axes,) = figures.draw_reliability(table).axes
    assert len(axes.patches) == (table.images > 0).sum() + len(table.images)
    assert figures.draw_training([]) is None
    course = figures.draw_training(result.run.records)
    assert course is not None
    labels = [line.get_label() for line in course.axes[1].lines]
    assert labels == ["all", "many", "medium"]  # the few group was empty


def test_letters_that_no_font_has_are_drawn_without_a_warning(create_run: CreateRun, create_saved: CreateSaved) -> None:
    saved = replace(create_saved(), class_names=("猫", "ねこ", "고양이", "d"))
    report = create_report([Judge().evaluate(create_run("ce-001", saved))])
    assert "고양이" in report.html()
    (plot,) = [plot for plot in report.sections[0].plots if plot.name == "confusion"]
    assert ">고양이<" in figures.render_svg(plot.figure)  # as text: the reader's own fonts show it
    assert figures.render_png(plot.figure).startswith(b"\x89PNG")


def test_the_page_is_reproducible(create_run: CreateRun, create_saved: CreateSaved) -> None:
    result = Judge().evaluate(create_run("ce-001", create_saved()))
    assert create_report([result]).html() == create_report([result]).html()


def test_epochs_are_whole_numbers() -> None:
    figure = figures.draw_training([{"epoch": 0, "loss": 2.0}, {"epoch": 1, "loss": 1.0}])
    assert figure is not None
    ticks = figure.axes[0].get_xticks()
    assert [tick for tick in ticks if 1 <= tick <= 2] == [1, 2]


def test_a_single_evaluation_is_a_dot() -> None:
    records: list[dict[str, Any]] = [
        {"epoch": 0, "loss": 2.0},
        {"epoch": 1, "loss": 1.0, "test": {"top1": 0.5, "many": 0.6}},
    ]
    figure = figures.draw_training(records)
    assert figure is not None
    loss, *accuracies = [line for axes in figure.axes for line in axes.get_lines()]
    assert loss.get_marker() == "None"
    assert [line.get_marker() for line in accuracies] == ["o", "o"]
