"""``ltk predict``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ltk.cli import _console
from ltk.cli._adjust_options import Adjust, Checkpoint, Cost, Prior, Tau, Temperature, Tune
from ltk.cli._options import AsJson, RunsDir

if TYPE_CHECKING:
    from ltk.evaluation.metrics import FloatArray
    from ltk.evaluation.pipeline import EvaluatedRun, Judge


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
    as_json: AsJson = False,
    runs_dir: RunsDir = Path("runs"),
) -> None:
    """Classify images: a CSV of class, probability and whether to abstain.

    Examples:
      ltk predict photos/
      ltk predict runs/digits-imb50/glmc-001 scan.png --reject-below 0.6
    """
    from dataclasses import asdict

    from ltk.cli.eval import find_runs
    from ltk.evaluation.choose import create_request
    from ltk.evaluation.deploy import create_deployment
    from ltk.evaluation.pipeline import Judge
    from ltk.evaluation.predict import find_images, predict_images, write_predictions
    from ltk.files import write_text

    has_run = (places[0] / "config.toml").is_file() or places[0].suffix == ".safetensors"  # which find_runs refuses
    (path,) = find_runs(places[:1] if has_run else [], runs_dir)
    images = find_images(places[1:] if has_run else places)
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
    _console.note(f"{len(rows)} images, {abstained} abstained, {faults} of these unreadable")


def _limits(judge: Judge, result: EvaluatedRun, below: float | None, precision: float | None) -> FloatArray:
    import numpy as np

    from ltk.errors import UsageError
    from ltk.evaluation.outcomes import assess
    from ltk.evaluation.reject import confidence_limits

    if below is not None and precision is not None:
        raise UsageError("--reject-below and --reject-precision exclude each other")
    if precision is None:
        return np.full(result.saved.num_classes, below or 0.0)
    validation = judge.loader(result.run.path)("val")
    return confidence_limits(assess(validation, result.adjustment), result.saved.num_classes, precision)
