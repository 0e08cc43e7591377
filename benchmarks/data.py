"""Images per second of reading: ltk's decoding against Pillow's, and packed images against files, in one process.

Each round times both sides in random order on the same files; the figure is the median over rounds of the ratio, with
its quartiles. Both sides end with uint8 [n, 3, size, size]. The views made of these images are timed by views.py.

    python benchmarks/data.py --threads 1
    python benchmarks/data.py --threads 2 --rounds 15 --json
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ltk.data.decode import read_images
from ltk.data.files import FileSplit
from ltk.data.pack_writer import write_pack

Read = Callable[[list[int]], Tensor]


@dataclass(frozen=True)
class Case:
    """Images as they lie on disk, and the size they are read at."""

    width: int
    height: int
    suffix: str
    size: int
    images: int


CASES = {
    "jpeg-32": Case(32, 32, ".jpg", 32, 2000),
    "png-32": Case(32, 32, ".png", 32, 2000),
    "jpeg-500x375": Case(500, 375, ".jpg", 256, 96),
}


@dataclass(frozen=True)
class Result:
    """Images per second (medians) and their ratio (median and quartiles over rounds)."""

    ltk: float
    other: float
    ratio: float
    ratio_low: float
    ratio_high: float


def write_files(root: Path, case: Case) -> list[str]:
    """Write smooth images with some noise, as photographs have."""
    generator = np.random.default_rng(0)
    names = []
    for i in range(case.images):
        coarse = Image.fromarray(generator.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((case.width, case.height), Image.Resampling.BICUBIC), dtype=np.int16)
        pixels = np.clip(smooth + generator.normal(0, 8, smooth.shape), 0, 255).astype(np.uint8)
        names.append(f"{i}{case.suffix}")
        Image.fromarray(pixels).save(root / names[-1], quality=92)
    return names


def read_with_pillow(paths: list[Path], size: int) -> Tensor:
    """Read as the official codes do: Pillow, shorter side to ``size``, centre crop."""
    images = []
    for path in paths:
        image = Image.open(path).convert("RGB")
        width, height = image.size
        if (width, height) != (size, size):
            scale = size / min(width, height)
            image = image.resize((round(width * scale), round(height * scale)), Image.Resampling.BILINEAR)
            left, top = (image.width - size) // 2, (image.height - size) // 2
            image = image.crop((left, top, left + size, top + size))
        images.append(torch.from_numpy(np.array(image)).permute(2, 0, 1))
    return torch.stack(images)


def compare(ours: Read, other: Read, images: int, rounds: int) -> Result:
    """Time two ways of reading the same images."""
    times: list[tuple[float, float]] = []
    for _ in range(rounds + 1):
        index = random.sample(range(images), images)
        spent: dict[Read, float] = {}
        for read in random.sample((ours, other), 2):
            start = time.perf_counter()
            read(index)
            spent[read] = time.perf_counter() - start
        times.append((spent[ours], spent[other]))
    del times[0]  # warm-up
    low, ratio, high = statistics.quantiles([b / a for a, b in times], n=4)
    speeds = (images / statistics.median(column) for column in zip(*times, strict=True))
    return Result(*(round(value, 2) for value in (*speeds, ratio, low, high)))


def measure(case: Case, threads: int, rounds: int) -> dict[str, Result]:
    """Compare decoding with Pillow's, and a pack with decoding, on one kind of file."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        names = write_files(root, case)
        paths = [root / name for name in names]
        write_pack(root, names, case.size, root / f".ltk-packs/bench-{case.size}.json")
        packed = FileSplit(root, names, np.zeros(case.images, dtype=np.int64))
        if packed.pack(case.size) is None:
            raise RuntimeError("the pack is not used")

        def decode(index: list[int]) -> Tensor:
            return read_images([paths[i] for i in index], case.size, threads=threads)

        def pillow(index: list[int]) -> Tensor:
            return read_with_pillow([paths[i] for i in index], case.size)

        def read_pack(index: list[int]) -> Tensor:
            return packed.read(index, case.size)

        return {
            "decode / Pillow": compare(decode, pillow, case.images, rounds),
            "pack / decode": compare(read_pack, decode, case.images, rounds),
        }


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=sorted(CASES), default=list(CASES))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1, help="of ltk's decoding; Pillow's loop has one")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    torch.set_num_threads(1)
    random.seed(0)
    load_before = os.getloadavg()[0]
    results = {name: measure(CASES[name], options.threads, options.rounds) for name in options.cases}
    setting = {"threads": options.threads, "rounds": options.rounds}
    load = {"load_average_before": load_before, "load_average_after": os.getloadavg()[0]}
    if options.json:
        figures = {name: {key: asdict(value) for key, value in result.items()} for name, result in results.items()}
        print(json.dumps({**setting, **load, **figures}, indent=2))
        return
    print(", ".join(f"{name.replace('_', ' ')} {value}" for name, value in {**setting, **load}.items()))
    print(f"{'files':14s} {'what':16s} {'img/s':>9s} {'against':>9s} {'ratio':>7s}   quartiles")
    for name, result in results.items():
        for what, value in result.items():
            row = f"{name:14s} {what:16s} {value.ltk:9.0f} {value.other:9.0f} {value.ratio:7.2f}"
            print(f"{row}   {value.ratio_low:.2f} .. {value.ratio_high:.2f}")


if __name__ == "__main__":
    main()
