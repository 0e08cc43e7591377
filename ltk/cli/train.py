"""``ltk train``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ltk.cli import _console
from ltk.cli._devices import is_follower, is_worker, run_on_devices
from ltk.cli._options import (
    AsJson,
    Dataset,
    Quiet,
    Root,
    RunsDir,
    check_device,
    choice_option,
    complete_method,
    complete_run,
)
from ltk.cli._plan import describe_origin, show_plan
from ltk.errors import UsageError

if TYPE_CHECKING:
    from ltk.engine.fit import FitResult
    from ltk.resolve import Resolved

_DATA, _MODEL, _OPTIM, _RUN = "Data", "Model", "Optimisation", "Run"


def train(
    method: Annotated[
        str | None,
        typer.Argument(
            help="Method (glmc), preset (glmc/cifar100-imb100) or TOML file.", autocompletion=complete_method
        ),
    ] = None,
    dataset: Dataset = None,
    root: Root = None,
    train_list: Annotated[
        Path | None,
        typer.Option("--train-list", help="List of training images: path label (none).", rich_help_panel=_DATA),
    ] = None,
    val_list: Annotated[
        Path | None, typer.Option("--val-list", help="List of validation images (none).", rich_help_panel=_DATA)
    ] = None,
    test_list: Annotated[
        Path | None, typer.Option("--test-list", help="List of test images (none).", rich_help_panel=_DATA)
    ] = None,
    csv: Annotated[
        Path | None, typer.Option("--csv", help="Table: path,label[,group,split] (none).", rich_help_panel=_DATA)
    ] = None,
    imb: Annotated[
        float | None,
        typer.Option(
            "--imb", help="Cut to this imbalance: largest class / smallest (the preset's).", rich_help_panel=_DATA
        ),
    ] = None,
    imb_type: Annotated[
        str | None,
        choice_option(
            "--imb-type", "ltk.config:DataSettings", "Profile of the cut: exp or step (the preset's).", _DATA
        ),
    ] = None,
    subset: Annotated[
        str | None,
        choice_option(
            "--subset",
            "ltk.config:DataSettings",
            "Images kept: ldam, glmc, glmc-replacement, first-n (the preset's).",
            _DATA,
        ),
    ] = None,
    val: Annotated[
        float | None,
        typer.Option("--val", help="Images per class (or share) held out (the preset's: 0).", rich_help_panel=_DATA),
    ] = None,
    groups: Annotated[
        str | None,
        typer.Option("--groups", help="many/medium/few: 100,20 or tertile (the data set's).", rich_help_panel=_DATA),
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option("--model", "-m", help="Backbone: any timm name (the preset's).", rich_help_panel=_MODEL),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option("--epochs", "-e", help="Epochs (the preset's).", rich_help_panel=_OPTIM)
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(
            "--batch-size", "-b", help="Images per update, over all devices (the preset's).", rich_help_panel=_OPTIM
        ),
    ] = None,
    lr: Annotated[
        float | None, typer.Option("--lr", help="Base learning rate (the preset's).", rich_help_panel=_OPTIM)
    ] = None,
    lr_rule: Annotated[
        str | None,
        choice_option(
            "--lr-rule",
            "ltk.config:OptimSettings",
            "linear: scale --lr by batch / preset's batch; none (none).",
            _OPTIM,
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Seed (0).", rich_help_panel=_RUN)] = None,
    device: Annotated[
        str | None,
        typer.Option("--device", help="auto, cpu, cuda, cuda:N (auto).", rich_help_panel=_RUN, callback=check_device),
    ] = None,
    devices: Annotated[
        int | None,
        typer.Option("--devices", min=1, help="Train on N devices of this machine (1).", rich_help_panel=_RUN),
    ] = None,
    precision: Annotated[
        str | None,
        choice_option("--precision", "ltk.config:RunSettings", "auto, fp32, bf16, fp16 (auto).", _RUN),
    ] = None,
    engine: Annotated[
        str | None,
        choice_option("--engine", "ltk.config:RunSettings", "auto, eager, compile, graph (auto).", _RUN),
    ] = None,
    profile: Annotated[
        bool, typer.Option("--profile", help="Profile some of the first steps.", rich_help_panel=_RUN)
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="New run directory (the next free number under --runs).", rich_help_panel=_RUN
        ),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            "--resume", help="Continue this run (none: begin one).", rich_help_panel=_RUN, autocompletion=complete_run
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", "-s", help="Any other key: section.key=value, repeatable (see: ltk config).", rich_help_panel=_RUN
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Show what would run; time and memory from its first steps (10 s).", rich_help_panel=_RUN
        ),
    ] = False,
    runs: RunsDir = Path("runs"),
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Train a long-tailed classifier.

    The preset of the method for the data set is used, and what differs from it is printed.

    Examples:
      ltk train glmc --dataset digits
      ltk train glmc --dataset cifar100 --imb 100
      ltk train balanced-softmax --dataset photos/ --model resnet50 --set model.pretrained=true
      ltk train ce --train-list train.txt --test-list test.txt --root images/
      ltk train --resume runs/digits-imb50/glmc-001
      ltk train paco --dataset imagenet-lt --root images/ --devices 4
    """
    from ltk.config_text import parse_override
    from ltk.resolve import require_method_or_resume, resolve_config

    require_method_or_resume(method, resume)
    dataset = dataset or ("list" if train_list else "csv" if csv else None)
    options = {
        "data.source.train_list": train_list,
        "data.source.val_list": val_list,
        "data.source.test_list": test_list,
        "data.source.csv": csv,
        "data.imb_type": imb_type,
        "data.subset": subset,
        "data.val": val,
        "data.groups": groups,
        "model.backbone": backbone,
        "optim.epochs": epochs,
        "optim.batch_size": batch_size,
        "optim.lr": lr,
        "optim.lr_rule": lr_rule,
        "run.seed": seed,
        "run.device": device,
        "run.precision": precision,
        "run.engine": engine,
        "run.profile": profile or None,
    }
    if resume is not None:
        _refuse_with_resume(out, dry_run)
        where = {"data.dataset": dataset, "data.root": root, "data.imb": imb}
        named = [(key, value) for key, value in (where | options).items() if value is not None]
        amendments = [*named, *map(parse_override, settings or ())]
        if devices and devices > 1 and not is_worker():
            run_on_devices(devices)
            return
        _report(resume_run(resume, runs, quiet, amendments), as_json, quiet)
        return
    resolved = resolve_config(
        method or "", dataset=dataset, root=root, imb=imb, options=options, overrides=settings or ()
    )
    if dry_run:
        if not is_follower():
            show_plan(resolved, devices or 1, as_json=as_json)
        return
    if devices and devices > 1 and not is_worker():
        run_on_devices(devices)
        return
    _report(fit_run(resolved, out, runs, quiet), as_json, quiet)


def _refuse_with_resume(out: Path | None, dry_run: bool) -> None:
    for flag, given in (("--out", out is not None), ("--dry-run", dry_run)):
        if given:
            raise UsageError(f"{flag} does not go with --resume", "A run is continued where it is.")


def fit_run(resolved: Resolved, out: Path | None, runs: Path, quiet: bool) -> FitResult:
    """Say where a configuration comes from, and train it."""
    from ltk.config_text import dump_config
    from ltk.engine.elastic import count_restarts
    from ltk.engine.run_dir import check_free
    from ltk.files import check_text

    check_text(f"--runs {runs}" if out is None else f"--out {out}")
    dump_config(resolved.config)  # what cannot be written down is refused before anything is made
    if out is not None and not is_follower() and not count_restarts():
        check_free(out)
    from ltk.cli._progress import TrainingDisplay
    from ltk.engine.fit import fit

    if not (quiet or is_follower()):
        for line in describe_origin(resolved):
            _console.note(line)
    display = TrainingDisplay(quiet)
    try:
        return fit(resolved.config, out=out, runs=runs, reporter=display)
    finally:
        display.close()


def resume_run(name: Path, runs: Path, quiet: bool, amendments: list[tuple[str, Any]]) -> FitResult:
    """Continue a run by name or path; ``amendments`` are dotted keys with the values they get from here on."""
    from ltk.engine.amend import amend_config
    from ltk.engine.run_dir import find_run
    from ltk.run_files import read_run_config

    folder = find_run(name, runs)
    config = amend_config(read_run_config(folder), amendments)
    from ltk.cli._progress import TrainingDisplay
    from ltk.engine.fit import resume

    display = TrainingDisplay(quiet)
    try:
        return resume(folder, config=config, reporter=display)
    finally:
        display.close()


def _report(result: FitResult, as_json: bool, quiet: bool) -> None:
    if is_follower():
        return
    from ltk.cli.eval import show_run

    show_run(result.folder, as_json=as_json)
    if not (as_json or quiet):
        run = shlex.quote(str(result.folder))
        if result.records:
            _console.note(f"saved {result.folder}")
        _console.note(f"next  ltk eval {run} --per-class    ltk report {run}")
