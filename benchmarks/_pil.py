"""The views of the official codes: PIL images, changed one by one, served by a DataLoader."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageFilter
from timm.data.auto_augment import rand_augment_transform
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, RandomSampler, WeightedRandomSampler
from torchvision import transforms as T

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)


class PillowBlur:
    """The blur of the official codes: Pillow's, radius U(0.1, 2)."""

    def __call__(self, image: Image.Image) -> Image.Image:
        """Return the blurred image."""
        return image.filter(ImageFilter.GaussianBlur(random.uniform(0.1, 2.0)))


class Cutout:
    """Blacken a 16 x 16 square of a tensor image, cut off at the border."""

    def __call__(self, image: Tensor) -> Tensor:
        """Return the image with the square blackened, in place."""
        y, x = random.randrange(image.shape[1]), random.randrange(image.shape[2])
        image[:, max(0, y - 8) : y + 8, max(0, x - 8) : x + 8] = 0.0
        return image


def pil_recipes() -> dict[str, list[Any]]:
    """Return the transforms of each recipe of ``ltk.data.transforms``, up to the normalisation."""
    crop_flip = [T.RandomCrop(32, padding=4), T.RandomHorizontalFlip()]
    policy = T.AutoAugment(T.AutoAugmentPolicy.CIFAR10, fill=[128, 128, 128])
    gray_blur = [T.RandomGrayscale(0.2), T.RandomApply([PillowBlur()], 0.5)]
    weak_jitter = T.RandomApply([T.ColorJitter(0.4, 0.4, 0.4, 0.1)], 0.8)
    large = [T.RandomResizedCrop(224), T.RandomHorizontalFlip()]
    jitter = T.ColorJitter(0.4, 0.4, 0.4, 0.0)
    randaugment = rand_augment_transform("rand-m10-n2-mstd0.5", {"img_mean": (124, 116, 104)})
    return {
        "crop-flip": [*crop_flip, T.ToTensor()],
        "crop-flip-autoaugment-cutout": [*crop_flip, policy, T.ToTensor(), Cutout()],
        "simclr": [
            T.RandomResizedCrop(32, scale=(0.2, 1.0)),
            T.RandomHorizontalFlip(),
            weak_jitter,
            *gray_blur,
            T.ToTensor(),
        ],
        "rrc-flip": [*large, T.ToTensor()],
        "rrc-flip-jitter": [*large, jitter, T.ToTensor()],
        "sim": [large[0], jitter, *gray_blur, large[1], T.ToTensor()],
        "randcls": [*large, jitter, randaugment, T.ToTensor()],
        "randclsstack": [*large, jitter, *gray_blur, randaugment, T.ToTensor()],
        "gala-imagenet": [T.Pad(4, padding_mode="reflect"), *large, jitter, randaugment, T.ToTensor()],
    }


def create_transform(recipe: str) -> T.Compose:
    """Return a recipe, with its normalisation."""
    return T.Compose([*pil_recipes()[recipe], T.Normalize(MEAN, STD)])


def to_normalised_tensor() -> T.Compose:
    """Return the view of evaluation."""
    return T.Compose([T.ToTensor(), T.Normalize(MEAN, STD)])


class PilSet(Dataset[tuple[list[Tensor], int]]):
    """Images in memory, turned into PIL images and changed when they are asked for.

    Args:
        pixels_NHWC: uint8.
        labels_N: of the images.
        transforms: one per view.
    """

    def __init__(self, pixels_NHWC: np.ndarray, labels_N: np.ndarray, transforms: Sequence[T.Compose]) -> None:
        self._pixels_NHWC, self._labels_N, self._transforms = pixels_NHWC, labels_N, transforms

    def __len__(self) -> int:
        return len(self._labels_N)

    def __getitem__(self, i: int) -> tuple[list[Tensor], int]:
        image = Image.fromarray(self._pixels_NHWC[i])
        return [transform(image) for transform in self._transforms], int(self._labels_N[i])


def create_pil_loader(
    images: PilSet, weights_N: np.ndarray | None, *, batch: int, steps: int, workers: int
) -> DataLoader[tuple[list[Tensor], int]]:
    """Return a loader of ``steps`` batches, uniformly drawn or by weight.

    It ends after them, so that its workers do not run on while the other side is timed.
    """
    sampler = (
        RandomSampler(images, replacement=True, num_samples=steps * batch)
        if weights_N is None
        else WeightedRandomSampler(torch.as_tensor(weights_N).tolist(), steps * batch)
    )
    return DataLoader(
        images, batch, sampler=sampler, num_workers=workers, persistent_workers=workers > 0, drop_last=True
    )
