"""Named view recipes: batched, per-sample, on uint8 tensors, on whichever device the images live.

A view is a pure function of images and keys: the same key gives the same view, on a CPU or a GPU, in any batch order.
Nothing here reads a tensor back to the host on a GPU, so a view can be part of a captured CUDA graph (call it once
before the capture: small constants are then put on the device).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from pydantic import ValidationError
from torch import Tensor

from ltk import draws
from ltk.data.views import geometry
from ltk.data.views.batching import constant, has_static_shapes
from ltk.data.views.recipes import RECIPES
from ltk.data.views.steps import ResizedCrop, Step
from ltk.errors import DataError, UsageError, unknown_name
from ltk.numerics import full_precision

__all__ = ["RECIPES", "View", "create_eval_view", "create_view", "normalise", "recipe_options"]

_CACHED_VALUES = 1 << 20  # a CPU works through large batches in pieces whose levels stay in its cache


def normalise(images_BCHW: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Return ``(images / 255 - mean) / std`` as float32, bit for bit torchvision's ToTensor and Normalize.

    Args:
        images_BCHW: uint8 images.
        mean: one value per channel, of images in [0, 1].
        std: likewise, each > 0.
    """
    mean_C = constant(tuple(mean), torch.float32, images_BCHW.device)
    std_C = constant(tuple(std), torch.float32, images_BCHW.device)
    levels_BCHW = images_BCHW.to(torch.float32, memory_format=torch.contiguous_format)
    white = constant((255.0,), torch.float32, images_BCHW.device)  # a tensor: a GPU would multiply by rounded 1 / 255
    return levels_BCHW.div_(white).sub_(mean_C.view(-1, 1, 1)).div_(std_C.view(-1, 1, 1))


@dataclass(frozen=True)
class View:
    """A recipe made concrete: its steps in order, then ``normalise``.

    Attributes:
        steps: each is given the images and its own keys, the sample's key folded with the step's position.
        size: side of the output in pixels.
        mean: one value per channel, of images in [0, 1].
        std: likewise.
        first: position of the first step in the recipe; 1 where its crop has been made before.
    """

    steps: tuple[Step, ...]
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    first: int = 0

    @property
    def crop(self) -> ResizedCrop | None:
        """The resized crop that the view starts with; None where it starts with something else."""
        start = self.steps[0]
        return start if isinstance(start, ResizedCrop) else None

    def after_crop(self) -> View:
        """Return the view of images whose crop ``cut_crop`` has made."""
        return replace(self, steps=self.steps[1:], first=self.first + 1)

    def cut_crop(self, images: Sequence[Tensor], key_B: Tensor) -> Tensor:
        """Return the crops that the view starts with, uint8 [B, C, size, size], of whole images of any shape.

        Args:
            images: uint8 [C, H, W] each, on the CPU.
            key_B: as in ``draw``.
        """
        assert self.crop
        return self.crop.cut(images, draws.fold(key_B, self.first))

    def draw(self, images_BCHW: Tensor, key_B: Tensor) -> Tensor:
        """Return the views as uint8 [B, C, size, size], before normalisation.

        Args:
            images_BCHW: uint8 images, H and W at least ``size``; not changed.
            key_B: int64 keys, one per sample; see ``ltk.draws``.
        """
        _check_size(images_BCHW, self.size)
        at_once = max(1, _CACHED_VALUES // images_BCHW[0].numel())
        with full_precision(images_BCHW.device):
            if has_static_shapes(images_BCHW.device) or len(images_BCHW) <= at_once:
                return self._draw(images_BCHW, key_B)
            pieces = zip(images_BCHW.split(at_once), key_B.split(at_once), strict=True)
            return torch.cat([self._draw(images, keys) for images, keys in pieces])

    def _draw(self, images_BCHW: Tensor, key_B: Tensor) -> Tensor:
        positions = self.first + torch.arange(len(self.steps), device=key_B.device)
        for step, step_key_B in zip(self.steps, draws.fold(key_B, positions[:, None]), strict=True):
            images_BCHW = step(images_BCHW, step_key_B)
        return images_BCHW

    def __call__(self, images_BCHW: Tensor, key_B: Tensor) -> Tensor:
        """Return the views as normalised float32 [B, C, size, size]; arguments as in ``draw``."""
        return normalise(self.draw(images_BCHW, key_B), self.mean, self.std)


def _check_size(images_BCHW: Tensor, size: int) -> None:
    H, W = images_BCHW.shape[-2:]
    if min(H, W) < size:
        raise DataError(f"stored images are {H}x{W}, smaller than the view of {size}x{size}", "Lower data.image_size.")


def recipe_options(recipe: str) -> dict[str, object]:
    """Return the options of a recipe with their defaults.

    Raises:
        UsageError: no such recipe.
    """
    if recipe not in RECIPES:
        raise unknown_name("view recipe", recipe, RECIPES)
    parameters = inspect.signature(RECIPES[recipe]).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def create_view(recipe: str, *, size: int, mean: Sequence[float], std: Sequence[float], **options: object) -> View:
    """Build a view.

    Args:
        recipe: a key of ``RECIPES``.
        size: side of the output in pixels; stored images may be larger.
        mean: one value per channel, of images in [0, 1].
        std: likewise.
        **options: keyword options of the recipe; see ``recipe_options``.

    Raises:
        UsageError: no such recipe or option, or a value out of range.
    """
    known = recipe_options(recipe)
    for name in options:
        if name not in known:
            raise unknown_name(f"option of the view recipe {recipe!r}", name, known)
    try:
        steps = RECIPES[recipe](size, **options)
    except ValidationError as fault:
        first = fault.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"view recipe {recipe!r}, {name}: {first['msg']} (got {first['input']!r})") from fault
    return View(steps, size, tuple(mean), tuple(std))


def create_eval_view(size: int, mean: Sequence[float], std: Sequence[float]) -> Callable[[Tensor], Tensor]:
    """Build the view of evaluation: the central square, normalised.

    Returns:
        A function of images_BCHW (uint8, any side of at least ``size``) to float32 [B, C, size, size].
    """
    mean, std = tuple(mean), tuple(std)

    def view(images_BCHW: Tensor) -> Tensor:
        _check_size(images_BCHW, size)
        return normalise(geometry.centre_crop(images_BCHW, size), mean, std)

    return view
