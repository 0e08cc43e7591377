"""How training scales over processes: measured here over 1, 2, 4, and predicted for 1 to 64 GPUs.

Each process has the same number of images, so that work grows with their number. Measured are the median step, the same
step with nothing exchanged (each process trains by itself, at the same time), and so the share of communication;
efficiency is the step of one process / the step of N. Processes that share cores, among themselves or with other
programs, slow each other down whatever they exchange: processor time, which stands beside, does not suffer from that.

    python benchmarks/scale.py
    python benchmarks/scale.py --method glmc --width 64 --batch 64 --json
    python benchmarks/scale.py --no-run --step-ms 100 --gradient-mb 102    only predict, for a GPU measured elsewhere

The prediction: N devices with the step of one process each, measured here or given, all-reducing its gradients in a
ring; the last bucket, and what does not fit under the backward pass, is waited for. Its assumptions are options, and
are printed.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch.distributed as dist

from benchmarks._measure import Spent, create_parser, describe_machine, format_table, prepare, spend
from benchmarks._sides import LtkSide, Task
from ltk import distributed
from ltk.config import RunSettings
from ltk.engine.parallel import process_group

_WORLDS, _GPUS = (1, 2, 4), (1, 2, 4, 8, 16, 32, 64)
_BACKWARD = 2 / 3  # of a step: the gradients go out while it runs
_BUCKET = (
    25e6  # bytes of gradients that go out together (torch's bucket_cap_mb); the last ones have nothing to hide under
)


@dataclass(frozen=True)
class Network:
    """What connects the GPUs.

    Attributes:
        per_node: GPUs of a machine.
        inside: bytes per second of all-reduce within a machine, per GPU.
        between: bytes per second between machines, per machine.
        latency: seconds of a message.
    """

    per_node: int
    inside: float
    between: float
    latency: float


def predict(gpus: int, step: float, gradient: float, network: Network) -> tuple[float, float, float]:
    """Return seconds of a step, seconds of its all-reduce, and efficiency.

    A ring all-reduce sends 2 (N - 1) / N of the gradients over its slowest link, in 2 (N - 1) messages. Over machines
    that link carries the rings of all GPUs of a machine, which reduce among themselves first.

    Args:
        gpus: N.
        step: seconds of a step of one GPU.
        gradient: bytes.
        network: what connects them.
    """
    inner, nodes = min(gpus, network.per_node), -(-gpus // network.per_node)
    reduce = 2 * (inner - 1) / inner * gradient / network.inside + 2 * (inner - 1) * network.latency
    reduce += 2 * (nodes - 1) / nodes * gradient / network.between + 2 * (nodes - 1) * network.latency
    whole = step + max(reduce * min(1.0, _BUCKET / gradient), reduce - _BACKWARD * step)
    return whole, reduce, step / whole


def measure(world: int) -> dict[str, Any]:
    """Return the figures of so many processes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(world)}
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        command = [sys.executable, __file__, *sys.argv[1:], "--answer", str(answer)]
        ranks = [{**os.environ, **common, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(world)]
        processes = [subprocess.Popen(command, env=rank) for rank in ranks]
        codes = [process.wait() for process in processes]
        if any(codes):
            raise RuntimeError(f"{world} processes ended with codes {codes}")
        return dict(json.loads(answer.read_text(encoding="utf-8")))


def run_rank(options: argparse.Namespace) -> None:
    """Time steps with and without exchange, in turn, and let rank 0 write the medians."""
    task = Task(options.method, width=options.width, batch=options.batch, precision="fp32")
    with process_group(RunSettings(device="cpu")):
        together = LtkSide(task)
        with _nothing_exchanged():
            alone = LtkSide(task)
        times: list[tuple[Spent, Spent]] = []
        for _ in range(options.rounds + 1):
            spent = _time_step(together)
            with _nothing_exchanged():
                times.append((spent, _time_step(alone)))
    if os.environ["RANK"] == "0":
        gradient = sum(each.nbytes for each in together.method.parameters() if each.requires_grad)
        found = {
            "step_ms": 1e3 * statistics.median(step.wall for step, _ in times[1:]),
            "alone_ms": 1e3 * statistics.median(own.wall for _, own in times[1:]),
            "cpu_ms": 1e3 * statistics.median(step.cpu for step, _ in times[1:]),
            "communication": 1 - statistics.median(min(own.wall / step.wall, 1.0) for step, own in times[1:]),
            "communication_cpu": 1 - statistics.median(min(own.cpu / step.cpu, 1.0) for step, own in times[1:]),
            "gradient_mb": gradient / 1e6,
        }
        options.answer.write_text(json.dumps(found), encoding="utf-8")


@contextmanager
def _nothing_exchanged() -> Iterator[None]:
    """Let this process believe that it trains by itself."""
    world_size = distributed.world_size
    distributed.world_size = lambda: 1
    try:
        yield
    finally:
        distributed.world_size = world_size


def _time_step(side: LtkSide) -> Spent:
    """Time a step that begins on all ranks at once."""
    if dist.is_initialized():
        dist.barrier()
    return spend(side.step)


def predict_all(step_ms: float, gradient_mb: float, network: Network) -> dict[str, dict[str, float]]:
    """Return the prediction by number of GPUs."""
    found = {}
    for gpus in _GPUS:
        whole, reduce, efficiency = predict(gpus, step_ms / 1e3, gradient_mb * 1e6, network)
        found[str(gpus)] = {
            "step_ms": round(1e3 * whole, 2),
            "reduce_ms": round(1e3 * reduce, 2),
            "efficiency": round(efficiency, 3),
            "times_as_fast": round(gpus * efficiency, 1),
        }
    return found


def measured_rows(measured: dict[str, dict[str, Any]]) -> list[list[str]]:
    """Return the measured figures as a table."""
    head = ["processes", "step ms", "nothing exchanged ms", "communication", "efficiency"]
    rows = [[*head, "CPU ms of each", "communication, of it", "gradients MB"]]
    for world, v in measured.items():
        cells = [f"{v['step_ms']:.0f}", f"{v['alone_ms']:.0f}", f"{100 * v['communication']:.0f} %"]
        cells += [f"{100 * v['efficiency']:.0f} %", f"{v['cpu_ms']:.0f}", f"{100 * v['communication_cpu']:.0f} %"]
        rows.append([world, *cells, f"{v['gradient_mb']:.2f}"])
    return rows


def predicted_rows(predicted: dict[str, dict[str, float]]) -> list[list[str]]:
    """Return the prediction as a table."""
    rows = [["GPUs", "all-reduce ms", "step ms", "efficiency", "times as fast"]]
    for gpus, v in predicted.items():
        cells = [f"{v['reduce_ms']:.2f}", f"{v['step_ms']:.1f}"]
        rows.append([gpus, *cells, f"{100 * v['efficiency']:.0f} %", f"{v['times_as_fast']:.1f}"])
    return rows


def describe_assumptions(options: argparse.Namespace) -> str:
    """Return what the prediction rests on."""
    return (
        f"assumed: a step of {options.step_ms:.4g} ms on one GPU, {options.gradient_mb:.4g} MB of gradients, "
        f"{options.per_node} GPUs a machine, {options.inside:g} GB/s per GPU inside and {options.between:g} GB/s per "
        f"machine between, {options.latency:g} us a message; the all-reduce goes on under the backward pass "
        f"({_BACKWARD:.0%} of a step), but for the last {_BUCKET / 1e6:g} MB; as many images for each GPU however many "
        "there are, all equally fast; reading and evaluation aside"
    )


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = create_parser(__doc__, rounds=15)
    parser.add_argument("--method", default="ce")
    parser.add_argument("--width", type=int, default=16, help="of the ResNet-32")
    parser.add_argument("--batch", type=int, default=32, help="images of each process and stream")
    parser.add_argument("--worlds", nargs="+", type=int, default=_WORLDS, help="numbers of processes")
    parser.add_argument("--no-run", action="store_true", help="only predict")
    parser.add_argument("--step-ms", type=float, help="of one GPU, from ltk train --dry-run there (as measured here)")
    parser.add_argument("--gradient-mb", type=float, help="4 bytes a parameter, ResNet-50: 102.2 (as measured here)")
    parser.add_argument("--per-node", type=int, default=8, help="GPUs of a machine")
    parser.add_argument("--inside", type=float, default=150.0, help="GB/s per GPU within a machine")
    parser.add_argument("--between", type=float, default=12.5, help="GB/s per machine (100 Gbit/s)")
    parser.add_argument("--latency", type=float, default=10.0, help="microseconds of a message")
    parser.add_argument("--answer", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.no_run and not (options.step_ms and options.gradient_mb):
        parser.error("--no-run measures nothing: give --step-ms and --gradient-mb")
    return options


def main() -> None:
    """Parse, measure, predict, print."""
    options = parse()
    prepare(options.threads)
    if options.answer:
        run_rank(options)
        return
    measured = {} if options.no_run else {str(world): measure(world) for world in options.worlds}
    first = next(iter(measured.values()), None)
    for found in measured.values():
        found["efficiency"] = first["step_ms"] / found["step_ms"] if first else 1.0
    network = Network(options.per_node, options.inside * 1e9, options.between * 1e9, options.latency / 1e6)
    if first:  # processor time of one thread: a step on a core of its own
        options.step_ms = options.step_ms or first["cpu_ms"]
        options.gradient_mb = options.gradient_mb or first["gradient_mb"]
    predicted = predict_all(options.step_ms, options.gradient_mb, network)
    if options.json:
        print(json.dumps({"measured": measured, "predicted": predicted, "assumed": describe_assumptions(options)}))
        return
    machine = describe_machine(options.threads)
    print(", ".join(f"{name.replace('_', ' ')} {value}" for name, value in machine.items()))
    if measured:
        print(f"{options.method}, ResNet-32 {options.width} wide, {options.batch} images per process")
        print(format_table(measured_rows(measured)))
    print("\n" + describe_assumptions(options))
    print(format_table(predicted_rows(predicted)))


if __name__ == "__main__":
    main()
