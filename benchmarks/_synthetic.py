"""Data sets of the real shape and none of the real images: official lists, published class counts, tiny JPEGs.

A class has a coarse pattern of its own under noise, in a few files; further names of the class are hard links to them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from ltk.data.catalogue import get_facts, train_counts
from ltk.data.official_lists import OFFICIAL

_COARSE, _NOISE, _QUALITY = 4, 12, 85
_FILES = "files"  # folder of the images that all others are links to


def write_data_set(name: str, root: Path, *, pixels: int, per_class: int, seed: int = 0) -> dict[str, int]:
    """Write a data set in its official layout and return the number of images of each split.

    Args:
        name: "imagenet-lt", "places-lt" or "inat2018".
        root: the data root; must be on a file system with hard links.
        pixels: side of the images.
        per_class: files of a class that are images of their own.
        seed: of patterns and noise.
    """
    counts_K, facts = train_counts(name), get_facts(name)
    generator, made = np.random.default_rng(seed), {}
    files = root / _FILES
    files.mkdir(parents=True)
    for label in range(len(counts_K)):
        _draw_class(files, label, pixels, per_class, generator)
    (root / "lists").mkdir()
    for split, file in OFFICIAL[name].files.items():
        share_K = counts_K if split == "train" else np.full(len(counts_K), facts.images[split] // len(counts_K))
        lines = []
        for path, label, number in _name_images(name, split, share_K.tolist()):
            _link(files / f"{label}_{number % per_class}.jpg", root / name / path)
            lines.append(f"{path} {label}\n")
        (root / "lists" / file).write_text("".join(lines), encoding="utf-8")
        made[split] = len(lines)
    return made


def _draw_class(folder: Path, label: int, pixels: int, per_class: int, generator: np.random.Generator) -> None:
    coarse = generator.integers(0, 256, (_COARSE, _COARSE, 3), dtype=np.uint8)
    pattern = np.asarray(Image.fromarray(coarse).resize((pixels, pixels), Image.Resampling.BICUBIC), np.float32)
    for number in range(per_class):
        noisy = pattern + generator.normal(0, _NOISE, pattern.shape)
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(folder / f"{label}_{number}.jpg", quality=_QUALITY)


def _name_images(name: str, split: str, share_K: list[int]) -> Iterator[tuple[str, int, int]]:
    """Yield the listed path, the label and the number within its class of each image of a split."""
    total = 0
    for label, share in enumerate(share_K):
        for number in range(share):
            yield _spell(name, split, label, number, total), label, number
            total += 1


def _spell(name: str, split: str, label: int, number: int, total: int) -> str:
    if name == "inat2018":
        return f"train_val2018/Plantae/{label}/{split}{number:06d}.jpg"
    if name == "places-lt":
        return f"{'train' if split == 'train' else 'val'}/c{label:03d}/Places365_{split}_{total:08d}.jpg"
    if split == "test":
        return f"val/n{label:08d}/ILSVRC2012_val_{total + 1:08d}.JPEG"
    return f"train/n{label:08d}/n{label:08d}_{split}{number}.JPEG"


def _link(file: Path, path: Path) -> None:
    try:
        os.link(file, path)
    except FileNotFoundError:
        path.parent.mkdir(parents=True)
        os.link(file, path)
