"""One of several processes that train cases in one process group; run by ``test_curves.py``."""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
import traceback
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ltk import distributed
from ltk.config import RunConfig
from ltk.config_text import create_config
from ltk.engine import device
from ltk.engine import fit as fit_module
from ltk.engine.fit import fit, resume
from ltk.engine.parallel import process_group
from ltk.engine.reporter import SilentReporter
from ltk.engine.stage_two import StageTwoRequest, resolve_stage_two
from ltk.engine.trainer import Trainer
from ltk.errors import StoppedError
from ltk.methods.baselines import CrossEntropy
from ltk.types import Batch, Progress, StepOutput

EPOCHS = 2
THREADS = "threads"
SAME: dict[str, dict[str, Any]] = {
    "ce": {"name": "ce"},
    "focal": {"name": "focal"},
    "balanced-softmax": {"name": "balanced-softmax"},
    "logit-adjustment": {"name": "logit-adjustment"},
    "gcl": {"name": "gcl", "mixup_alpha": 0.0},
    "ldam": {"name": "ldam", "drw": False},
    "glmc": {"name": "glmc", "resample_weighting": 0.5},
    "bagmar": {"name": "bagmar"},
    "paco": {"name": "paco", "queue_size": 128},
}
OTHER: dict[str, dict[str, Any]] = {
    "class-balanced": {"name": "class-balanced"},  # the mean is over the weights of a process's own images
    "ldam-drw": {"name": "ldam", "drw": True},  # so it is once the deferred weights set in
    "gpaco": {"name": "gpaco", "queue_size": 128},  # contrasts with a process's own images
    "reslt": {"name": "reslt"},  # batch normalisation in its branches
    "gcl-mixup": {"name": "gcl"},  # partners come from a process's own images
}


def create_case(method: Mapping[str, Any], batch_size: int = 64, **run: Any) -> RunConfig:
    """Digits on a network without batch normalisation, whose steps do not depend on how a batch is shared out."""
    backbone = {"backbone": "convnext_atto", "options": {"depths": [1, 1, 1, 1], "dims": [8, 12, 16, 24]}}
    options = {"lr": 0.02, "batch_size": batch_size, "epochs": EPOCHS, "schedule": {"kind": "constant"}}
    tree = {
        "data": {"dataset": "digits", "imb": 55, "image_size": 32},
        "model": backbone,
        "method": dict(method),
        "optim": options,
        "run": {"device": "cpu", "precision": "fp32", "threads": 1} | run,
    }
    return create_config(tree)


def create_stage_two(parent: Path) -> RunConfig:
    """A new classifier on the features of a finished run."""
    options = {"optim.epochs": EPOCHS, "optim.batch_size": 64, "run.device": "cpu", "run.threads": 1}
    request = StageTwoRequest(parent, "crt", options=options | {"run.precision": "fp32"})
    return resolve_stage_two(request).config


class Watched(Trainer):
    """Keeps the trainer of the last run within reach."""

    last: Trainer

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        Watched.last = self


class StopAt(SilentReporter):
    """Interrupts this process in the middle of the second epoch."""

    def step(self, epoch: int, done: int, steps: int, images: int) -> None:
        if (epoch, done) == (1, 3):
            os.kill(os.getpid(), signal.SIGINT)


def spoil_third_step() -> None:
    """From here on the third step of cross-entropy gives a loss that is not a number, on rank 1 alone."""
    forward, calls = CrossEntropy.forward, itertools.count(1)

    def spoilt(self: CrossEntropy, batches: Mapping[str, Batch], progress: Progress) -> StepOutput:
        output = forward(self, batches, progress)
        is_bad = next(calls) == 3 and distributed.rank() == 1
        return StepOutput(output.loss * float("nan"), output.logits_BK) if is_bad else output

    CrossEntropy.forward = spoilt  # type: ignore[method-assign]


def weights() -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in Watched.last.built.method.parameters()])


def train(name: str, config: RunConfig, folder: Path) -> dict[str, Any]:
    result = fit(config, out=folder / name)
    all_weights = distributed.gather(weights()[None])
    trainer = Watched.last
    _, total_K = trainer.built.evaluator.count_correct(trainer.built.method)
    return {
        "records": result.records,
        "are_equal": bool((all_weights == all_weights[0]).all()),
        "evaluated": int(total_K.sum()),
    }


def train_in_parts(config: RunConfig, run: Path) -> None:
    """Train a run with a stop in it."""
    with suppress(StoppedError):
        fit(config, out=run, reporter=StopAt())
    resume(run)


def train_with_dropout(folder: Path) -> None:
    """Train a run that drops paths, and the same one with a stop in it."""
    config = create_case(SAME["ce"])
    model = config.model.model_copy(update={"options": config.model.options | {"drop_path_rate": 0.5}})
    config = config.model_copy(update={"model": model})
    fit(config, out=folder / "dropout")
    train_in_parts(config, folder / "dropout-parts")


def train_with_own_threads(folder: Path) -> dict[str, Any]:
    """Train a run for which each process finds another number of threads to be the fastest, and one with a stop."""
    device.probe_threads = lambda cores, seconds=0.2: 1 + distributed.rank()
    config = create_case(SAME["ce"], batch_size=66, threads=0)
    fit(config, out=folder / THREADS)
    threads = torch.get_num_threads()
    train_in_parts(config, folder / f"{THREADS}-parts")
    return {"threads": threads}


def run_rank(folder: Path, names: list[str]) -> None:
    """Train the named cases; without a name all of them, a second stage, runs that are stopped and a spoilt one."""
    torch.set_num_threads(1)
    results: dict[str, Any] = {}
    fit_module.__dict__["Trainer"] = Watched
    cases = SAME | OTHER
    with process_group(create_case(SAME["ce"]).run):
        if THREADS in names:
            results[THREADS] = train_with_own_threads(folder)
        for name in [name for name in names or cases if name != THREADS]:
            results[name] = train(name, create_case(cases[name]), folder)
        if not names:
            results["crt"] = train("crt", create_stage_two(folder / "ce"), folder)
            with suppress(StoppedError):
                fit(create_case(SAME["ce"]), out=folder / "stopped", reporter=StopAt())
            results["stopped"] = vars(Watched.last.position)
            train_with_dropout(folder)
            spoil_third_step()
            results["spoilt"] = train("spoilt", create_case(SAME["ce"], on_nan="skip:2"), folder)
    (folder / f"{os.environ['RANK']}.json").write_text(json.dumps(results))


def fork_rank(rank: int, folder: Path, names: list[str]) -> int:
    """Start a rank as a copy of this process, which has imported everything; return its number."""
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank))
        run_rank(folder, names)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def main(folder: Path, world: int, names: list[str]) -> int:
    """Run all ranks; the first that fails ends the others."""
    os.environ["WORLD_SIZE"] = str(world)
    running = {fork_rank(rank, folder, names) for rank in range(world)}
    while running:
        process, status = os.wait()
        running.remove(process)
        if status:
            for other in running:
                os.kill(other, signal.SIGKILL)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]))
