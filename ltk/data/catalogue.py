"""What is known about the named data sets without having them: sizes, class counts, constants; imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING

from ltk.errors import unknown_name

if TYPE_CHECKING:
    from ltk.data.base import IntArray

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CIFAR_MEAN, CIFAR_STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)


@dataclass(frozen=True)
class Facts:
    """A named data set.

    Attributes:
        title: what it is.
        num_classes: K.
        images: how many images each split has.
        mean: per channel, of images in [0, 1].
        std: as ``mean``.
        native_size: side in pixels that networks are fed.
        stored_size: side in pixels to read and pack at.
        imb: imbalance factor it is cut to unless the user says otherwise; None: taken as it is.
        groups: many/medium/few limits.
        licence: terms of use.
        home: where it is described.
        built_in: shipped inside the package.
    """

    title: str
    num_classes: int
    images: dict[str, int]
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    native_size: int = 224
    stored_size: int = 256
    imb: float | None = None
    groups: tuple[int, int] = (100, 20)
    licence: str = "research use; see the home page"
    home: str = ""
    built_in: bool = False


FACTS = {
    "digits": Facts(
        title="UCI optical digits, 8x8 grey",
        home="https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits",
        num_classes=10,
        images={"train": 1297, "test": 500},
        mean=(0.3053,),
        std=(0.3759,),
        native_size=8,
        stored_size=8,
        imb=50,
        groups=(40, 12),
        licence="CC BY 4.0",
        built_in=True,
    ),
    "cifar10": Facts(
        title="CIFAR-10, 32x32 colour",
        home="https://www.cs.toronto.edu/~kriz/cifar.html",
        num_classes=10,
        images={"train": 50_000, "test": 10_000},
        mean=CIFAR_MEAN,
        std=CIFAR_STD,
        native_size=32,
        stored_size=32,
        imb=100,
    ),
    "cifar100": Facts(
        title="CIFAR-100, 32x32 colour",
        home="https://www.cs.toronto.edu/~kriz/cifar.html",
        num_classes=100,
        images={"train": 50_000, "test": 10_000},
        mean=CIFAR_MEAN,
        std=CIFAR_STD,
        native_size=32,
        stored_size=32,
        imb=100,
    ),
    "imagenet": Facts(
        title="ImageNet (ILSVRC 2012), balanced",
        home="https://image-net.org/download.php",
        num_classes=1000,
        images={"train": 1_281_167, "test": 50_000},
        licence="ImageNet terms: non-commercial research, registration",
    ),
    "imagenet-lt": Facts(
        title="ImageNet-LT (Liu et al. 2019)",
        home="https://liuziwei7.github.io/projects/LongTail.html",
        num_classes=1000,
        images={"train": 115_846, "val": 20_000, "test": 50_000},
        licence="ImageNet terms: non-commercial research, registration",
    ),
    "places-lt": Facts(
        title="Places-LT (Liu et al. 2019)",
        home="https://liuziwei7.github.io/projects/LongTail.html",
        num_classes=365,
        images={"train": 62_500, "val": 7_300, "test": 36_500},
        licence="Places terms: non-commercial research",
    ),
    "inat2018": Facts(
        title="iNaturalist 2018 (Van Horn et al. 2018)",
        home="https://github.com/visipedia/inat_comp/tree/master/2018",
        num_classes=8142,
        images={"train": 437_513, "test": 24_426},
        mean=(0.466, 0.471, 0.380),
        std=(0.195, 0.194, 0.192),
        licence="per image; non-commercial research",
    ),
}


def get_facts(name: str) -> Facts:
    """Return what is known about a data set.

    Raises:
        UsageError: not a named data set.
    """
    if name not in FACTS:
        raise unknown_name("data set", name, FACTS)
    return FACTS[name]


def train_counts(name: str) -> IntArray:
    """Return counts_K, the published training images per class before any cut (for ImageNet only their mean)."""
    import numpy as np  # here: names of data sets are asked for by commands that need no arrays

    facts = get_facts(name)
    with resources.files("ltk.data").joinpath("class_counts.npz").open("rb") as file, np.load(file) as arrays:
        if name in arrays:
            return arrays[name].astype(np.int64)
    return np.full(facts.num_classes, facts.images["train"] // facts.num_classes, dtype=np.int64)
