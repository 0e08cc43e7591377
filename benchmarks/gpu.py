"""Full published runs on one GPU, on synthetic images in the shape of CIFAR-100-LT (imbalance 100): 10,847 images.

For each method and engine: a short run that fails at the first synchronisation within a step, the time of a step and
what of it the host needs, then ``ltk train`` from the first step to the saved logits, with times, peak memory and
utilisation. Results are written after every run, so that an interrupted measurement keeps what it has.

    python benchmarks/gpu.py --out gpu.json
    python benchmarks/gpu.py --methods glmc --engines graph compile --epochs 20 --out glmc.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

from benchmarks._measure import prepare
from ltk.config import RunConfig
from ltk.data.base import ArraySplit, Source
from ltk.engine.build import build, plan_data
from ltk.engine.fit import fit
from ltk.engine.optim import set_learning_rate
from ltk.engine.reporter import SilentReporter
from ltk.engine.run_dir import RunDir
from ltk.engine.trainer import Trainer
from ltk.files import read_records
from ltk.resolve import resolve_config
from ltk.run_files import TIMES

METHODS = ("glmc", "gcl", "paco", "gpaco", "reslt", "bagmar")
_OPENERS = ("ltk.engine.build.open_configured_source", "ltk.evaluation.images.open_configured_source")
_WARM_UPS = 10  # steps, and the capture
_STRETCHES, _STEPS = 5, 20  # timed; each stretch lies in one epoch, which may be shorter
_LOSSES = 200


class Listener(SilentReporter):
    """Keeps warnings: why an engine gave way."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        """Keep it."""
        self.warnings.append(text)


def create_source() -> Source:
    """Return noise in the shape of CIFAR-100."""
    random = np.random.RandomState(0)
    splits = {}
    for name, each in (("train", 500), ("test", 100)):
        pixels = random.randint(0, 256, (100 * each, 3, 32, 32)).astype(np.uint8)
        splits[name] = ArraySplit(pixels, np.arange(100 * each) % 100, name)
    names = tuple(f"class {i}" for i in range(100))
    return Source("cifar100", names, splits, (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761), 32, 32)


def create_config(method: str, engine: str, epochs: int | None, width: int | None) -> RunConfig:
    """Return the published settings, on the GPU; the checkpoint every tenth epoch."""
    options = {"optim.epochs": epochs, "model.width": width, "run.device": "cuda", "run.engine": engine}
    options |= {"run.save_every": 10, "run.threads": 4}
    given = {key: value for key, value in options.items() if value is not None}
    return resolve_config(method, dataset="cifar100", imb=100, options=given).config


def create_trainer(config: RunConfig, folder: Path, listener: Listener) -> tuple[Trainer, RunDir]:
    """Return a trainer that has done nothing yet."""
    built = build(plan_data(config))
    run_dir = RunDir.create(folder, folder.parent, built.plan.config)
    return Trainer(built, run_dir, listener), run_dir


def take_steps(trainer: Trainer) -> Iterator[int]:
    """Carry out steps, epoch after epoch, without evaluating or saving."""
    epoch = 0
    trainer.built.method.train()
    while True:
        set_learning_rate(trainer.optimizer, trainer.learning_rate)
        yield from trainer.runner.epoch(epoch, 0, epoch * trainer.built.loader.steps)
        epoch += 1


def measure_steps(config: RunConfig, folder: Path) -> dict[str, Any]:
    """Return milliseconds of a step and of the host's part in it; fails where a step synchronises."""
    listener = Listener()
    trainer, run_dir = create_trainer(config, folder, listener)
    with closing(run_dir):
        for _ in islice(take_steps(trainer), _WARM_UPS):
            pass
        times = [_time_steps(trainer) for _ in range(_STRETCHES)]
    host, whole = (statistics.median(column) for column in zip(*times, strict=True))
    return {"step_ms": whole, "host_ms": host, "synchronisations": 0, "warnings": listener.warnings}


def _time_steps(trainer: Trainer) -> tuple[float, float]:
    """Milliseconds a step of an epoch until all were queued, and until all were done.

    The first step belongs to the start of the epoch, which may wait, and the last one may be smaller: both are left
    out, unless there are no others.
    """
    whole = trainer.built.loader.steps
    count = max(1, min(_STEPS, whole - 2))
    steps = trainer.runner.epoch(0, 0, 0)
    if whole > 1:
        next(steps)
    torch.cuda.synchronize()
    began = time.perf_counter()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(count):
            next(steps)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    queued = time.perf_counter() - began
    torch.cuda.synchronize()
    return 1e3 * queued / count, 1e3 * (time.perf_counter() - began) / count


def read_losses(config: RunConfig, folder: Path) -> list[float]:
    """Return the mean losses of stretches of 10 steps, over 200 steps."""
    trainer, run_dir = create_trainer(config, folder, Listener())
    losses = []
    with closing(run_dir):
        steps = take_steps(trainer)
        for _ in range(_LOSSES // 10):
            for _ in range(10):
                next(steps)
            losses.append(trainer.meters.means()["loss"])
            trainer.meters.reset()
    return losses


@contextmanager
def sample_utilisation() -> Iterator[list[float]]:
    """Sample the GPU's utilisation in percent, twice a second."""
    samples: list[float] = []
    done = threading.Event()
    query = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-i", "0"]

    def sample() -> None:
        while not done.wait(0.5):
            samples.append(float(subprocess.run(query, capture_output=True, text=True, check=True).stdout))

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield samples
    finally:
        done.set()
        thread.join()


def measure_run(config: RunConfig, folder: Path) -> dict[str, Any]:
    """Return seconds of a whole run, of its epochs, peak memory and utilisation."""
    listener = Listener()
    torch.cuda.reset_peak_memory_stats()
    began = time.perf_counter()
    with sample_utilisation() as samples:
        fit(config, out=folder, reporter=listener)
    seconds = time.perf_counter() - began
    epochs = [record["seconds"] for record in read_records(folder / TIMES)]
    return {
        "seconds": seconds,
        "training_seconds": sum(epochs),
        "epoch_seconds_median": statistics.median(epochs),
        "peak_gb": torch.cuda.max_memory_allocated() / 1e9,
        "utilisation_percent": statistics.mean(samples) if samples else None,
        "warnings": listener.warnings,
    }


def measure(method: str, engine: str, epochs: int | None, width: int | None) -> dict[str, Any]:
    """Return all figures of one method and engine."""
    config = create_config(method, engine, epochs, width)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        result: dict[str, Any] = {"width": config.model.width, "epochs": config.optim.epochs}
        result |= {"steps": measure_steps(config, folder / "steps"), "losses": read_losses(config, folder / "losses")}
        return result | {"run": measure_run(config, folder / "run")}


def main() -> None:
    """Parse, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--engines", nargs="+", choices=("eager", "graph", "compile"), default=["graph"])
    parser.add_argument("--epochs", type=int, help="of a run (default: as published)")
    parser.add_argument("--width", type=int, help="of the ResNet-32 (default: as published)")
    parser.add_argument("--out", type=Path, default=Path("gpu.json"))
    options = parser.parse_args()
    prepare(4)
    source = create_source()
    results: dict[str, Any] = {"device": torch.cuda.get_device_name(), "torch": torch.__version__}
    with mock.patch(_OPENERS[0], return_value=source), mock.patch(_OPENERS[1], return_value=source):
        for method in options.methods:
            for engine in options.engines:
                name = f"{method} {engine}"
                try:
                    results[name] = measure(method, engine, options.epochs, options.width)
                except RuntimeError as error:  # a synchronisation, or no memory: the others are measured all the same
                    results[name] = {"error": str(error)}
                print(json.dumps({name: results[name]}), flush=True)
                options.out.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
