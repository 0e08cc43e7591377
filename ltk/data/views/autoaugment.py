"""AutoAugment and RandAugment: which operation with which argument, drawn per image.

AutoAugment: Cubuk et al., "AutoAugment: Learning Augmentation Policies from Data", https://arxiv.org/abs/1805.09501.
RandAugment: Cubuk et al., https://arxiv.org/abs/1909.13719, as timm's ``rand-m{m}-n{n}-mstd0.5``.

Differs from the official code of PaCo and BaGMar, which runs Pillow: blends follow torchvision's tensor kernels, which
truncate where Pillow rounds and are within one level of it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ltk import draws
from ltk.data.views.batching import constant
from ltk.data.views.pixel_ops import OPERATION_ID, OPERATIONS, WARPS, Palette, apply_operations

# The 25 sub-policies found on CIFAR-10 (paper, table 7): twice (probability, operation, magnitude level 0..9).
CIFAR10_POLICY: tuple[tuple[float, str, int, float, str, int], ...] = (
    (0.1, "invert", 7, 0.2, "contrast", 6),
    (0.7, "rotate", 2, 0.3, "translate_x", 9),
    (0.8, "sharpness", 1, 0.9, "sharpness", 3),
    (0.5, "shear_y", 8, 0.7, "translate_y", 9),
    (0.5, "autocontrast", 8, 0.9, "equalize", 2),
    (0.2, "shear_y", 7, 0.3, "posterize", 7),
    (0.4, "colour", 3, 0.6, "brightness", 7),
    (0.3, "sharpness", 9, 0.7, "brightness", 9),
    (0.6, "equalize", 5, 0.5, "equalize", 1),
    (0.6, "contrast", 7, 0.6, "sharpness", 5),
    (0.7, "colour", 7, 0.5, "translate_x", 8),
    (0.3, "equalize", 7, 0.4, "autocontrast", 8),
    (0.4, "translate_y", 3, 0.2, "sharpness", 6),
    (0.9, "brightness", 6, 0.2, "colour", 8),
    (0.5, "solarize", 2, 0.0, "invert", 3),
    (0.2, "equalize", 0, 0.6, "autocontrast", 0),
    (0.2, "equalize", 8, 0.6, "equalize", 4),
    (0.9, "colour", 9, 0.6, "equalize", 6),
    (0.8, "autocontrast", 4, 0.2, "solarize", 8),
    (0.1, "brightness", 3, 0.7, "colour", 0),
    (0.4, "solarize", 5, 0.9, "autocontrast", 3),
    (0.9, "translate_y", 9, 0.7, "translate_y", 9),
    (0.9, "autocontrast", 2, 0.8, "solarize", 3),
    (0.8, "equalize", 8, 0.1, "invert", 3),
    (0.7, "translate_y", 9, 0.9, "autocontrast", 1),
)

RANDAUGMENT_OPERATIONS = (
    "autocontrast",
    "equalize",
    "invert",
    "rotate",
    "posterize",
    "solarize",
    "solarize_add",
    "colour",
    "contrast",
    "brightness",
    "sharpness",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
)

_BLENDS = ("brightness", "contrast", "colour", "sharpness")
_NOTHING = len(OPERATIONS)
VARIANTS = ("deepvoltaire", "torchvision")


def magnitude(operation: str, level: int, variant: str) -> float:
    """Return the unsigned magnitude of a level 0..9; translations as a part of the side.

    Args:
        operation: a name of ``OPERATIONS``.
        level: 0 (weakest) to 9.
        variant: "deepvoltaire" (solarize from 256 down) or "torchvision" (from 255 down).
    """
    part = level / 9
    top = 256 if variant == "deepvoltaire" else 255
    ranges = {
        "shear_x": 0.3 * part,
        "shear_y": 0.3 * part,
        "translate_x": 150 / 331 * part,
        "translate_y": 150 / 331 * part,
        "rotate": 30 * part,
        "posterize": round(8 - 4 * part),
        "solarize": top - top * level / 9,
        **dict.fromkeys(_BLENDS, 0.9 * part),
    }
    return float(ranges.get(operation, 0.0))


def _is_signed(operation: str, variant: str) -> bool:
    unsigned_rotation = operation == "rotate" and variant == "deepvoltaire"
    return operation in (*WARPS, *_BLENDS) and not unsigned_rotation


def _policy_rows(variant: str) -> tuple[float, ...]:
    """Return, for each of 25 x 2 operations: probability, operation id, magnitude, whether its sign is drawn."""
    return tuple(
        value
        for policy in CIFAR10_POLICY
        for probability, name, level in (policy[:3], policy[3:])
        for value in (probability, OPERATION_ID[name], magnitude(name, level, variant), _is_signed(name, variant))
    )


_POLICY_ROWS = {variant: _policy_rows(variant) for variant in VARIANTS}


def draw_cifar10_policy(key_B: Tensor, variant: str, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Draw a sub-policy for each image, and which of its two operations happen.

    Args:
        key_B: int64 keys.
        variant: a name of ``VARIANTS``.
        height: of the images in pixels; a vertical translation is a part of it.
        width: likewise.

    Returns:
        operation_B2 and argument_B2 for ``apply_operations``.
    """
    which_B, *chances = draws.uniform(key_B, 5).unbind(1)
    policy_B = (which_B * len(CIFAR10_POLICY)).long()
    chance_B2, side_B2 = torch.stack(chances[:2], 1), torch.stack(chances[2:], 1)
    sign_B2 = torch.where(side_B2 < 0.5, -1.0, 1.0)
    table = constant(_POLICY_ROWS[variant], torch.float64, key_B.device).view(len(CIFAR10_POLICY), 2, 4)
    probability_B2, id_B2, size_B2, signed_B2 = table[policy_B].unbind(-1)
    operation_B2 = id_B2.long()
    value_B2 = torch.where(signed_B2 > 0, size_B2 * sign_B2, size_B2)
    pixels_x, pixels_y = value_B2 * width, value_B2 * height
    if variant == "torchvision":
        pixels_x, pixels_y = pixels_x.trunc(), pixels_y.trunc()
    argument_B2 = _choose(operation_B2, {"translate_x": pixels_x, "translate_y": pixels_y}, value_B2)
    argument_B2 = _choose(operation_B2, dict.fromkeys(_BLENDS, 1 + value_B2), argument_B2)
    return torch.where(chance_B2 < probability_B2, operation_B2, _NOTHING), argument_B2


def _choose(operation: Tensor, arguments: dict[str, Tensor], otherwise: Tensor) -> Tensor:
    for name, argument in arguments.items():
        otherwise = torch.where(operation == OPERATION_ID[name], argument, otherwise)
    return otherwise


def autoaugment_cifar10(images_BCHW: Tensor, key_B: Tensor, variant: str, fill: int) -> Tensor:
    """Apply AutoAugment's CIFAR-10 policy to uint8 images.

    Args:
        images_BCHW: uint8 images; not changed.
        key_B: int64 keys, one per sample.
        variant: "deepvoltaire" (the list as PaCo and BaGMar run it: bicubic shear, rotation to one side) or
            "torchvision" (nearest pixels, whole-pixel translations, rotation to both sides).
        fill: level of the points outside the image.
    """
    H, W = images_BCHW.shape[-2:]
    operation_B2, argument_B2 = draw_cifar10_policy(key_B, variant, H, W)
    smooth = frozenset(("shear_x", "shear_y") if variant == "deepvoltaire" else ())
    cubic_B = torch.ones_like(key_B, dtype=torch.bool)
    names_of_slots = {policy[1] for policy in CIFAR10_POLICY}, {policy[4] for policy in CIFAR10_POLICY}
    for slot, names in enumerate(names_of_slots):
        drawn = operation_B2[:, slot], argument_B2[:, slot], cubic_B
        images_BCHW = apply_operations(images_BCHW, *drawn, Palette(frozenset(names), smooth, (fill,) * 3))
    return images_BCHW


def draw_randaugment(
    key_B: Tensor, num_layers: int, level: float, level_std: float, sides: tuple[int, int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw the layers of RandAugment: in each, an image's operation happens with probability 1/2.

    Args:
        key_B: int64 keys.
        num_layers: operations in a row, drawn with replacement.
        level: mean magnitude, 0 to 10; larger ones are cut to 10 after the noise.
        level_std: standard deviation of the magnitude, drawn anew for each layer.
        sides: height and width of the images in pixels.

    Returns:
        operation_BL, argument_BL and cubic_BL for ``apply_operations``.
    """
    device = key_B.device
    choices = constant((len(RANDAUGMENT_OPERATIONS), 2, 2, 2), torch.int64, device)
    drawn = draws.randint(draws.fold(key_B, 0), choices, num_layers, 4)
    index_BL, happens_BL, negative_BL, cubic_BL = drawn.unbind(-1)
    ids = constant(tuple(OPERATION_ID[name] for name in RANDAUGMENT_OPERATIONS), torch.int64, device)
    noise_BL = draws.normal(draws.fold(key_B, 1), num_layers).double()
    part_BL = (level + level_std * noise_BL).clamp(0, 10) / 10
    signed_BL = part_BL * (1 - 2 * negative_BL)
    arguments = {
        "rotate": 30 * signed_BL,
        "posterize": (4 * part_BL).floor(),
        "solarize": (256 * part_BL).floor(),
        "solarize_add": (110 * part_BL).floor(),
        "shear_x": 0.3 * signed_BL,
        "shear_y": 0.3 * signed_BL,
        "translate_x": 0.45 * sides[1] * signed_BL,
        "translate_y": 0.45 * sides[0] * signed_BL,
    }
    operation_BL = ids[index_BL]
    argument_BL = _choose(operation_BL, arguments, 0.1 + 1.8 * part_BL)
    return torch.where(happens_BL == 1, operation_BL, _NOTHING), argument_BL, cubic_BL == 1


def randaugment(images_BCHW: Tensor, key_B: Tensor, num_layers: int, level: float, fill: tuple[int, ...]) -> Tensor:
    """Apply RandAugment to uint8 images as timm's ``rand-m{level}-n{num_layers}-mstd0.5`` (not "inc").

    Args:
        images_BCHW: uint8 images; not changed.
        key_B: int64 keys, one per sample.
        num_layers: operations in a row.
        level: mean magnitude, 0 to 10; its standard deviation is 0.5.
        fill: levels of the points outside the image, one per channel.
    """
    H, W = images_BCHW.shape[-2:]
    palette = Palette(frozenset(RANDAUGMENT_OPERATIONS), frozenset(WARPS), fill)
    operation_BL, argument_BL, cubic_BL = draw_randaugment(key_B, num_layers, level, 0.5, (H, W))
    for layer in range(num_layers):
        drawn = operation_BL[:, layer], argument_BL[:, layer], cubic_BL[:, layer]
        images_BCHW = apply_operations(images_BCHW, *drawn, palette)
    return images_BCHW
