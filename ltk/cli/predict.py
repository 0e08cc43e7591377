"""``ltk predict``."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ltk.cli import _console
from ltk.cli._adjust_options import Adjust, Checkpoint, Cost, Prior, Tau, Temperature, Tune
from ltk.cli._options import RunsDir
from ltk.errors import DataError, UsageError

if TYPE_CHECKING:
    from ltk.evaluation.metrics import FloatArray
    from ltk.evaluation.pipeline import EvaluatedRun, Judge

_MODELS = (".onnx", ".pt2", ".pt", ".pth", ".safetensors")


def predict(
    places: Annotated[
        list[Path], typer.Argument(help="[RUN] IMAGE or FOLDER ...: the latest run when the first is none.")
    ],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="CSV file (standard output).")] = None,
    reject_below: Annotated[
        float | None, typer.Option("--reject-below", min=0, max=1, help="Abstain below this probability (0: never).")
    ] = None,
    reject_precision: Annotated[
        float | None,
        typer.Option(
            "--reject-precision",
            min=0,
            max=1,
            help="Abstain by class so that this share is right on validation (none).",
        ),
    ] = None,
    checkpoint: Checkpoint = "last",
    adjust: Adjust = "none",
    tau: Tau = None,
    tune: Tune = False,
    prior: Prior = "",
    cost: Cost = None,
    temperature: Temperature = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list of objects on standard output.")] = False,
    runs_dir: RunsDir = Path("runs"),
) -> None:
    """Classify images: a CSV of class, probability and whether to abstain.

    Examples:
      ltk predict photos/
      ltk predict runs/digits-imb50/glmc-001 scan.png --reject-below 0.6
    """
    from dataclasses import asdict

    from ltk.data.base import count_of
    from ltk.data.walk import describe_others
    from ltk.evaluation.choose import create_request
    from ltk.evaluation.deploy import create_deployment
    from ltk.evaluation.pipeline import Judge
    from ltk.evaluation.predict import find_images, predict_images, write_predictions
    from ltk.files import write_text

    path, places = _divide(places, runs_dir)
    others: Counter[str] = Counter()
    images = find_images(places, others)
    if others:
        _console.warn(describe_others(others))
    request = create_request(adjust=adjust, tau=tau, tune=tune, prior=prior, cost=cost, temperature=temperature)
    judge = Judge(checkpoint=checkpoint)
    result = judge.evaluate(path, request)
    deployment = create_deployment(result)
    limit_K = _limits(judge, result, reject_below, reject_precision)
    rows = list(predict_images(deployment, result.adjustment, images, limit_K))
    if as_json:
        _console.print_json([asdict(row) | {"probability": None if row.fault else row.probability} for row in rows])
    elif out:
        write_text(out, write_predictions(rows))
        _console.print_text(f"{out}")
    else:
        _console.print_text(write_predictions(rows))
    faults, abstained = sum(bool(row.fault) for row in rows), sum(row.abstain for row in rows)
    _console.note(f"{count_of(len(rows), 'image')}, {abstained} abstained, {faults} of these unreadable")


def _divide(places: list[Path], runs_dir: Path) -> tuple[Path, list[Path]]:
    """Return the run, which is named first or is the latest, and where the images are."""
    from ltk.cli.eval import find_runs
    from ltk.run_files import CONFIG

    for place in places:
        if place.suffix.lower() in _MODELS and not place.is_dir():
            hint = "Name the run it is from; a .safetensors file becomes one with: ltk eval FILE --dataset NAME"
            raise UsageError(f"{place}: predict takes a run, not an exported file", hint)
    first, *others = places
    if first.exists() and not (first / CONFIG).is_file():
        return find_runs([], runs_dir)[0], places
    try:
        (run,) = find_runs([first], runs_dir)
    except DataError as error:
        raise DataError(f"{error.message}, and no image or folder of images", error.hint) from error
    if not others:
        raise UsageError(f"no images to classify with {run}", "Give image files or folders after the run.")
    return run, others


def _limits(judge: Judge, result: EvaluatedRun, below: float | None, precision: float | None) -> FloatArray:
    import numpy as np

    from ltk.evaluation.outcomes import assess
    from ltk.evaluation.reject import confidence_limits

    if below is not None and precision is not None:
        raise UsageError("--reject-below and --reject-precision exclude each other")
    if precision is None:
        return np.full(result.saved.num_classes, below or 0.0)
    validation = judge.loader(result.run.path)("val")
    return confidence_limits(assess(validation, result.adjustment), result.saved.num_classes, precision)
