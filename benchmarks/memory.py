"""Peak memory of a training step: ltk against a plain rendering, and its growth with classes and queue.

Counted are the tensors that exist at one time (parameters, gradients, momentum, state, activations), operator by
operator, the stored images aside; the figures are the same on every machine.

    python benchmarks/memory.py
    python benchmarks/memory.py --classes 100 1000 8142 --json

"bytes per class" is the slope between the smallest and the largest number of classes. State that were a matrix of
class by class would add 4 x 8,142 bytes per class at 8,142 classes for each such matrix.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from benchmarks._measure import create_parser, format_table, prepare, show
from benchmarks._memory import measure_peak
from benchmarks._sides import METHODS, LtkSide, PlainSide, Task

_SMALL = Task("ce", width=4, depth=8, batch=16, precision="fp32")  # so that what grows with classes shows


def measure_sides(task: Task) -> dict[str, float]:
    """Return the peaks of both sides in bytes, and plain / ltk."""
    ltk, plain = LtkSide(task), PlainSide(task)
    ours, theirs = measure_peak(ltk.step, ltk.held), measure_peak(plain.round, plain.held)
    return {"ltk": ours, "plain": theirs, "ratio": round(theirs / ours, 2)}


def measure_classes(method: str, classes: Sequence[int]) -> dict[str, float]:
    """Return ltk's peak in bytes by number of classes, and the slope."""
    peaks = {}
    for count in classes:
        side = LtkSide(replace(_SMALL, method=method, classes=count))
        peaks[str(count)] = measure_peak(side.step, side.held)
    slope = (peaks[str(classes[-1])] - peaks[str(classes[0])]) / max(classes[-1] - classes[0], 1)
    return {**peaks, "bytes_per_class": round(slope)}


def measure_queue(sizes: Sequence[int]) -> dict[str, float]:
    """Return PaCo's peak in bytes by queue size, and the slope."""
    peaks = {}
    for size in sizes:
        side = LtkSide(replace(_SMALL, method="paco", overrides=(f"method.queue_size={size}",)))
        peaks[str(size)] = measure_peak(side.step, side.held)
    slope = (peaks[str(sizes[-1])] - peaks[str(sizes[0])]) / max(sizes[-1] - sizes[0], 1)
    return {**peaks, "bytes_per_key": round(slope)}


def main() -> None:
    """Parse, measure, print."""
    parser = create_parser(__doc__, rounds=1)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--width", type=int, default=16, help="of the ResNet-32 that is compared with the plain side")
    parser.add_argument("--batch", type=int, default=32, help="images per step and stream there")
    parser.add_argument("--classes", nargs="+", type=int, default=[100, 1000, 8142])
    parser.add_argument("--queues", nargs="+", type=int, default=[1024, 8192, 65536])
    options = parser.parse_args()
    prepare(options.threads)
    sides = {m: measure_sides(Task(m, width=options.width, batch=options.batch)) for m in options.methods}
    classes = {m: measure_classes(m, options.classes) for m in options.methods}
    queue = measure_queue(options.queues)
    results = {"step": sides, "classes": classes, "queue": queue}
    rows = [[f"peak in MB, width {options.width}, batch {options.batch}", "ltk", "plain", "plain / ltk"]]
    rows += [[m, _mb(v["ltk"]), _mb(v["plain"]), f"{v['ratio']:.2f}"] for m, v in sides.items()]
    show(results, rows, threads=options.threads, as_json=options.json)
    if not options.json:
        rows = [["ltk's peak in MB by classes", *map(str, options.classes), "bytes per class"]]
        rows += [[m, *(_mb(v[str(k)]) for k in options.classes), str(v["bytes_per_class"])] for m, v in classes.items()]
        print("\n" + format_table(rows))
        rows = [["ltk's peak in MB by queue", *map(str, options.queues), "bytes per key"]]
        rows += [["paco", *(_mb(queue[str(size)]) for size in options.queues), str(queue["bytes_per_key"])]]
        print("\n" + format_table(rows))


def _mb(size: float) -> str:
    return f"{size / 1e6:.1f}"


if __name__ == "__main__":
    main()
