"""What torch.compile gains on this processor, and what it costs before the first step.

A shallower ResNet is compiled, because compiling takes minutes; what is gained is gained layer by layer.

    python benchmarks/engines.py
    python benchmarks/engines.py --method glmc --depth 32 --json
"""

from __future__ import annotations

import time
from dataclasses import asdict, replace

from benchmarks._measure import RATIO_COLUMNS, compare, create_parser, prepare, ratio_cells, show
from benchmarks._sides import METHODS, LtkSide, Task


def main() -> None:
    """Parse, measure, print."""
    parser = create_parser(__doc__, rounds=15)
    parser.add_argument("--method", choices=METHODS, default="ce")
    parser.add_argument("--width", type=int, default=16, help="of the ResNet")
    parser.add_argument("--depth", type=int, default=14, help="of the ResNet")
    options = parser.parse_args()
    prepare(options.threads)
    task = Task(options.method, width=options.width, depth=options.depth)
    eager, compiled = LtkSide(task), LtkSide(replace(task, engine="compile"))
    began = time.perf_counter()
    compiled.step()
    seconds = time.perf_counter() - began
    ratio = compare(compiled.step, eager.step, options.rounds)
    name = f"{options.method}, ResNet-{options.depth}, {options.width} wide: eager / compile"
    rows = [["engine", *RATIO_COLUMNS, "s to compile"], [name, *ratio_cells(ratio), f"{seconds:.0f}"]]
    shown = {name: {**asdict(ratio), "compile_seconds": round(seconds, 1)}}
    show(shown, rows, threads=options.threads, as_json=options.json)


if __name__ == "__main__":
    main()
