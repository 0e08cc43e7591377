"""What views compute: for given parameters, the pixels of torchvision's per-image kernels and of Pillow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from timm.data import auto_augment as timm_aa
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as TF
from torchvision.transforms.autoaugment import _apply_op
from torchvision.transforms.v2 import functional as TF2

from ltk.data.views import colour, resampling
from ltk.data.views.affine import warp_nearest, warp_smooth
from ltk.data.views.pixel_ops import OPERATION_ID, OPERATIONS, WARPS, Palette, apply_operations, warp_matrix
from tests.data.views.conftest import B

FILL = (124, 116, 104)
_timm: Any = timm_aa
TORCHVISION_NAMES = {
    "shear_x": "ShearX",
    "translate_x": "TranslateX",
    "translate_y": "TranslateY",
    "rotate": "Rotate",
}


def uniform(low: float, high: float, *shape: int, seed: int = 0) -> Tensor:
    return low + (high - low) * torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def one_by_one(kernel: Callable[..., Tensor], images: Tensor, *parameters: list[float]) -> Tensor:
    return torch.stack([kernel(image, *rest) for image, *rest in zip(images, *parameters, strict=True)])


def through_pil(kernel: Callable[..., Image.Image]) -> Callable[..., Tensor]:
    return lambda image, *rest: TF.pil_to_tensor(kernel(TF.to_pil_image(image), *rest))


def worst_and_share(ours: Tensor, theirs: Tensor) -> tuple[int, float]:
    """Return the largest difference in levels and the share of values that differ."""
    difference = (ours.int() - theirs.int()).abs()
    return int(difference.max()), float((difference > 0).double().mean())


@pytest.mark.parametrize("size", [8, 16, 32, 48])
def test_resize_crop_equals_torchvision_exactly(images: Tensor, size: int) -> None:
    sides = uniform(3, 33, B, 2).long()
    starts = (uniform(0, 1, B, 2, seed=1) * (33 - sides)).long()
    boxes = torch.cat([starts, sides], 1)
    expected = torch.stack(
        [
            TF2.resized_crop(image, *box, [size, size], antialias=True)
            for image, box in zip(images, boxes.tolist(), strict=True)
        ]
    )
    ours = resampling.resize_crop(images, boxes, size)
    assert torch.equal(ours, expected)
    pil = torch.stack(
        [
            TF.pil_to_tensor(TF.resized_crop(TF.to_pil_image(image), *box, [size, size]))
            for image, box in zip(images, boxes.tolist(), strict=True)
        ]
    )
    assert worst_and_share(ours, pil)[0] <= 1


def test_large_images_on_a_cpu_and_matrices_agree_exactly() -> None:
    generator = torch.Generator().manual_seed(0)
    large = torch.randint(0, 256, (3, 3, 120, 100), dtype=torch.uint8, generator=generator)
    boxes = torch.tensor([[0, 0, 120, 100], [7, 9, 64, 91], [30, 50, 40, 33]])
    assert torch.equal(
        resampling.resize_crop(large, boxes, 64),
        resampling._resize_by_matrices(large, boxes, 64),
    )


def test_blur_equals_torchvision(images: Tensor) -> None:
    sigmas = uniform(0.1, 2.0, B)
    expected = one_by_one(lambda i, s: TF.gaussian_blur(i, [13, 13], [s, s]), images, sigmas.tolist())
    worst, share = worst_and_share(resampling.gaussian_blur(images, sigmas), expected)
    assert worst <= 1
    assert share < 1e-3


def test_grayscale_saturation_and_sharpness_equal_torchvision(images: Tensor) -> None:
    factors = uniform(0.0, 2.0, B)
    assert torch.equal(colour.grayscale(images), one_by_one(lambda i: TF.rgb_to_grayscale(i, 3), images))
    assert torch.equal(colour.saturate(images, factors), one_by_one(TF.adjust_saturation, images, factors.tolist()))
    assert torch.equal(colour.sharpen(images, factors), one_by_one(TF.adjust_sharpness, images, factors.tolist()))


@pytest.mark.parametrize("count", [3, 4])
def test_jitter_equals_torchvision_in_every_order(images: Tensor, count: int) -> None:
    factors = torch.cat([uniform(0.2, 1.8, B, 3), uniform(-0.5, 0.5, B, 1)], 1)[:, :count]
    orders = torch.argsort(uniform(0, 1, B, count, seed=3), 1)
    kernels = (TF.adjust_brightness, TF.adjust_contrast, TF.adjust_saturation, TF.adjust_hue)

    def reference(image: Tensor, order: list[int], factor: list[float]) -> Tensor:
        for operation in order:
            image = kernels[operation](image, factor[operation])
        return image

    expected = torch.stack([reference(*row) for row in zip(images, orders.tolist(), factors.tolist(), strict=True)])
    worst, share = worst_and_share(colour.jitter(images, factors, orders), expected)
    assert (worst, share) == (0, 0.0) if count == 3 else (worst <= 2 and share < 1e-3)


@pytest.mark.parametrize("operation", ["shear_x", "translate_x", "translate_y", "rotate"])
def test_nearest_warps_equal_torchvision(images: Tensor, operation: str) -> None:
    span = {"shear_x": 0.3, "rotate": 30.0}.get(operation, 15.0)
    values = uniform(-span, span, B).double()
    values = values.trunc() if operation.startswith("translate") else values
    matrix = warp_matrix(torch.full((B,), OPERATION_ID[operation]), values, 32, 32)
    sign = -1.0 if operation.startswith("translate") else 1.0
    expected = one_by_one(
        lambda i, v: _apply_op(i, TORCHVISION_NAMES[operation], v, InterpolationMode.NEAREST, list(map(float, FILL))),
        images,
        (sign * values).tolist(),
    )
    assert worst_and_share(warp_nearest(images, matrix, FILL), expected)[1] < 1e-3


@pytest.mark.parametrize("operation", WARPS)
@pytest.mark.parametrize("resample", [Image.Resampling.NEAREST, Image.Resampling.BILINEAR, Image.Resampling.BICUBIC])
def test_warps_equal_pillow(images: Tensor, operation: str, resample: Image.Resampling) -> None:
    span = {"shear_x": 0.3, "shear_y": 0.3, "rotate": 30.0}.get(operation, 14.0)
    values = uniform(-span, span, B).double()
    matrix = warp_matrix(torch.full((B,), OPERATION_ID[operation]), values, 32, 32)

    def pillow(image: Image.Image, value: float) -> Image.Image:
        if operation == "rotate":
            return image.rotate(value, resample=resample, fillcolor=FILL)
        coefficients = {
            "shear_x": (1, value, 0, 0, 1, 0),
            "shear_y": (1, 0, 0, value, 1, 0),
            "translate_x": (1, 0, value, 0, 1, 0),
            "translate_y": (1, 0, 0, 0, 1, value),
        }[operation]
        return image.transform((32, 32), Image.Transform.AFFINE, coefficients, resample, fillcolor=FILL)

    expected = one_by_one(through_pil(pillow), images, values.tolist())
    if resample == Image.Resampling.NEAREST:
        assert worst_and_share(warp_nearest(images, matrix, FILL), expected)[1] < 1e-3
    else:
        cubic = torch.full((B,), resample == Image.Resampling.BICUBIC)
        worst, share = worst_and_share(warp_smooth(images, matrix, cubic, FILL), expected)
        assert worst <= 1
        assert share < 0.02


def pillow_operation(name: str) -> Callable[[Image.Image, float], Image.Image]:
    enhancers = {
        "colour": ImageEnhance.Color,
        "contrast": ImageEnhance.Contrast,
        "brightness": ImageEnhance.Brightness,
        "sharpness": ImageEnhance.Sharpness,
    }
    if name in enhancers:
        return lambda image, value: enhancers[name](image).enhance(value)
    table: dict[str, Callable[[Image.Image, float], Image.Image]] = {
        "posterize": lambda image, value: _timm.posterize(image, int(value)),
        "solarize": lambda image, value: ImageOps.solarize(image, int(value)),
        "solarize_add": lambda image, value: _timm.solarize_add(image, int(value)),
        "invert": lambda image, value: ImageOps.invert(image),
        "autocontrast": lambda image, value: ImageOps.autocontrast(image),
        "equalize": lambda image, value: ImageOps.equalize(image),
    }
    return table[name]


@pytest.mark.parametrize("name", [n for n in OPERATIONS if n not in WARPS])
def test_colour_operations_are_pillows_within_a_level(images: Tensor, name: str) -> None:
    values = {
        "posterize": uniform(1, 9, B).floor(),
        "solarize": uniform(0, 257, B).floor(),
        "solarize_add": uniform(0, 111, B).floor(),
    }.get(name, uniform(0.1, 1.9, B))
    palette = Palette(frozenset((name,)), frozenset(), FILL)
    ids, cubic = torch.full((B,), OPERATION_ID[name]), torch.zeros(B, dtype=torch.bool)
    ours = apply_operations(images, ids, values.double(), cubic, palette)
    expected = one_by_one(through_pil(pillow_operation(name)), images, values.tolist())
    worst, _ = worst_and_share(ours, expected)
    assert worst <= {"contrast": 2, "sharpness": 2, "autocontrast": 1, "colour": 2, "brightness": 1}.get(name, 0)


def test_operations_run_on_the_images_that_drew_them(images: Tensor) -> None:
    ids = torch.arange(B) % (len(OPERATIONS) + 1)
    values = torch.full((B,), 0.5, dtype=torch.float64)
    cubic = torch.zeros(B, dtype=torch.bool)
    palette = Palette(frozenset(OPERATIONS), frozenset(), FILL)
    mixed = apply_operations(images, ids, values, cubic, palette)
    alone = torch.cat(
        [apply_operations(images[i : i + 1], ids[i : i + 1], values[:1], cubic[:1], palette) for i in range(B)]
    )
    assert torch.equal(mixed, alone)
    idle = ids == len(OPERATIONS)
    assert torch.equal(mixed[idle], images[idle])
