"""One self-contained HTML page about a run, or about several on the same images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, FunctionLoader

import ltk
from ltk.evaluation import figures, tables
from ltk.evaluation.compare import Comparison, compare_entries
from ltk.evaluation.names import shortest_name
from ltk.evaluation.pipeline import EvaluatedRun
from ltk.evaluation.published import PublishedFigure
from ltk.evaluation.sections import Plot, Section, create_section
from ltk.files import disk_faults, write_atomically


@dataclass(frozen=True, slots=True)
class Report:
    """What the page holds.

    Attributes:
        title: of the page.
        sections: one per run.
        comparison: of the runs, when there are several.
        comparison_table: its table, with published figures if asked for.
        comparison_plot: groups side by side.
    """

    title: str
    sections: tuple[Section, ...]
    comparison: Comparison | None = None
    comparison_table: tables.Table | None = None
    comparison_plot: Plot | None = None

    def html(self) -> str:
        """Return the page."""
        templates = files("ltk.evaluation") / "templates"
        environment = Environment(
            loader=FunctionLoader(lambda name: (templates / name).read_text(encoding="utf-8")),
            autoescape=True,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        page: str = environment.get_template("report.html.j2").render(report=self, version=ltk.__version__)
        return page

    def plots(self) -> list[tuple[str, Plot]]:
        """Return every figure with a file name that is unique in the report."""
        shared = [("comparison", self.comparison_plot)] if self.comparison_plot else []
        own = [(f"{s.name.replace('/', '-')}-{plot.name}", plot) for s in self.sections for plot in s.plots]
        return shared + own


def create_report(results: Sequence[EvaluatedRun], published: Sequence[PublishedFigure] = ()) -> Report:
    """Build the report of runs judged on the same images.

    Args:
        results: at least one judged run.
        published: figures to put under the comparison.

    Raises:
        DataError: they were not judged on the same images.
    """
    paths = [result.run.path.resolve() for result in results]
    names = [shortest_name(path, paths) for path in paths]
    sections = tuple(create_section(result, name) for result, name in zip(results, names, strict=True))
    if len(results) == 1 and not published:
        return Report(f"{sections[0].name}: evaluation", sections)
    comparison = compare_entries([result.entry() for result in results], results[0].groups)
    summaries = {recipe.label: recipe.entries[0].summary for recipe in comparison.recipes}
    caption = "Accuracy by group with 95% intervals (the first seed of each recipe)."
    plot = Plot("groups", caption, figures.draw_groups(summaries))
    title = " · ".join(recipe.name for recipe in comparison.recipes)
    return Report(title, sections, comparison, tables.comparison_table(comparison, published), plot)


def write_plots(report: Report, folder: Path, style: str) -> list[Path]:
    """Write every figure as its own file.

    Args:
        report: the report.
        folder: made if missing.
        style: "svg" or "png".
    """
    with disk_faults(folder):
        folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, plot in report.plots():
        path = folder / f"{name}.{style}"
        is_png = style == "png"
        data = figures.render_png(plot.figure) if is_png else figures.render_svg(plot.figure).encode()
        write_atomically(path, data)
        written.append(path)
    return written
