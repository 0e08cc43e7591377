"""``ltk demo``: three methods on the built-in digits, side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ltk.cli import _console
from ltk.cli._options import RunsDir

METHODS = ("ce", "balanced-softmax", "glmc")


def demo(
    runs: RunsDir = Path("runs"),
    seeds: Annotated[int, typer.Option("--seeds", min=1, max=20, help="Runs of each method.")] = 3,
    epochs: Annotated[int, typer.Option("--epochs", "-e", min=1, help="Epochs of each run.")] = 60,
) -> None:
    """Train three methods on long-tailed digits that come with ltk, and compare them.

    About a minute on one core. It shows how ltk works; it is no evidence for a method.

    Examples:
      ltk demo
      ltk demo --seeds 1
    """
    from ltk.data.base import count_of

    console = _console.notes()
    console.print(f"training {', '.join(METHODS)} on long-tailed digits, {count_of(seeds, 'seed')} each", markup=False)
    folders = []
    for method in METHODS:
        folders += [_train(method, seed, epochs, runs) for seed in range(seeds)]
        console.print(f"{method}: {count_of(seeds, 'run')} done", markup=False)
    _show(folders)


def _train(method: str, seed: int, epochs: int, runs: Path) -> Path:
    from ltk.engine.fit import fit
    from ltk.resolve import resolve_config

    options = {"optim.epochs": epochs, "run.seed": seed, "run.threads": 1, "run.device": "cpu"}
    config = resolve_config(method, dataset="digits", options=options).config
    with _console.notes().status(f"{method}, seed {seed}"):
        return fit(config, runs=runs).folder


def _show(folders: list[Path]) -> None:
    from ltk.cli._eval_output import Look, show_several
    from ltk.evaluation.pipeline import AS_TRAINED, Judge
    from ltk.evaluation.report import create_report
    from ltk.files import write_text

    show_several(Judge(), folders, AS_TRAINED, Look.create("table"), METHODS[0])
    report = folders[0].parent.parent / "report.html"  # not among the runs, which RUNS/digits-imb50/* names
    write_text(report, create_report([Judge().evaluate(folder) for folder in folders]).html())
    _console.print_text(f"report  {report}")
    _console.print_text("This is a demonstration on 500 tiny test images: it is no evidence for or against a method.")
