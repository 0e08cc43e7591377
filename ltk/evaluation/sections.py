"""What a report says about one run: figures, tables, pictures of its mistakes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure

from ltk.errors import LtkError
from ltk.evaluation import figures, tables
from ltk.evaluation.assessment import Assessment, ClassRow
from ltk.evaluation.confusion import confusion_matrix
from ltk.evaluation.metrics import BoolArray
from ltk.evaluation.names import with_marks
from ltk.evaluation.pictures import read_pictures
from ltk.evaluation.pipeline import EvaluatedRun
from ltk.evaluation.protocol import show_rule
from ltk.evaluation.tune import read_curves
from ltk.run_files import LOGITS

_PICTURES = 6  # per class
_LARGEST_MATRIX = 300
_MOST_CLASS_ROWS = 200


@dataclass(frozen=True, slots=True)
class Plot:
    """One figure of the page.

    Attributes:
        name: of the file when it is written apart.
        caption: what it shows and how to read it.
        figure: the figure.
    """

    name: str
    caption: str
    figure: Figure

    @property
    def svg(self) -> Markup:
        """The figure as markup."""
        return Markup(figures.render_svg(self.figure))


@dataclass(frozen=True, slots=True)
class Mistake:
    """A misclassified image.

    Attributes:
        picture: data address.
        answer: the class that was answered.
        confidence: percent, as text.
    """

    picture: str
    answer: str
    confidence: str


@dataclass(frozen=True, slots=True)
class Section:
    """All about one run.

    Attributes:
        name: of the run.
        subtitle: checkpoint, split, correction.
        headline: short facts, label and value.
        table: accuracy by group.
        plots: its figures.
        mistakes: misclassified images of the worst classes.
        missing: why there are no pictures, if there are none.
        confusions: the most frequent mistakes.
        classes: per-class table; left out for very many classes.
        card: protocol card, key and value.
    """

    name: str
    subtitle: str
    headline: tuple[tuple[str, str], ...]
    table: tables.Table
    plots: tuple[Plot, ...]
    mistakes: tuple[tuple[ClassRow, tuple[Mistake, ...]], ...]
    missing: str
    confusions: tables.Table
    classes: tables.Table | None
    card: tuple[tuple[str, str], ...]


def create_section(result: EvaluatedRun, name: str) -> Section:
    """Collect figures, tables and pictures of one judged run.

    Args:
        result: the judged run.
        name: what it is called in the report.
    """
    figures_of_run = result.assessment(worst=5, with_classwise=True)
    mistakes, missing = _collect_mistakes(result, figures_of_run)
    shown = [row.group for row in figures_of_run.summary.rows]
    few_enough = len(figures_of_run.classes) <= _MOST_CLASS_ROWS
    return Section(
        name=name,
        subtitle=_subtitle(result, figures_of_run),
        headline=_headline(result, figures_of_run),
        table=tables.summary_table(figures_of_run.summary, shown, split=result.split, marks=result.marks),
        plots=tuple(_draw(result, figures_of_run)),
        mistakes=mistakes,
        missing=missing,
        confusions=_confusion_table(result, figures_of_run),
        classes=_class_table(result, figures_of_run) if few_enough else None,
        card=_card_rows(result.run.rules),
    )


def _subtitle(result: EvaluatedRun, assessment: Assessment) -> str:
    name = result.saved.checkpoint
    chosen = f" ({result.checkpoint})" if result.checkpoint != name else ""
    state = f", unfinished: {result.run.unfinished}" if result.run.unfinished else ""
    images = f"{len(result.saved.target_N):,} {result.split} images"
    return f"{name} checkpoint{chosen}, {images}, correction: {assessment.adjustment}{state}"


def _headline(result: EvaluatedRun, assessment: Assessment) -> tuple[tuple[str, str], ...]:
    overall = assessment.summary["all"]
    rare = assessment.summary[result.groups.rarest]
    facts = [
        (with_marks("top-1", result.marks), f"{tables.percent(overall.top1)}%"),
        (f"{rare.group}-shot" if rare.group == "few" else rare.group, f"{tables.percent(rare.top1)}%"),
        (_name_balanced(assessment), f"{tables.percent(overall.balanced)}%"),
        ("calibration error", f"{tables.percent(assessment.reliability.ece)}%"),
    ]
    best = result.run.best_on_test
    if best and result.split == "test":
        facts.append(("best epoch on test (oracle)", f"{tables.percent(best[0])}%"))
    return tuple(facts)


def _name_balanced(assessment: Assessment) -> str:
    """The mean over classes, with how many these are where not all have test images."""
    tested, classes = sum(row.n_test > 0 for row in assessment.classes), len(assessment.classes)
    return "balanced" if tested == classes else f"balanced ({tested} of {classes} classes)"


def _draw(result: EvaluatedRun, assessment: Assessment) -> list[Plot]:
    plots = [
        Plot(
            "classes",
            "Training images (grey) and accuracy (dots, with 95% intervals) of each class.",
            figures.draw_classes(assessment.classes),
        ),
        Plot("groups", "Accuracy by group with 95% intervals.", figures.draw_groups({"": assessment.summary})),
    ]
    if result.saved.num_classes <= _LARGEST_MATRIX:
        matrix_KK = confusion_matrix(result.outcome.predicted_N, result.saved.target_N, result.saved.num_classes)
        figure = figures.draw_confusion(matrix_KK, result.saved.class_names)
        plots.append(Plot("confusion", "Confusion: where the images of each class end up.", figure))
    table = assessment.reliability
    errors = f"Calibration error {tables.percent(table.ece)}%, class-wise {tables.percent(assessment.classwise_ece)}%"
    caption = f"Reliability: bars below the dashed line mean overconfidence. {errors}."
    plots.append(Plot("reliability", caption, figures.draw_reliability(table)))
    curves = read_curves(result.run.path / LOGITS, result.saved.checkpoint)
    if curves:
        caption = "Strength of a correction against balanced accuracy; the dot is the chosen value."
        plots.append(Plot("tuning", caption, figures.draw_tuning(curves)))
    course = figures.draw_training(result.run.records)
    if course:
        plots.append(Plot("training", "The course of training.", course))
    return plots


def _collect_mistakes(
    result: EvaluatedRun, assessment: Assessment
) -> tuple[tuple[tuple[ClassRow, tuple[Mistake, ...]], ...], str]:
    """Pictures of the worst classes' misclassified images, the most confident mistakes first."""
    chosen = [(row, _worst_images(result, row.index)) for row in assessment.worst]
    positions = [int(i) for _, images in chosen for i in images]
    try:
        index_N = result.saved.index_N
        pictures = read_pictures(result.run.path, result.split, index_N[positions].tolist()) if positions else []
    except (LtkError, OSError, KeyError) as error:
        return (), f"The pictures cannot be shown: {error}"
    shown = dict(zip(positions, pictures, strict=True))
    names, outcome = result.saved.class_names, result.outcome
    rows = [
        (
            row,
            tuple(
                Mistake(shown[int(i)], names[outcome.predicted_N[i]], f"{100 * outcome.confidence_N[i]:.0f}%")
                for i in images
            ),
        )
        for row, images in chosen
    ]
    return tuple(row for row in rows if row[1]), ""


def _worst_images(result: EvaluatedRun, index: int) -> list[int]:
    outcome = result.outcome
    wrong_N: BoolArray = (result.saved.target_N == index) & ~outcome.is_correct & (outcome.predicted_N >= 0)
    places = np.flatnonzero(wrong_N)
    return places[np.argsort(-outcome.confidence_N[places], kind="stable")][:_PICTURES].tolist()


def _confusion_table(result: EvaluatedRun, assessment: Assessment) -> tables.Table:
    names = result.saved.class_names
    rows = tuple(
        (f"{names[pair.true]} → {names[pair.predicted]}", f"{pair.images}", f"{100 * pair.share:.0f}%")
        for pair in assessment.confusions[:10]
    )
    return tables.Table(("true → answer", "images", "of the true class"), rows)


def _class_table(result: EvaluatedRun, assessment: Assessment) -> tables.Table:
    return tables.class_table(assessment.classes, split=result.split, marks=result.marks)


def _card_rows(card: Mapping[str, object]) -> tuple[tuple[str, str], ...]:
    return tuple((key.replace("_", " "), show_rule(key, value)) for key, value in card.items())
