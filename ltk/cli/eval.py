"""``ltk eval``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from ltk.cli import _console
from ltk.cli._adjust_options import Adjust, Checkpoint, Cost, Prior, Tau, Temperature, Tune
from ltk.cli._options import AsJson, Device, RunsDir, complete_run, find_device
from ltk.errors import DataError, UsageError

_ADJUST, _COMPARE, _OUTPUT, _IMAGES = "Correction without retraining", "Comparison", "Output", "Images"


def evaluate(
    runs: Annotated[
        list[Path] | None, typer.Argument(help="Runs; none: the latest.", autocompletion=complete_run)
    ] = None,
    split: Annotated[
        str | None, typer.Option("--split", help="Groups to show, such as many,medium,few (all of them).")
    ] = None,
    on: Annotated[str, typer.Option("--on", help="Images to judge on: test, val or train.")] = "test",
    checkpoint: Checkpoint = "last",
    groups: Annotated[
        str | None, typer.Option("--groups", help="100,20, tertile, or a file of class,group lines (the data set's).")
    ] = None,
    per_class: Annotated[bool, typer.Option("--per-class", help="A row per class.")] = False,
    worst: Annotated[
        int | None, typer.Option("--worst", min=1, help="How many of the worst classes to name (5).")
    ] = None,
    shift: Annotated[bool, typer.Option("--shift", help="Accuracy on long-tailed tests too.")] = False,
    adjust: Adjust = "none",
    tau: Tau = None,
    tune: Tune = False,
    oracle: Annotated[
        bool, typer.Option("--oracle", help="Choose tau on the judged images, labelled so.", rich_help_panel=_ADJUST)
    ] = False,
    prior: Prior = "",
    cost: Cost = None,
    temperature: Temperature = None,
    baseline: Annotated[
        str | None,
        typer.Option("--baseline", help="What to compare against (ce, else the first run).", rich_help_panel=_COMPARE),
    ] = None,
    published: Annotated[
        bool, typer.Option("--published", help="Add published figures.", rich_help_panel=_COMPARE)
    ] = False,
    format: Annotated[
        str, typer.Option("--format", help="table, markdown, latex, csv or json.", rich_help_panel=_OUTPUT)
    ] = "table",
    dataset: Annotated[
        str | None,
        typer.Option(
            "--dataset", "-d", help="Images to judge a model file on (needed for one).", rich_help_panel=_IMAGES
        ),
    ] = None,
    root: Annotated[
        Path | None,
        typer.Option(
            "--root",
            help="Where the images are now (the data root, or where a run found them).",
            rich_help_panel=_IMAGES,
        ),
    ] = None,
    imb: Annotated[
        float | None,
        typer.Option(
            "--imb", help="Imbalance a model file was trained at, for groups (none).", rich_help_panel=_IMAGES
        ),
    ] = None,
    as_json: AsJson = False,
    device: Device = "cpu",
    runs_dir: RunsDir = Path("runs"),
) -> None:
    """Judge a run, or compare several on the same test images.

    A model file (converted, or copied from elsewhere) becomes a run of the data set that --dataset names.

    Examples:
      ltk eval --split many,medium,few
      ltk eval runs/digits-imb50/ce-001 --adjust la --tune
      ltk eval runs/digits-imb50/*-001 --format markdown
      ltk eval old_gcl.safetensors --dataset cifar10 --imb 100
      ltk eval runs/photos/ce-001 --on val --root moved/photos
    """
    names = runs or []
    if len(names) > 1:
        hint = "Leave it out, or judge one run."
        _refuse(
            "one run and does not go with several", hint, {"--per-class": per_class, "--shift": shift, "--worst": worst}
        )
    else:
        _refuse("several runs and does not go with one", "Name the runs to compare.", {"--baseline": baseline})

    from ltk.cli import _eval_output as output
    from ltk.evaluation.choose import create_request
    from ltk.evaluation.pipeline import Judge

    request = create_request(
        adjust=adjust, tau=tau, tune=tune, oracle=oracle, prior=prior, cost=cost, temperature=temperature
    )
    look = output.Look.create(
        "json" if as_json else format, split, per_class=per_class, worst=worst or 5, shift=shift, published=published
    )
    judge = Judge(on, checkpoint, groups, find_device(device), root)
    paths = find_runs([_adopt(name, runs_dir, dataset, root, imb) for name in names], runs_dir)
    if not any(name.is_file() for name in names):
        hint = "A run keeps its data set and imbalance; --root DIR says where its images are now."
        _refuse("model files and does not go with a run", hint, {"--dataset": dataset, "--imb": imb})
    if len(paths) == 1:
        output.show_single(judge, paths[0], request, look)
    else:
        output.show_several(judge, paths, request, look, baseline)


def _adopt(name: Path, runs_dir: Path, dataset: str | None, root: Path | None, imb: float | None) -> Path:
    """Return the run of a model file; names of runs stay as they are."""
    if not name.is_file():
        return name
    from ltk.engine.adopt import adopt_model

    return adopt_model(name, runs_dir, dataset=dataset, root=root, imb=imb)


def _refuse(purpose: str, hint: str, given: dict[str, object]) -> None:
    """Refuse options that would change nothing here."""
    for flag, value in given.items():
        if value not in (None, False):
            raise UsageError(f"{flag} is for {purpose}", hint)


def find_runs(names: list[Path], runs_dir: Path) -> list[Path]:
    """Return run directories by name; without a name the latest, and say which."""
    from ltk.engine.run_dir import find_run

    for name in names:
        if name.is_file():
            hint = f"A model file becomes a run with: ltk eval {shlex.quote(str(name))} --dataset NAME"
            raise DataError(f"{name} is a file, not a run", hint)
    if names:
        return [find_run(name, runs_dir) for name in names]
    latest = find_run(None, runs_dir)
    _console.note(f"{latest} (the latest run)")
    return [latest]


def show_run(folder: Path, *, as_json: bool = False) -> None:
    """Print the figures of a run that has just been trained."""
    from ltk.cli import _eval_output as output
    from ltk.evaluation.pipeline import AS_TRAINED, Judge

    output.show_single(Judge(), folder, AS_TRAINED, output.Look.create("json" if as_json else "table"))
