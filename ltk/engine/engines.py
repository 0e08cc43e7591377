"""From the engine a run asks for to who carries out its steps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from ltk import distributed
from ltk.config import RunSettings
from ltk.engine.build import Built
from ltk.engine.capture import explain_no_capture
from ltk.engine.compiled import CompiledForward
from ltk.engine.meters import Meters
from ltk.engine.profile import ProfiledRunner
from ltk.engine.reporter import Reporter
from ltk.engine.runner import EagerRunner, GraphRunner, Runner
from ltk.engine.step import TrainStep


def create_runner(
    built: Built, step: TrainStep, meters: Meters, root: Tensor, reporter: Reporter, folder: Path
) -> Runner:
    """Return the runner of a run's engine; an engine that cannot be had gives way to eager, with the reason told.

    Args:
        built: loader, device, configuration.
        step: one optimisation step; for ``compile`` its forward is replaced.
        meters: told what each step gives.
        root: 0-dim int64 key of the run.
        reporter: told the reason, and the summary of a profile.
        folder: the run directory, for a profile.
    """
    config, run = built.plan.config, built.plan.config.run
    epochs, finite_only = config.optim.epochs, run.max_skips > 0
    eager = EagerRunner(built.loader, step, meters, root, epochs=epochs, finite_only=finite_only)
    if run.engine == "compile":
        _compile(built, step, reporter.warn)
    runner = choose_runner(run, eager, reporter.warn)
    if run.profile and distributed.is_leader():
        return ProfiledRunner(eager, runner, folder, reporter.note, epochs)
    return runner


def _compile(built: Built, step: TrainStep, warn: Callable[[str], None]) -> None:
    if distributed.world_size() > 1:
        warn("engine compile: the network runs as it is: several processes train together")
        return
    step.forward = CompiledForward(built.method, warn)


def choose_runner(run: RunSettings, eager: EagerRunner, warn: Callable[[str], None]) -> Runner:
    """Return the runner that captures steps where the engine does so and it can be had, else the eager one.

    Args:
        run: engine and precision.
        eager: carries out what is not replayed.
        warn: told why steps cannot be captured.
    """
    device, bank = torch.device(run.device), eager.loader.bank
    if run.engine != "graph" and not (run.engine == "compile" and device.type == "cuda"):
        return eager
    reason = explain_no_capture(device, run.precision, bank)
    if reason:
        warn(f"engine {run.engine}: steps run kernel by kernel: {reason}")
        return eager
    return GraphRunner(eager, warn)
