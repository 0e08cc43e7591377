"""Where the time of ltk's step goes, method by method: shares of its parts and the slowest operators.

python benchmarks/parts.py
python benchmarks/parts.py --methods glmc --width 64 --json
"""

from __future__ import annotations

import os
import time
from typing import Any

from torch.profiler import ProfilerActivity, profile

from benchmarks._measure import create_parser, prepare, show
from benchmarks._sides import METHODS, LtkSide, Task
from ltk.engine.profile import measure_parts, slowest_operators


def measure(task: Task, steps: int) -> dict[str, Any]:
    """Return milliseconds a step, the share of each part, and the slowest operators."""
    side = LtkSide(task)
    side.step()
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        began = time.perf_counter()
        for _ in range(steps):
            side.step()
        seconds = time.perf_counter() - began
    averages = profiler.key_averages()
    parts = {part: round(spent / seconds, 4) for part, spent in measure_parts(averages, seconds).items()}
    slowest = slowest_operators(averages, "self_cpu_time_total", 5)
    return {"ms": round(1e3 * seconds / steps, 1), "parts": parts, "slowest": slowest}


def main() -> None:
    """Parse, measure, print."""
    parser = create_parser(__doc__, rounds=3)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--width", type=int, default=16, help="of the ResNet")
    parser.add_argument("--depth", type=int, default=32, help="of the ResNet")
    options = parser.parse_args()
    prepare(options.threads)
    results = {m: measure(Task(m, width=options.width, depth=options.depth), options.rounds) for m in options.methods}
    names = list(next(iter(results.values()))["parts"])
    rows = [["share of a step", *names, "slowest operators"]]
    for method, value in results.items():
        shares = [f"{100 * value['parts'][name]:.1f} %" for name in names]
        rows.append([method, *shares, ", ".join(value["slowest"][:3])])
    show(results, rows, threads=options.threads, as_json=options.json)


if __name__ == "__main__":
    main()
