"""The digits data set inside the package: 1,797 real 8x8 grey scans (UCI optical recognition of handwritten digits)."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import numpy as np

from ltk.data.base import ArraySplit, Source
from ltk.data.catalogue import get_facts
from ltk.data.tail_split import split_tail_safe

TEST_PER_CLASS = 50


def open_digits(name: str, root: Path) -> Source:
    """Open digits; 50 images of each class, drawn once for all, are the balanced test set.

    Args:
        name: "digits".
        root: not used.
    """
    with resources.files("ltk.data").joinpath("digits.npz").open("rb") as file, np.load(file) as arrays:
        images_NCHW, labels_N = arrays["images"][:, None], arrays["labels"]
    parts = split_tail_safe(labels_N, {"test": TEST_PER_CLASS}, num_classes=10)
    facts = get_facts(name)
    return Source(
        name=name,
        class_names=tuple(str(digit) for digit in range(10)),
        splits={k: ArraySplit(images_NCHW[own], labels_N[own], f"digits/{k}") for k, own in parts.items()},
        mean=facts.mean,
        std=facts.std,
        native_size=facts.native_size,
        stored_size=facts.stored_size,
        groups=facts.groups,
    )
