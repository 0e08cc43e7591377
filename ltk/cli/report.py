"""``ltk report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ltk.cli import _console
from ltk.cli._adjust_options import Checkpoint
from ltk.cli._options import Device, RunsDir, complete_run, find_device


def report(
    runs: Annotated[
        list[Path] | None, typer.Argument(help="Runs; none: the latest.", autocompletion=complete_run)
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="HTML file (report.html in the run, or here for several runs).")
    ] = None,
    on: Annotated[str, typer.Option("--on", help="Images to judge on: test, val or train.")] = "test",
    checkpoint: Checkpoint = "last",
    groups: Annotated[
        str | None, typer.Option("--groups", help="100,20, tertile, or a file of class,group lines (the data set's).")
    ] = None,
    published: Annotated[bool, typer.Option("--published", help="Add published figures.")] = False,
    plots: Annotated[
        Path | None, typer.Option("--plots", help="Write the figures into this folder too (none).")
    ] = None,
    plot_format: Annotated[str, typer.Option("--plot-format", help="svg or png.")] = "svg",
    device: Device = "cpu",
    runs_dir: RunsDir = Path("runs"),
) -> None:
    """Write one self-contained page about a run, or about several side by side.

    Examples:
      ltk report
      ltk report runs/digits-imb50/*-001 --out comparison.html
      ltk report --plots figures --plot-format png
    """
    from ltk.cli.eval import find_runs
    from ltk.errors import unknown_name
    from ltk.evaluation.pipeline import Judge
    from ltk.evaluation.published import read_published
    from ltk.evaluation.report import create_report, write_plots
    from ltk.files import disk_faults, write_text

    if plot_format not in ("svg", "png"):
        raise unknown_name("plot format", plot_format, ("svg", "png"))
    paths = find_runs(runs or [], runs_dir)
    judge = Judge(on, checkpoint, groups, find_device(device))
    results = [judge.evaluate(path) for path in paths]
    card = results[0].run.rules
    figures = read_published(str(card.get("dataset", "")), card.get("imb")) if published else []
    page = create_report(results, figures)
    target = out or (paths[0] / "report.html" if len(paths) == 1 else Path("report.html"))
    with disk_faults(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    write_text(target, page.html())
    _console.print_text(f"{target}")
    if plots is not None:
        for path in write_plots(page, plots, plot_format):
            _console.print_text(f"{path}")
