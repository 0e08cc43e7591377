"""How ltk's times grow: with images, classes and width; each row ends with the exponent p of ``time ~ size ** p``.

Drawing the order of an epoch should grow like the images (p about 1), making the views of one batch not at all (0), a
step on a small network with the classes far less than linearly (0), and on a larger one at most with the square of the
width (2). Sizes are timed in random order, round by round; the figures are medians of this process's processor time,
which other programs disturb less than the wall clock.

    python benchmarks/scaling.py
    python benchmarks/scaling.py --rounds 9 --json
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch

from benchmarks._measure import Work, create_parser, fit_slope, interleave, prepare, show
from benchmarks._pil import MEAN, STD
from benchmarks._sides import CPU, LtkSide, Task
from ltk.data.banks import MemoryBank
from ltk.data.base import ArraySplit
from ltk.data.loaders import Loader, StreamSource
from ltk.data.samplers import create_sampler
from ltk.data.transforms import create_view

_BATCH = 64
_TINY = Task("ce", width=4, depth=8, batch=16, precision="fp32")
Growth = dict[str, float]


def grow(create: Callable[[int], Work], sizes: Sequence[int], rounds: int, repeats: int = 1) -> Growth:
    """Return the median milliseconds by size, and the exponent."""
    sides = {str(size): create(size) for size in sizes}
    spent = interleave(sides, rounds, dict.fromkeys(sides, repeats))
    medians = {name: 1e3 * statistics.median(each.cpu for each in times) for name, times in spent.items()}
    slope = fit_slope(sizes, [medians[str(size)] for size in sizes])
    return {name: round(value, 3) for name, value in medians.items()} | {"exponent": round(slope, 2)}


def create_loader(images: int) -> Loader:
    """Return a loader of small images in memory, two streams as GLMC has."""
    pixels = np.zeros((images, 3, 8, 8), dtype=np.uint8)
    split = ArraySplit(pixels, np.arange(images) % 10, "x")
    view = create_view("crop-flip", size=8, mean=MEAN, std=STD)
    uniform, power = create_sampler("uniform", split.labels_N), create_sampler("power", split.labels_N, q=0.5)
    streams = {"main": StreamSource(uniform, [view]), "resampled": StreamSource(power, [view])}
    return Loader(MemoryBank(split, 8, CPU), streams, _BATCH, drop_last=True, seed=0)


def create_order(images: int) -> Work:
    """Return the drawing of an epoch's order."""
    loader = create_loader(images)
    return lambda: loader.orders(0)


def create_batch(images: int) -> Work:
    """Return the making of one batch."""
    loader = create_loader(images)
    orders, epoch = loader.orders(0), torch.zeros((), dtype=torch.int64)
    return lambda: loader.draw(orders, epoch, loader.positions(0))


def create_step(size: int, base: Task, key: str) -> Work:
    """Return a step of a task of this size."""
    task: Task = replace(base, **{key: size})  # type: ignore[arg-type]
    return LtkSide(task).step


def main() -> None:
    """Parse, measure, print."""
    parser = create_parser(__doc__, rounds=5)
    parser.add_argument("--images", nargs="+", type=int, default=[1000, 10_000, 100_000])
    parser.add_argument("--classes", nargs="+", type=int, default=[100, 1000, 8142])
    parser.add_argument("--widths", nargs="+", type=int, default=[8, 16, 32])
    parser.add_argument("--methods", nargs="+", default=["glmc", "paco", "bagmar"], help="whose growth with classes")
    options = parser.parse_args()
    prepare(options.threads)
    rounds = options.rounds
    results = {
        "order of an epoch, by images": grow(create_order, options.images, rounds),
        "views of a batch, by images": grow(create_batch, options.images, rounds, repeats=4),
    }
    for method in options.methods:
        step = partial(create_step, base=replace(_TINY, method=method), key="classes")
        results[f"{method} step, by classes"] = grow(step, options.classes, rounds)
    step = partial(create_step, base=Task("ce", batch=16), key="width")
    results["ce step of ResNet-32, by width"] = grow(step, options.widths, rounds)
    rows = [["CPU ms by size", "sizes", "times", "exponent"]]
    for name, growth in results.items():
        sizes = [size for size in growth if size != "exponent"]
        times = " / ".join(f"{growth[size]:.1f}" for size in sizes)
        rows.append([name, " / ".join(sizes), times, f"{growth['exponent']:.2f}"])
    show(results, rows, threads=options.threads, as_json=options.json)


if __name__ == "__main__":
    main()
