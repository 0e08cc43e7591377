"""What it costs to save so that nothing is lost: ltk's checkpoint beside a plain ``torch.save``, interleaved.

A plain save overwrites the file in place: a kill meanwhile leaves neither the old nor the new one. ltk writes beside
it, takes a sha256, flushes to the disk and renames.

    python benchmarks/resume.py
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from ltk.checkpoint import read_tensors, write_tensors

PARTS = 40


def create_tensors(megabytes: float) -> dict[str, Tensor]:
    """Return tensors of a given size in all."""
    return {f"layer{i}.weight": torch.randn(int(megabytes * 1e6 / 4 / PARTS)) for i in range(PARTS)}


def measure(actions: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Return the milliseconds of each action; they take turns, so that a busy disk hits all alike."""
    times: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(rounds):
        for name, action in actions.items():
            began = time.perf_counter()
            action()
            times[name].append(1000 * (time.perf_counter() - began))
    return {name: values[1:] for name, values in times.items()}


def compare(megabytes: int, folder: Path, rounds: int) -> list[str]:
    """Return two lines of the table: medians, and the fastest round, which other work on the machine disturbs least."""
    tensors, plain, safe = create_tensors(megabytes), folder / "plain.pt", folder / "safe.safetensors"
    save = measure(
        {"plain": lambda: torch.save(tensors, plain), "safe": lambda: write_tensors(safe, tensors, {})}, rounds
    )
    load = measure({"plain": lambda: torch.load(plain), "safe": lambda: read_tensors(safe)}, rounds)
    lines = []
    for name, middle in (("median", statistics.median), ("fastest", min)):
        a, b, c, d = (middle(times[kind]) for times in (save, load) for kind in ("plain", "safe"))
        lines.append(f"{megabytes:>5} {name:>8} {a:>11.1f} {b:>9.1f} {b / a:>6.2f} {b - a:>+7.1f} {c:>11.1f} {d:>9.1f}")
    return lines


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--folder", type=Path, help="on the disk to measure")
    parser.add_argument("--rounds", type=int, default=21)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, milliseconds")
    columns = ("MB", 5), ("rounds", 8), ("torch.save", 11), ("ltk save", 9), ("ratio", 6), ("added", 7)
    print(" ".join(f"{name:>{width}}" for name, width in (*columns, ("torch.load", 11), ("ltk load", 9))))
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for megabytes in (2, 100):
            print("\n".join(compare(megabytes, Path(folder), options.rounds)))


if __name__ == "__main__":
    main()
