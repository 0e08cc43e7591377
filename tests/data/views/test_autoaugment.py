"""AutoAugment and RandAugment: what is drawn and what is computed, against torchvision, timm and Pillow."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from timm.data import auto_augment as timm_aa
from torch import Tensor
from torchvision import transforms as T
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as TF
from torchvision.transforms.autoaugment import _apply_op

from ltk import draws
from ltk.data.views.autoaugment import (
    CIFAR10_POLICY,
    RANDAUGMENT_OPERATIONS,
    autoaugment_cifar10,
    draw_cifar10_policy,
    draw_randaugment,
    magnitude,
    randaugment,
)
from ltk.data.views.pixel_ops import OPERATION_ID, OPERATIONS, WARPS, Palette, apply_operations

B, N = 48, 10_000
ALPHA = 1e-3
FILL = (124, 116, 104)
BLENDS = ("brightness", "contrast", "colour", "sharpness")
TIMM_NAMES = {
    "autocontrast": "AutoContrast",
    "equalize": "Equalize",
    "invert": "Invert",
    "rotate": "Rotate",
    "posterize": "Posterize",
    "solarize": "Solarize",
    "solarize_add": "SolarizeAdd",
    "colour": "Color",
    "contrast": "Contrast",
    "brightness": "Brightness",
    "sharpness": "Sharpness",
    "shear_x": "ShearX",
    "shear_y": "ShearY",
    "translate_x": "TranslateXRel",
    "translate_y": "TranslateYRel",
}
TORCHVISION_NAMES = {
    "shear_x": "ShearX",
    "shear_y": "ShearY",
    "translate_x": "TranslateX",
    "translate_y": "TranslateY",
    "rotate": "Rotate",
    "brightness": "Brightness",
    "contrast": "Contrast",
    "posterize": "Posterize",
    "solarize": "Solarize",
    "invert": "Invert",
    "autocontrast": "AutoContrast",
    "equalize": "Equalize",
    "colour": "Color",
    "sharpness": "Sharpness",
}


def make_keys(count: int = N) -> Tensor:
    return draws.fold(draws.make_key(0), torch.arange(count))


def assert_rate(happened: Tensor, probability: float) -> None:
    assert stats.binomtest(int(happened.sum()), len(happened), probability).pvalue > ALPHA


def assert_same_distribution(ours: Tensor, theirs: Tensor) -> None:
    assert stats.ks_2samp(ours.double().numpy(), theirs.double().numpy()).pvalue > ALPHA


def through_pil(kernel: Callable[[Image.Image, float], Image.Image], images: Tensor, values: list[float]) -> Tensor:
    pairs = zip(images, values, strict=True)
    return torch.stack([TF.pil_to_tensor(kernel(TF.to_pil_image(image), value)) for image, value in pairs])


@pytest.mark.parametrize("variant", ["deepvoltaire", "torchvision"])
def test_autoaugment_operations_happen_as_often_as_the_policy_says(variant: str) -> None:
    operations, _ = draw_cifar10_policy(make_keys(), variant, 32, 32)
    for slot in range(2):
        expected: defaultdict[int, float] = defaultdict(float)
        for policy in CIFAR10_POLICY:
            probability, name, _ = policy[:3] if slot == 0 else policy[3:]
            expected[OPERATION_ID[name]] += N * probability / 25
            expected[len(OPERATIONS)] += N * (1 - probability) / 25
        kept = [i for i, count in expected.items() if count > 0]
        counts = torch.bincount(operations[:, slot], minlength=len(OPERATIONS) + 1)
        assert counts.sum() == counts[kept].sum()
        assert stats.chisquare(counts[kept].numpy(), [expected[i] for i in kept]).pvalue > ALPHA


def test_autoaugment_marginals_are_torchvisions_over_its_own_draws() -> None:
    operations, _ = draw_cifar10_policy(make_keys(), "torchvision", 32, 32)
    reference = T.AutoAugment(T.AutoAugmentPolicy.CIFAR10)
    torch.manual_seed(0)
    pairs: Counter[tuple[int, bool, bool]] = Counter()
    for _ in range(N):
        policy, chances, _ = reference.get_params(25)
        happens = [bool(chances[i] <= reference.policies[policy][i][1]) for i in range(2)]
        pairs[policy, happens[0], happens[1]] += 1
    names = [(OPERATION_ID[p[1]], OPERATION_ID[p[4]]) for p in CIFAR10_POLICY]
    theirs: Counter[tuple[int, int]] = Counter()
    for (policy, first, second), count in pairs.items():
        nothing = len(OPERATIONS)
        theirs[names[policy][0] if first else nothing, names[policy][1] if second else nothing] += count
    ours = Counter(map(tuple, operations.tolist()))
    cells = [cell for cell in {*ours, *theirs} if ours[cell] + theirs[cell] >= 10]
    table = np.array([[counter[cell] for cell in cells] for counter in (ours, theirs)])
    assert stats.chi2_contingency(table).pvalue > ALPHA


def test_autoaugment_signs_and_sizes() -> None:
    operations, arguments = draw_cifar10_policy(make_keys(), "deepvoltaire", 32, 48)

    def drawn(name: str, slot: int) -> Tensor:
        return arguments[operations[:, slot] == OPERATION_ID[name], slot]

    assert drawn("rotate", 0).unique().tolist() == pytest.approx([30 * 2 / 9])
    assert drawn("translate_x", 1).unique().tolist() == pytest.approx(
        [48 * 150 / 331 * part for part in (-1, -8 / 9, 8 / 9, 1)]
    )
    assert drawn("translate_y", 0).unique().tolist() == pytest.approx(
        [32 * 150 / 331 * part for part in (-1, -1 / 3, 1 / 3, 1)]
    )
    assert drawn("posterize", 1).unique().tolist() == [5.0]
    assert drawn("solarize", 0).unique().tolist() == pytest.approx([256 * 4 / 9, 256 * 7 / 9])
    assert drawn("contrast", 1).unique().tolist() == pytest.approx([0.4, 1.6])
    assert_rate(drawn("translate_y", 0) > 0, 0.5)
    turns = draw_cifar10_policy(make_keys(), "torchvision", 32, 32)
    rotations = turns[1][turns[0][:, 0] == OPERATION_ID["rotate"], 0]
    assert_rate(rotations > 0, 0.5)


def timm_arguments(name: str, level: float, count: int) -> list[tuple[float, ...]]:
    """Run timm's own operation with its kernel replaced by one that notes the arguments."""
    hparams = {"magnitude_std": 0.5, "img_mean": (124, 116, 104)}
    operation = timm_aa.AugmentOp(TIMM_NAMES[name], 0.5, level, hparams)  # type: ignore[no-untyped-call]
    seen: list[tuple[float, ...]] = []
    operation.aug_fn = lambda image, *arguments, **_: seen.append(arguments)
    for _ in range(count):
        operation(None)
    return seen


@pytest.mark.parametrize("level", [10.0, 9.0, 5.5])
def test_randaugment_draws_timms_operations_and_arguments(level: float) -> None:
    operations, arguments, cubic = (
        drawn.flatten() for drawn in draw_randaugment(make_keys(), 2, level, 0.5, (160, 224))
    )
    assert [TIMM_NAMES[name] for name in RANDAUGMENT_OPERATIONS] == timm_aa._RAND_TRANSFORMS
    happened = operations < len(OPERATIONS)
    assert_rate(happened, 0.5)
    assert_rate(cubic, 0.5)
    counts = torch.bincount(operations[happened], minlength=len(OPERATIONS))
    assert stats.chisquare(counts[counts > 0].numpy()).pvalue > ALPHA
    random.seed(0)
    for name in RANDAUGMENT_OPERATIONS[3:]:
        ours = arguments[operations == OPERATION_ID[name]]
        theirs = torch.tensor([first for (first, *_) in timm_arguments(name, level, 1500)], dtype=torch.float64)
        theirs = theirs * {"translate_x": 224, "translate_y": 160}.get(name, 1)
        ours, theirs = ours.round(decimals=4), theirs.round(decimals=4)
        values = torch.unique(torch.cat([ours, theirs]))
        if len(values) > 10:
            assert_same_distribution(ours, theirs)
        else:
            table = [[int((side == v).sum()) for v in values] for side in (ours, theirs)]
            assert len(values) == 1 or stats.chi2_contingency(np.array(table)).pvalue > ALPHA, name


def test_randaugment_layers_are_independent() -> None:
    operations, _, _ = draw_randaugment(make_keys(), 2, 10.0, 0.5, (32, 32))
    both = (operations < len(OPERATIONS)).all(1)
    table = np.zeros((len(OPERATIONS), len(OPERATIONS)))
    for first, second in operations[both].tolist():
        table[first, second] += 1
    assert stats.chi2_contingency(table).pvalue > ALPHA


def test_cifar10_policy_is_torchvisions_list_with_its_magnitudes() -> None:
    reference = T.AutoAugment(T.AutoAugmentPolicy.CIFAR10)
    space = reference._augmentation_space(10, (32, 32))
    assert len(CIFAR10_POLICY) == 25
    for ours, theirs in zip(CIFAR10_POLICY, reference.policies, strict=True):
        for (probability, name, level), (their_name, their_probability, their_level) in zip(
            (ours[:3], ours[3:]), theirs, strict=True
        ):
            assert (TORCHVISION_NAMES[name], probability) == (their_name, their_probability)
            if their_level is None:
                continue
            assert level == their_level
            size = magnitude(name, level, "torchvision") * (32 if name.startswith("translate") else 1)
            assert size == pytest.approx(float(space[their_name][0][level]), rel=1e-6)


def test_autoaugment_torchvision_equals_torchvision_image_by_image(images: Tensor) -> None:
    many = images.repeat(6, 1, 1, 1)
    keys = make_keys(len(many))
    operations, arguments = draw_cifar10_policy(keys, "torchvision", 32, 32)
    expected = []
    for image, row, values in zip(many, operations.tolist(), arguments.tolist(), strict=True):
        for operation, value in zip(row, values, strict=True):
            if operation == len(OPERATIONS):
                continue
            name = OPERATIONS[operation]
            value = value - 1 if name in BLENDS else -value if name.startswith("translate") else value
            image = _apply_op(image, TORCHVISION_NAMES[name], value, InterpolationMode.NEAREST, [128.0] * 3)
        expected.append(image)
    assert torch.equal(autoaugment_cifar10(many, keys, "torchvision", 128), torch.stack(expected))


def test_deepvoltaire_fills_grey_shears_smoothly_and_rotates_to_one_side(images: Tensor) -> None:
    key = make_keys(4000)
    operations, arguments = draw_cifar10_policy(key, "deepvoltaire", 32, 32)
    idle = operations[:, 1] == len(OPERATIONS)
    for name, resample in (("shear_y", Image.Resampling.BICUBIC), ("rotate", Image.Resampling.NEAREST)):
        chosen = ((operations[:, 0] == OPERATION_ID[name]) & idle).nonzero().squeeze(1)[:B]
        assert len(chosen) >= 10
        ours = autoaugment_cifar10(images[: len(chosen)], key[chosen], "deepvoltaire", 128)

        def pillow(image: Image.Image, value: float, name: str = name, mode: int = resample) -> Image.Image:
            if name == "rotate":
                return image.rotate(value, fillcolor=(128,) * 3)
            return image.transform(
                (32, 32), Image.Transform.AFFINE, (1, 0, 0, value, 1, 0), Image.Resampling(mode), fillcolor=(128,) * 3
            )

        expected = through_pil(pillow, images[: len(chosen)], arguments[chosen, 0].tolist())
        difference = (ours.int() - expected.int()).abs()
        assert (difference > 1).double().mean() < 1e-3
        assert (ours == 128).all(1).any()


def test_randaugment_equals_a_chain_of_single_operations(images: Tensor) -> None:
    key = make_keys(B)
    operations, arguments, cubic = draw_randaugment(key, 3, 7.0, 0.5, (32, 32))
    chained = images
    for layer in range(3):
        rows = []
        for i in range(B):
            name = OPERATIONS[operations[i, layer]] if operations[i, layer] < len(OPERATIONS) else ""
            palette = Palette(frozenset((name,)), frozenset(WARPS), FILL)
            one = slice(i, i + 1)
            drawn = operations[one, layer], arguments[one, layer], cubic[one, layer]
            rows.append(apply_operations(chained[one], *drawn, palette))
        chained = torch.cat(rows)
    assert torch.equal(randaugment(images, key, 3, 7.0, FILL), chained)
