"""Train a run from its configuration, or continue it: the one way, which never asks which method runs."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from ltk import distributed
from ltk.checkpoint import Checkpoint, load_newest, save_model
from ltk.config import RunConfig
from ltk.config_text import explain
from ltk.data.splits import Manifest
from ltk.engine.amend import check_amended, describe_amendments
from ltk.engine.build import Built, DataPlan, build, plan_data
from ltk.engine.card import write_card
from ltk.engine.elastic import count_restarts, find_begun_run, job_name
from ltk.engine.parallel import check_alike, describe_other_world, leading_reporter, open_run_dir, process_group
from ltk.engine.parent import Parent, open_parent, read_origin
from ltk.engine.reporter import Reporter
from ltk.engine.run_dir import RunDir, check_free, describe_environment
from ltk.engine.signals import catch_stop_signals
from ltk.engine.trainer import Trainer
from ltk.errors import DataError
from ltk.evaluation.evaluate import ensure_logits
from ltk.evaluation.images import OpenedImages
from ltk.evaluation.weights import check_own
from ltk.files import disk_faults
from ltk.run_files import CARD, ENVIRONMENT, MODEL, PARENT, SPLIT, read_run_config


@dataclass(frozen=True)
class FitResult:
    """How a run ended.

    Attributes:
        folder: the run directory.
        records: one per evaluated epoch of this process, as in ``metrics.jsonl``.
    """

    folder: Path
    records: list[Mapping[str, Any]] = field(default_factory=list)


def fit(
    config: RunConfig,
    *,
    out: Path | None = None,
    runs: Path = Path("runs"),
    reporter: Reporter | None = None,
) -> FitResult:
    """Train a new run from its configuration.

    Args:
        config: everything that decides the run.
        out: its directory; None takes the next free one under ``runs``.
        runs: the folder of runs.
        reporter: told how it goes.

    Raises:
        LtkError: what the user can mend; see its exit codes.
    """
    with process_group(config.run):
        leading = leading_reporter(reporter)
        begun = find_begun_run(out, runs)
        if begun is None:
            return _start(config, out, runs, leading)
        leading.warn(f"restart {count_restarts()}: {begun} goes on from its last checkpoint")
        stored = read_run_config(begun)
        return _continue(begun, stored, stored, leading)


def _start(config: RunConfig, out: Path | None, runs: Path, reporter: Reporter) -> FitResult:
    if out is not None and distributed.is_leader():
        check_free(out)
    parent = open_parent(config.parent)
    plan = plan_data(config)
    built = _begin(plan, parent)
    origin = parent.describe() if parent else None
    with closing(open_run_dir(lambda: RunDir.create(out, runs, plan.config))) as run_dir:
        if distributed.is_leader():
            _write_start(run_dir, plan, origin)
        return _train(built, run_dir, reporter, origin)


def _write_start(run_dir: RunDir, plan: DataPlan, origin: dict[str, Any] | None) -> None:
    run = plan.config.run
    with disk_faults(run_dir.path):
        plan.manifest.write(run_dir.path / SPLIT)
    if origin:
        run_dir.write_json(PARENT, origin)
    environment = describe_environment(run.threads, run.device, run.precision)
    run_dir.write_json(ENVIRONMENT, environment | ({"job": job_name()} if job_name() else {}))
    run_dir.write_config(plan.config)  # last: a folder that holds it can be continued


def resume(folder: Path, *, config: RunConfig | None = None, reporter: Reporter | None = None) -> FitResult:
    """Continue a run exactly where its newest whole checkpoint stands.

    Args:
        folder: the run directory.
        config: of the run from here on, see ``amend_config``; as it was when None.
        reporter: told how it goes, and what differs.

    Raises:
        DataError: no run, no whole checkpoint, or other images or another network than the run's; or a second stage
            that does not know its first.
        BusyError: another process trains it, or ``config`` would make another run of it.
    """
    stored = read_run_config(folder)
    wanted = config or stored
    with process_group(wanted.run):
        return _continue(folder, stored, wanted, leading_reporter(reporter))


def _continue(folder: Path, stored: RunConfig, wanted: RunConfig, reporter: Reporter) -> FitResult:
    with closing(open_run_dir(lambda: RunDir(folder))) as run_dir:
        checkpoint = _load(run_dir, reporter)
        before = _read_config(checkpoint, folder) if checkpoint else stored
        check_amended(before, wanted)
        origin = read_origin(folder) if wanted.parent.path else None
        plan = plan_data(wanted, Manifest.read(folder / SPLIT))
        run = plan.config.run
        environment = describe_environment(run.threads, run.device, run.precision)
        for line in (*describe_amendments(before, plan.config), *run_dir.compare_environment(environment)):
            reporter.warn(line)
        built = build(plan) if checkpoint else _begin(plan, open_parent(plan.config.parent))
        if checkpoint:
            image = {"image": built.description["image"]}  # of the images as this version of ltk reads them
            check_own(folder, checkpoint.metadata, checkpoint.state, plan.config, plan.manifest, image)
            for line in describe_other_world(checkpoint.state.get("processes", 1)):
                reporter.warn(line)
        if plan.config != stored and distributed.is_leader():
            run_dir.write_config(plan.config)
        return _train(built, run_dir, reporter, origin, checkpoint)


def _begin(plan: DataPlan, parent: Parent | None) -> Built:
    """Build the network of a run that has not begun yet, and let it take over what its parent learnt."""
    if parent:
        parent.check_images(plan.manifest)
    built = build(plan)
    built.method.start_from(parent.network if parent else None)
    return built


def _load(run_dir: RunDir, reporter: Reporter) -> Checkpoint | None:
    """The newest whole checkpoint; None where the run was killed before it wrote its first one."""
    if not run_dir.has_begun and (run_dir.path / CARD).exists():
        raise DataError(
            f"{run_dir.path} holds a model file that is judged there; it was not trained there",
            "Train on with ltk finetune-classifier FILE, or begin a run from it with --set model.pretrained=FILE.",
        )
    if not run_dir.has_begun:
        reporter.warn(f"{run_dir.path} has no checkpoint yet: it starts from the beginning")
        return None
    checkpoint, complaints = load_newest(run_dir.checkpoints)
    for complaint in complaints:
        reporter.warn(f"{complaint}; using the checkpoint before it")
    return checkpoint


def _read_config(checkpoint: Checkpoint, folder: Path) -> RunConfig:
    try:
        return RunConfig.model_validate(checkpoint.state.get("config"))
    except ValidationError as error:
        fault = explain(error, RunConfig, f"the checkpoint of {folder} is damaged")
        raise DataError(fault.message, "Put back the checkpoints of this run.") from error


def _restore(trainer: Trainer, checkpoint: Checkpoint) -> None:
    try:
        trainer.restore(checkpoint)
    except torch.OutOfMemoryError:
        raise
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise DataError(
            f"the checkpoint of {trainer.run_dir.path} does not fit its network: {str(error).splitlines()[-1].strip()}",
            "Put back the checkpoints of this run, or start a new one.",
        ) from error


def _train(
    built: Built,
    run_dir: RunDir,
    reporter: Reporter,
    origin: Mapping[str, Any] | None,
    checkpoint: Checkpoint | None = None,
) -> FitResult:
    trainer = Trainer(built, run_dir, reporter)
    if checkpoint:
        _restore(trainer, checkpoint)
    check_alike("images, or not the same checkpoint", f"{built.plan.manifest.fingerprint} {trainer.position}")
    if trainer.position.epoch < built.plan.config.optim.epochs and distributed.is_leader():
        (run_dir.path / CARD).unlink(missing_ok=True)  # of a run that was finished, and now gets more epochs
    reporter.start(built, run_dir.path, trainer.position.epoch)
    with catch_stop_signals() as stop:
        trainer.run(stop)
    _finish(trainer, origin)
    return FitResult(run_dir.path, trainer.records)


def _finish(trainer: Trainer, origin: Mapping[str, Any] | None) -> None:
    """Write what a finished run leaves: the model file, the logits of the images it began with, the protocol card."""
    folder, built, plan = trainer.run_dir.path, trainer.built, trainer.built.plan
    if not distributed.is_leader():
        return
    save_model(folder / MODEL, trainer.network, built.description)
    images = OpenedImages(plan.manifest, plan.splits, plan.groups)
    for split in sorted({"test", plan.selection} & set(plan.splits)):
        ensure_logits(folder, split, device=str(built.device), images=images)
    write_card(folder, built, trainer.position, origin)
