"""ResNets by the names and shapes of their tensors: which backbone of ``create_backbone`` they are.

Every code names its ResNet as torchvision does, or translates to it; depth, width, stem, groups and channels of the
image are read off the shapes. Imports no torch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ltk.errors import DataError

Shape = tuple[int, ...]
_TRUNK = re.compile(r"(?:conv1|bn1|layer\d\.\d+\.(?:(?:conv|bn)[1-3]|downsample\.[01]))\.\w+")
# GLMC's ResNet-18/34/50 (weiaicunzai's pytorch-cifar100) and the CIFAR ResNets of SupContrast (GPaCo)
_ALIASES = (
    (re.compile(r"^conv1\.0\."), "conv1."),
    (re.compile(r"^conv1\.1\."), "bn1."),
    (re.compile(r"^conv2_x\."), "layer1."),
    (re.compile(r"^conv3_x\."), "layer2."),
    (re.compile(r"^conv4_x\."), "layer3."),
    (re.compile(r"^conv5_x\."), "layer4."),
    (re.compile(r"\.residual_function\.0\."), ".conv1."),
    (re.compile(r"\.residual_function\.1\."), ".bn1."),
    (re.compile(r"\.residual_function\.3\."), ".conv2."),
    (re.compile(r"\.residual_function\.4\."), ".bn2."),
    (re.compile(r"\.residual_function\.6\."), ".conv3."),
    (re.compile(r"\.residual_function\.7\."), ".bn3."),
    (re.compile(r"\.shortcut\.([01])\."), r".downsample.\1."),
)
# (bottleneck, blocks per stage, groups, width per group at 64 planes) -> timm's name
_PUBLISHED: dict[tuple[bool, Shape, int, int], str] = {
    (False, (2, 2, 2, 2), 1, 64): "resnet18",
    (False, (3, 4, 6, 3), 1, 64): "resnet34",
    (True, (3, 4, 6, 3), 1, 64): "resnet50",
    (True, (3, 4, 23, 3), 1, 64): "resnet101",
    (True, (3, 8, 36, 3), 1, 64): "resnet152",
    (True, (3, 24, 36, 3), 1, 64): "resnet200",
    (True, (3, 4, 6, 3), 1, 128): "wide_resnet50_2",
    (True, (3, 4, 23, 3), 1, 128): "wide_resnet101_2",
    (True, (3, 4, 6, 3), 32, 4): "resnext50_32x4d",
    (True, (3, 4, 23, 3), 32, 4): "resnext101_32x4d",
    (True, (3, 4, 23, 3), 32, 8): "resnext101_32x8d",
    (True, (3, 4, 23, 3), 64, 4): "resnext101_64x4d",
}
_CIFAR_STEMS: dict[tuple[bool, Shape], str] = {
    (False, (2, 2, 2, 2)): "cifar_stem_resnet18",
    (False, (3, 4, 6, 3)): "cifar_stem_resnet34",
    (True, (3, 4, 6, 3)): "cifar_stem_resnet50",
    (True, (3, 4, 23, 3)): "cifar_stem_resnet101",
    (True, (3, 8, 36, 3)): "cifar_stem_resnet152",
}


@dataclass(frozen=True)
class BackboneSpec:
    """Arguments of ``create_backbone``.

    Attributes:
        name: timm's name.
        options: further arguments.
        in_chans: channels of the images.
        size: side of the images it was made for, in pixels.
        evidence: what it was recognised by.
    """

    name: str
    options: dict[str, Any]
    in_chans: int
    size: int
    evidence: str


def canonical_name(name: str) -> str | None:
    """Return torchvision's name of a ResNet's tensor; None when it is none."""
    for pattern, replacement in _ALIASES:
        name = pattern.sub(replacement, name)
    return name if _TRUNK.fullmatch(name) else None


def legacy_name(name: str, style: str) -> str:
    """Return what an official CIFAR code of four stages calls a tensor.

    Args:
        name: torchvision's name.
        style: "glmc"; "gpaco" or "paco" (SupContrast's names); anything else leaves the name.
    """
    if style in ("paco", "gpaco"):
        return name.replace(".downsample.", ".shortcut.")
    if style != "glmc":
        return name
    stem = {"conv1": "conv1.0", "bn1": "conv1.1"}
    owner, _, rest = name.partition(".")
    if owner in stem:
        return f"{stem[owner]}.{rest}"
    block, _, inner = rest.partition(".")
    place, _, leaf = inner.rpartition(".")
    places = {"conv1": 0, "bn1": 1, "conv2": 3, "bn2": 4, "conv3": 6, "bn3": 7}
    inside = f"residual_function.{places[place]}" if place in places else place.replace("downsample", "shortcut")
    return f"conv{int(owner.removeprefix('layer')) + 1}_x.{block}.{inside}.{leaf}"


def infer_backbone(shapes: Mapping[str, Shape]) -> BackboneSpec:
    """Return the ResNet that has tensors of these names and shapes.

    Args:
        shapes: by torchvision's names; a RIDE network's own late stages are those of its first expert.

    Raises:
        DataError: no ResNet, or one that no backbone of ltk is.
    """
    first = [shapes.get(name, ()) for name in ("conv1.weight", "layer1.0.conv1.weight")]
    if not all(len(shape) == 4 and all(shape) for shape in first):
        raise DataError("the tensors are those of no ResNet", "Name the architecture: --arch NAME (any timm model).")
    stages = _blocks_per_stage(shapes)
    _, in_chans, kernel, _ = shapes["conv1.weight"]
    if len(stages) == 3:
        return _cifar(shapes, stages, in_chans)
    bottleneck = "layer1.0.conv3.weight" in shapes
    groups, width = _cardinality(shapes, bottleneck)
    blocks = "-".join(map(str, stages))
    evidence = f"{'bottleneck' if bottleneck else 'basic'} blocks {blocks}, {kernel}x{kernel} stem"
    if kernel == 3:
        name = _CIFAR_STEMS.get((bottleneck, stages), "cifar_stem_resnet50" if bottleneck else "cifar_stem_resnet18")
        own = {} if (bottleneck, stages) in _CIFAR_STEMS else {"layers": list(stages)}
        return BackboneSpec(name, own, in_chans, 32, evidence)
    published = _PUBLISHED.get((bottleneck, stages, groups, width))
    if published:
        return BackboneSpec(published, {}, in_chans, 224, f"{evidence}, {groups} groups of width {width}")
    options: dict[str, Any] = {"layers": list(stages)}
    if bottleneck and (groups, width) != (1, 64):
        options |= {"cardinality": groups, "base_width": width}
    return BackboneSpec("resnet50" if bottleneck else "resnet18", options, in_chans, 224, evidence)


def _blocks_per_stage(shapes: Mapping[str, Shape]) -> tuple[int, ...]:
    found: dict[int, set[int]] = {}
    for name in shapes:
        match = re.match(r"layer(\d)\.(\d+)\.", name)
        if match:
            found.setdefault(int(match[1]), set()).add(int(match[2]))
    # Every number up to the last must be there: a file may not ask for more blocks than it holds.
    whole = all(blocks == set(range(len(blocks))) for blocks in found.values())
    if not whole or sorted(found) != list(range(1, len(found) + 1)) or len(found) not in (3, 4):
        raise DataError(f"a ResNet with the stages {sorted(found)} is none that ltk builds")
    return tuple(len(found[stage]) for stage in sorted(found))


def _cifar(shapes: Mapping[str, Shape], stages: tuple[int, ...], in_chans: int) -> BackboneSpec:
    """A CIFAR ResNet of three stages with shortcuts without parameters."""
    import timm

    depth, width = 6 * stages[0] + 2, shapes["conv1.weight"][0]
    name = f"cifar_resnet{depth}"
    if len(set(stages)) > 1 or not timm.is_model(name) or any("downsample" in key for key in shapes):
        raise DataError(f"a CIFAR ResNet with {stages} blocks per stage is none that ltk builds")
    options = {} if width == 16 else {"width": width}
    return BackboneSpec(name, options, in_chans, 32, f"three stages of {stages[0]} basic blocks, {width} channels")


def _cardinality(shapes: Mapping[str, Shape], bottleneck: bool) -> tuple[int, int]:
    """Groups, and channels per group at 64 planes."""
    if not bottleneck:
        return 1, 64
    inner = shapes.get("layer1.0.conv2.weight", ())
    planes = shapes["layer1.0.conv3.weight"][0] // 4 if shapes["layer1.0.conv3.weight"] else 0
    if len(inner) != 4 or not planes or not inner[1]:
        raise DataError("the first block is none of a ResNet")
    return inner[0] // inner[1], inner[1] * 64 // planes
