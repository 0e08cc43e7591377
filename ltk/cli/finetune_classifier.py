"""``ltk finetune-classifier``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ltk.cli import _console
from ltk.cli._devices import is_follower, is_under_torchrun, is_worker, run_on_devices
from ltk.cli._options import AsJson, Dataset, Quiet, Root, RunsDir, check_device, complete_recipe, complete_run
from ltk.cli.train import fit_run, resume_run
from ltk.errors import UsageError
from ltk.files import CHECKPOINTS, check_checkpoint

if TYPE_CHECKING:
    from ltk.engine.fit import FitResult
    from ltk.resolve import Resolved

_RECIPE, _OPTIM, _FILE, _RUN = "Recipe", "Optimisation", "Images of a model file", "Run"


def finetune_classifier(
    parent: Annotated[
        Path | None,
        typer.Argument(
            metavar="[RUN]", help="Run, or model file with --dataset; none: the latest.", autocompletion=complete_run
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            "--method",
            help="crt, lws, tau-norm, maxnorm, gcl or balanced-softmax (none: what completes the run's method).",
            rich_help_panel=_RECIPE,
            autocompletion=complete_recipe,
        ),
    ] = None,
    rule: Annotated[
        str | None,
        typer.Option(
            "--rule",
            help="Images it sees: uniform, balanced-rs, effective-rs, cb-effective-rs, class-aware; or how they weigh:"
            " balanced-rw, effective-rw (the recipe's).",
            rich_help_panel=_RECIPE,
        ),
    ] = None,
    tau: Annotated[
        float | None,
        typer.Option("--tau", help="Exponent of tau-norm (none: chosen on validation).", rich_help_panel=_RECIPE),
    ] = None,
    checkpoint: Annotated[
        str,
        typer.Option(
            "--from",
            help="Which checkpoint of the run: last or best.",
            rich_help_panel=_RECIPE,
            callback=check_checkpoint,
            autocompletion=lambda: list(CHECKPOINTS),
        ),
    ] = "last",
    cache: Annotated[
        bool | None,
        typer.Option(
            "--cache/--no-cache", help="Make features once, or anew of changed images.", rich_help_panel=_RECIPE
        ),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option("--epochs", "-e", help="Epochs (the recipe's).", rich_help_panel=_OPTIM)
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", "-b", help="Images per update (the recipe's).", rich_help_panel=_OPTIM)
    ] = None,
    lr: Annotated[
        float | None, typer.Option("--lr", help="Base learning rate (the recipe's).", rich_help_panel=_OPTIM)
    ] = None,
    dataset: Dataset = None,
    root: Root = None,
    imb: Annotated[
        float | None,
        typer.Option("--imb", help="Cut to this imbalance: largest class / smallest (none).", rich_help_panel=_FILE),
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Seed (the run's).", rich_help_panel=_RUN)] = None,
    device: Annotated[
        str | None,
        typer.Option("--device", help="auto, cpu, cuda, cuda:N (auto).", rich_help_panel=_RUN, callback=check_device),
    ] = None,
    devices: Annotated[
        int | None,
        typer.Option("--devices", min=1, help="Train on N devices of this machine (1).", rich_help_panel=_RUN),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="New run directory (beside the run).", rich_help_panel=_RUN)
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            "--resume",
            help="Continue this second stage (none: begin one).",
            rich_help_panel=_RUN,
            autocompletion=complete_run,
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", "-s", help="Any other key: section.key=value, repeatable (see: ltk config).", rich_help_panel=_RUN
        ),
    ] = None,
    runs: RunsDir = Path("runs"),
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Train a new classifier on the frozen features of a run: stage two, for any method.

    It makes a new run beside the old one, RUN-<method>-<number>, and prints before and after.

    Examples:
      ltk finetune-classifier
      ltk finetune-classifier runs/cifar100-imb100/gcl-001 --method gcl --rule balanced-rs
      ltk finetune-classifier runs/cifar100-imb100/glmc-001 --method maxnorm
      ltk finetune-classifier old_gcl.safetensors --dataset cifar100 --imb 100 --method crt --epochs 10
    """
    options = {
        "data.root": root,
        "method.rule": rule,
        "method.tau": tau,
        "parent.cache": cache,
        "optim.epochs": epochs,
        "optim.batch_size": batch_size,
        "optim.lr": lr,
        "run.seed": seed,
        "run.device": device,
    }
    if resume is not None:
        _refuse("--resume", {"RUN": parent, "--method": recipe, "--dataset": dataset, "--imb": imb, "--out": out})
        if devices and devices > 1 and not is_worker():
            run_on_devices(devices)
            return
        _report(_resume(resume, runs, quiet, options, settings or []), quiet, as_json)
        return
    if parent is not None and parent.is_file():
        path, options["data.root"] = _adopt(parent, runs, dataset, root, imb), None
    else:
        _refuse("a run", {"--dataset": dataset, "--imb": imb})
        path = _find(parent, runs)
    resolved = _resolve(path, recipe, checkpoint, options, settings or [])
    if devices and devices > 1 and not is_worker():
        run_on_devices(devices)
        return
    _report(fit_run(resolved, out, runs, quiet), quiet, as_json)


def _refuse(what: str, given: dict[str, object]) -> None:
    for name, value in given.items():
        if value is not None:
            raise UsageError(f"{name} does not go with {what}", "Its method, images and place are settled.")


def _adopt(file: Path, runs: Path, dataset: str | None, root: Path | None, imb: float | None) -> Path:
    from ltk.engine.adopt import adopt_model

    if is_under_torchrun():
        raise UsageError(f"{file.name} must become a run first, which one process does", "Use --devices N.")
    return adopt_model(file, runs, dataset=dataset, root=root, imb=imb)


def _find(name: Path | None, runs: Path) -> Path:
    from ltk.engine.parent import find_parent

    return find_parent(name, runs)


def _resume(name: Path, runs: Path, quiet: bool, options: dict[str, Any], settings: list[str]) -> FitResult:
    from ltk.config_text import parse_override

    named = [(key, value) for key, value in options.items() if value is not None]
    return resume_run(name, runs, quiet, [*named, *map(parse_override, settings)])


def _resolve(path: Path, recipe: str | None, checkpoint: str, options: dict[str, Any], settings: list[str]) -> Resolved:
    from ltk.engine.stage_two import StageTwoRequest, resolve_stage_two

    return resolve_stage_two(StageTwoRequest(path, recipe, checkpoint, options, settings))


def _report(result: FitResult, quiet: bool, as_json: bool) -> None:
    """Print before and after; the run alone, where there is no before any more."""
    if is_follower():
        return
    from ltk.cli._eval_output import Look, print_comparison
    from ltk.cli.eval import show_run
    from ltk.engine.before_after import compare_stages
    from ltk.evaluation.payload import describe_comparison

    comparison = compare_stages(result.folder)
    if comparison is None:
        show_run(result.folder, as_json=as_json)
    elif as_json:
        _console.print_json({"run": str(result.folder), **describe_comparison(comparison)})
    else:
        print_comparison(comparison, (), ("all", *comparison.groups.names), Look.create("table"))
    if not (quiet or as_json):
        run = shlex.quote(str(result.folder))
        if result.records:
            _console.note(f"saved {result.folder}")
        _console.note(f"next  ltk eval {run} --per-class    ltk export {run}")
