"""Measuring side by side: two ways of the same work, in one process, in random order, round after round.

The figure is the median over rounds of the ratio, with its quartiles; the processor time of this process stands beside
the wall clock, because other programs disturb it less.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

Work = Callable[[], object]


@dataclass(frozen=True)
class Ratio:
    """How many times as fast as the other side.

    Attributes:
        ltk_ms: median milliseconds of ltk's side.
        other_ms: median milliseconds of the other side.
        ratio: median over rounds of other / ltk.
        ratio_low: its lower quartile.
        ratio_high: its upper quartile.
        cpu_ratio: the median ratio of this process's processor times.
    """

    ltk_ms: float
    other_ms: float
    ratio: float
    ratio_low: float
    ratio_high: float
    cpu_ratio: float


@dataclass(frozen=True)
class Spent:
    """Seconds by the wall clock and of this process on its processors."""

    wall: float
    cpu: float


def spend(work: Work, repeats: int = 1) -> Spent:
    """Time work; seconds are those of one repetition."""
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(repeats):
        work()
    return Spent((time.perf_counter() - wall) / repeats, (time.process_time() - cpu) / repeats)


def interleave(
    sides: Mapping[str, Work], rounds: int, repeats: Mapping[str, int] | None = None
) -> dict[str, list[Spent]]:
    """Time each side once a round, in random order; a first round warms up and does not count.

    Args:
        sides: the work of each side.
        rounds: that count.
        repeats: repetitions of a side within a round, where one alone is too short to time.
    """
    spent: dict[str, list[Spent]] = {name: [] for name in sides}
    for _ in range(rounds + 1):
        for name in random.sample(list(sides), len(sides)):
            spent[name].append(spend(sides[name], (repeats or {}).get(name, 1)))
    return {name: times[1:] for name, times in spent.items()}


def summarise(ltk: Sequence[Spent], other: Sequence[Spent]) -> Ratio:
    """Return the ratio of two sides that were timed round by round."""
    ratios = [b.wall / a.wall for a, b in zip(ltk, other, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else ratios * 3
    cpu = statistics.median(b.cpu / max(a.cpu, 1e-9) for a, b in zip(ltk, other, strict=True))
    ltk_ms, other_ms = (1e3 * statistics.median(each.wall for each in side) for side in (ltk, other))
    return Ratio(*(round(value, 3) for value in (ltk_ms, other_ms, middle, low, high, cpu)))


def compare(ltk: Work, other: Work, rounds: int, repeats: int = 1) -> Ratio:
    """Time ltk's side against another; ltk's is repeated ``repeats`` times a round."""
    spent = interleave({"ltk": ltk, "other": other}, rounds, {"ltk": repeats})
    return summarise(spent["ltk"], spent["other"])


def fit_slope(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Return the exponent p of ``value ~ size ** p``, by least squares on logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def create_parser(description: str | None, rounds: int) -> argparse.ArgumentParser:
    """Return a parser with the options all benchmarks share."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=rounds, help="that count; one more warms up")
    parser.add_argument("--threads", type=int, default=1, help="of either side")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def prepare(threads: int) -> None:
    """Fix threads and seeds; call first."""
    torch.set_num_threads(threads)
    random.seed(0)
    np.random.seed(0)  # the official pipelines draw from it
    torch.manual_seed(0)


def describe_machine(threads: int) -> dict[str, Any]:
    """Return what the figures depend on."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": threads,
        "load_average": round(os.getloadavg()[0], 2),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d"),
    }


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def show(results: Mapping[str, Any], rows: Sequence[Sequence[str]], *, threads: int, as_json: bool) -> None:
    """Print the results as one JSON object, or the rows as a table under the machine; the first row is the header."""
    if as_json:
        print(json.dumps(results, indent=2))
        return
    machine = describe_machine(threads)
    print(", ".join(f"{name.replace('_', ' ')} {value}" for name, value in machine.items()))
    print(format_table(rows))


def format_table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as text in columns, the first column left-aligned."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    aligned = [
        [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        for row in rows
    ]
    return "\n".join("  ".join(cells).rstrip() for cells in aligned)


RATIO_COLUMNS = ("ltk ms", "other ms", "ratio", "quartiles", "cpu ratio")


def ratio_cells(value: Ratio) -> list[str]:
    """Return a ratio as the cells under ``RATIO_COLUMNS``."""
    spread = f"{value.ratio_low:.2f} .. {value.ratio_high:.2f}"
    return [f"{value.ltk_ms:.1f}", f"{value.other_ms:.1f}", f"{value.ratio:.2f}", spread, f"{value.cpu_ratio:.2f}"]
