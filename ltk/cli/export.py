"""``ltk export``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ltk.cli import _console
from ltk.cli._adjust_options import Adjust, Checkpoint, Prior, Tau, Temperature, Tune
from ltk.cli._options import RunsDir, complete_run
from ltk.errors import DataError, UsageError, unknown_name
from ltk.files import check_text

if TYPE_CHECKING:
    from ltk.evaluation.deploy import Deployment

FORMATS = ("onnx", "pt2")
_CHECKED_IMAGES = 64


def export(
    run: Annotated[Path | None, typer.Argument(help="Run; none: the latest.", autocompletion=complete_run)] = None,
    style: Annotated[
        str | None, typer.Option("--format", help="onnx or pt2 (what the file is called, else onnx).")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="File .onnx or .pt2 (model.onnx in the run).")] = None,
    check: Annotated[bool, typer.Option("--check/--no-check", help="Run the file against the original.")] = True,
    checkpoint: Checkpoint = "last",
    adjust: Adjust = "none",
    tau: Tau = None,
    tune: Tune = False,
    prior: Prior = "",
    temperature: Temperature = None,
    runs_dir: RunsDir = Path("runs"),
) -> None:
    """Write a model file: uint8 image in, probabilities out, correction and normalisation built in.

    Examples:
      ltk export
      ltk export runs/digits-imb50/ce-001 --adjust la --temperature val --out digits.onnx
      ltk export --out digits.pt2
    """
    file = _name_file(style, out)
    from ltk.cli.eval import find_runs
    from ltk.evaluation.choose import create_request
    from ltk.evaluation.deploy import create_deployment
    from ltk.evaluation.export import export_model
    from ltk.evaluation.pipeline import Judge

    (path,) = find_runs([run] if run else [], runs_dir)
    request = create_request(adjust=adjust, tau=tau, tune=tune, prior=prior, temperature=temperature)
    result = Judge(checkpoint=checkpoint).evaluate(path, request)
    deployment = create_deployment(result)
    target = out or path / file
    export_model(deployment, target)
    _console.print_text(f"{target}  {target.stat().st_size / 1e6:.1f} MB")
    _console.note(f"input {deployment.facts['input']}; output {deployment.facts['output']}")
    _console.note(f"correction: {deployment.facts['correction']}")
    if check:
        _check(deployment, path, target)


def _name_file(style: str | None, out: Path | None) -> Path:
    """Return the file to write, whose ending says its format.

    Raises:
        UsageError: no such format, or a name that is not UTF-8 or of another format.
    """
    if style is not None and style not in FORMATS:
        raise unknown_name("export format", style, FORMATS)
    suffixes = [f".{name}" for name in ([style] if style else FORMATS)]
    if out is None:
        return Path(f"model{suffixes[0]}")
    if out.suffix.lower() not in suffixes:
        what = f"{style} " if style else ""
        raise UsageError(f"{out}: no {what}model is called so", f"End its name in {' or '.join(suffixes)}")
    check_text(f"--out {out}")
    return out


def _check(deployment: Deployment, run: Path, target: Path) -> None:
    import torch

    from ltk.evaluation.export import check_export
    from ltk.evaluation.pictures import read_images

    try:
        images_BCHW, kind = read_images(run, "test", range(_CHECKED_IMAGES), deployment.model.stored), "test"
    except DataError as error:  # moved or changed since: any images show whether the file answers as the original
        _console.warn(error.message)
        shape = deployment.model.example(_CHECKED_IMAGES).shape
        generator = torch.Generator().manual_seed(0)
        images_BCHW, kind = torch.randint(256, shape, dtype=torch.uint8, generator=generator), "random"
    difference = check_export(deployment, target, images_BCHW)
    _console.note(f"checked on {len(images_BCHW)} {kind} images: probabilities differ by at most {difference:.1e}")
