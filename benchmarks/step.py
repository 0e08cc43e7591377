"""Training steps per second of ltk against a plain rendering of the official codes, data included, in one process.

The plain side changes PIL images one by one in a DataLoader, computes in float32 and NCHW, takes a forward per view,
torch's default optimiser, and reads loss and accuracy on the host at every step (see ``_plain.py``). ltk's side is its
engine. Network, batch, views and optimiser settings are the same: those of the published run on CIFAR-100-LT.

    python benchmarks/step.py
    python benchmarks/step.py --methods glmc --width 64 --rounds 3
    python benchmarks/step.py --methods glmc --width 16 --json

Both sides have one thread, and the loader works in the same process, so that each side has one core. With ``--workers``
the loader gets processes of its own; then take several ``--steps`` a round, and look at the wall clock alone.
"""

from __future__ import annotations

from dataclasses import asdict

from benchmarks._measure import RATIO_COLUMNS, Ratio, compare, create_parser, prepare, ratio_cells, show
from benchmarks._sides import METHODS, LtkSide, PlainSide, Task


def measure(task: Task, rounds: int, steps: int = 1) -> Ratio:
    """Compare the two sides of a task, ``steps`` steps a round."""
    ltk, plain = LtkSide(task), PlainSide(task, steps)

    def run_ltk() -> None:
        for _ in range(steps):
            ltk.step()

    return compare(run_ltk, plain.round, rounds)


def main() -> None:
    """Parse, measure, print."""
    parser = create_parser(__doc__, rounds=5)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--width", type=int, default=16, help="of the ResNet")
    parser.add_argument("--depth", type=int, default=32, help="of the ResNet")
    parser.add_argument("--batch", type=int, default=0, help="images per step and stream (0: as published)")
    parser.add_argument("--steps", type=int, default=1, help="per round and side")
    parser.add_argument("--workers", type=int, default=0, help="processes of the plain side's loaders")
    parser.add_argument("--precision", default="auto", help="of ltk's side: auto, fp32, bf16")
    parser.add_argument("--engine", choices=("eager", "compile"), default="eager", help="of ltk's side")
    options = parser.parse_args()
    prepare(options.threads)
    results = {}
    for method in options.methods:
        task = Task(
            method,
            width=options.width,
            depth=options.depth,
            batch=options.batch,
            precision=options.precision,
            engine=options.engine,
            workers=options.workers,
        )
        results[method] = measure(task, options.rounds, options.steps)
    rows = [["step", *RATIO_COLUMNS], *([name, *ratio_cells(value)] for name, value in results.items())]
    shown = {name: asdict(value) for name, value in results.items()}
    show(shown, rows, threads=options.threads, as_json=options.json)


if __name__ == "__main__":
    main()
