"""What views draw: 10,000 draws against torchvision's, timm's and the papers' per-image versions (fixed keys)."""

from __future__ import annotations

import pytest
import torch
from scipy import stats
from torch import Tensor
from torchvision import transforms as T

from ltk import draws
from ltk.data.views import steps

N = 10_000
ALPHA = 1e-3


def make_keys(seed: int = 0) -> Tensor:
    return draws.fold(draws.make_key(seed), torch.arange(N))


def assert_uniform(values: Tensor, num_values: int) -> None:
    counts = torch.bincount(values, minlength=num_values)
    assert len(counts) == num_values
    assert stats.chisquare(counts.numpy()).pvalue > ALPHA


def assert_rate(happened: Tensor, probability: float) -> None:
    assert stats.binomtest(int(happened.sum()), len(happened), probability).pvalue > ALPHA


def assert_same_distribution(ours: Tensor, theirs: Tensor) -> None:
    assert stats.ks_2samp(ours.double().numpy(), theirs.double().numpy()).pvalue > ALPHA


def coordinate_image(height: int, width: int) -> Tensor:
    """Channel 0 holds the row, channel 1 the column, both from 1 so that padding shows as 0."""
    rows = torch.arange(1, height + 1).view(-1, 1).expand(height, width)
    cols = torch.arange(1, width + 1).expand(height, width)
    return torch.stack([rows, cols, torch.full_like(rows, 255)]).to(torch.uint8)


def test_crop_offsets_and_flips_are_uniform_and_independent() -> None:
    images = coordinate_image(32, 32).expand(N, -1, -1, -1)
    crops = steps.random_crop(32, 4, flip=True)(images, make_keys()).long()
    top = crops[:, 0, 16, 16] - 1 - 16 + 4
    mirrored = (crops[:, 1, 16, 17] < crops[:, 1, 16, 16]).long()
    left = torch.where(mirrored == 1, crops[:, 1, 16, 15], crops[:, 1, 16, 16]) - 1 - 16 + 4
    assert_uniform((top * 9 + left) * 2 + mirrored, 9 * 9 * 2)
    torch.manual_seed(0)
    theirs = torch.tensor([T.RandomCrop.get_params(torch.empty(3, 40, 40), (32, 32))[:2] for _ in range(N)])
    assert_same_distribution(top, theirs[:, 0])
    assert_same_distribution(left, theirs[:, 1])


def test_shift_moves_by_one_pixel_and_never_mirrors() -> None:
    images = coordinate_image(8, 8).expand(N, -1, -1, -1)
    crops = steps.random_crop(8, 1, flip=False)(images, make_keys()).long()
    assert (crops[:, 1, 4, 5] > crops[:, 1, 4, 4]).all()
    assert_uniform((crops[:, 0, 4, 4] - 4) * 3 + crops[:, 1, 4, 4] - 4, 9)


def test_flip_rate() -> None:
    images = coordinate_image(4, 4).expand(N, -1, -1, -1)
    assert_rate(steps.flip(images, make_keys())[:, 1, 0, 0] == 4, 0.5)


@pytest.mark.parametrize(("side", "scale"), [(32, (0.2, 1.0)), (256, (0.08, 1.0))])
def test_resized_crop_boxes_are_torchvisions(side: int, scale: tuple[float, float]) -> None:
    ratio = (3 / 4, 4 / 3)
    sides = torch.tensor([side])
    top, left, height, width = steps.draw_resized_crop(make_keys(), sides, sides, scale, ratio).unbind(1)
    assert ((top >= 0) & (left >= 0) & (top + height <= side) & (left + width <= side)).all()
    torch.manual_seed(0)
    image = torch.empty(3, side, side)
    theirs = torch.tensor([T.RandomResizedCrop.get_params(image, list(scale), list(ratio)) for _ in range(N)])
    assert_same_distribution(height * width, theirs[:, 2] * theirs[:, 3])
    assert_same_distribution(width / height, theirs[:, 3] / theirs[:, 2])
    assert_same_distribution(top, theirs[:, 0])
    assert_same_distribution(left, theirs[:, 1])


@pytest.mark.parametrize(("height", "width"), [(20, 100), (100, 20), (64, 64)])
def test_resized_crop_falls_back_to_torchvisions_central_box(height: int, width: int) -> None:
    scale = (1.5, 1.6)  # a box larger than the image never fits
    boxes = steps.draw_resized_crop(
        make_keys()[:3], torch.tensor([height]), torch.tensor([width]), scale, (3 / 4, 4 / 3)
    )
    expected = T.RandomResizedCrop.get_params(torch.empty(3, height, width), list(scale), [3 / 4, 4 / 3])
    assert boxes.tolist() == [list(expected)] * 3


@pytest.mark.parametrize("hue", [0.0, 0.1])
def test_jitter_factors_and_orders_are_torchvisions(hue: float) -> None:
    factors, orders = steps.draw_jitter(make_keys(), (0.4, 0.3, 1.5, hue))
    reference = T.ColorJitter(0.4, 0.3, 1.5, hue)
    torch.manual_seed(0)
    ranges = (reference.brightness, reference.contrast, reference.saturation, reference.hue)
    theirs = [T.ColorJitter.get_params(*ranges) for _ in range(N)]
    count = 4 if hue else 3
    assert factors.shape == orders.shape == (N, count)
    for i in range(count):
        assert_same_distribution(factors[:, i], torch.tensor([drawn[1 + i] for drawn in theirs]))
    weights = torch.tensor([64, 16, 4, 1])[:count]
    codes = torch.unique((orders * weights).sum(1), return_counts=True)[1]
    assert len(codes) == (24 if hue else 6)
    assert stats.chisquare(codes.numpy()).pvalue > ALPHA


def changed(step: steps.Step, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (3, 8, 8), dtype=torch.uint8, generator=generator)
    images = image.expand(N, -1, -1, -1)
    return (step(images, make_keys(seed)) != images).flatten(1).any(1)


def test_rates_of_jitter_gray_and_blur() -> None:
    assert_rate(changed(steps.colour_jitter((0.4, 0.4, 0.4, 0.1), 0.8)), 0.8)
    assert changed(steps.colour_jitter((0.4, 0.4, 0.4, 0.0))).all()
    assert_rate(changed(steps.random_grayscale(0.2)), 0.2)
    assert_rate(changed(steps.random_blur(0.5, (0.5, 2.0))), 0.5)
    assert not changed(steps.random_blur(0.0)).any()


def test_blur_widths_are_uniform(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []

    def record(images_BCHW: Tensor, sigma_B: Tensor, max_sigma: float) -> Tensor:
        seen.append(sigma_B)
        return images_BCHW

    monkeypatch.setattr("ltk.data.views.resampling.gaussian_blur", record)
    steps.random_blur(0.5)(torch.zeros(N, 1, 2, 2, dtype=torch.uint8), make_keys())
    (widths,) = seen
    assert stats.kstest(widths.numpy(), stats.uniform(0.1, 1.9).cdf).pvalue > ALPHA


def test_cutout_centres_are_uniform_over_the_image() -> None:
    white = torch.full((N, 3, 32, 32), 255, dtype=torch.uint8)
    black = steps.cutout(16)(white, make_keys())[:, 0] == 0
    centres = []
    for hit in (black.any(2), black.any(1)):
        first, last = hit.int().argmax(1), 31 - hit.flip(1).int().argmax(1)
        centres.append(torch.where(first > 0, first + 8, last - 7))
        assert torch.equal(last - first + 1, torch.minimum(centres[-1] + 8, torch.tensor(32)) - first)
    assert_uniform(centres[0] // 2 * 16 + centres[1] // 2, 256)
    assert_uniform(centres[0], 32)
    assert_uniform(centres[1], 32)
