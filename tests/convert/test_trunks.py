"""Architectures are read off names and shapes."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
import torchvision

from ltk.convert.trunks import canonical_name, infer_backbone, legacy_name
from ltk.errors import DataError
from ltk.models.backbones import create_backbone
from ltk.models.cifar_resnet import DEPTHS
from ltk.models.cifar_stem import DEPTHS as STEM_DEPTHS
from tests.convert.legacy_models import glmc_name

IMAGENET = ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnext50_32x4d", "resnext101_32x8d",
            "resnext101_64x4d", "wide_resnet50_2", "wide_resnet101_2"]  # fmt: skip


def shapes_of(net: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in net.state_dict().items() if not name.startswith("fc.")}


@pytest.mark.parametrize("name", IMAGENET)
def test_torchvision_nets(name: str) -> None:
    with torch.device("meta"):
        net = torchvision.models.get_model(name)
    spec = infer_backbone(shapes_of(net))
    assert (spec.name, spec.options, spec.in_chans, spec.size) == (name, {}, 3, 224)


@pytest.mark.parametrize("name", ["resnet200", "resnext101_32x4d", *(f"cifar_stem_resnet{d}" for d in STEM_DEPTHS)])
def test_timm_nets(name: str) -> None:
    with torch.device("meta"):
        net = timm.create_model(name, num_classes=0, in_chans=1)
    spec = infer_backbone(shapes_of(net))
    assert (spec.name, spec.options, spec.in_chans) == (name, {}, 1)
    assert spec.size == (32 if "stem" in name else 224)


@pytest.mark.parametrize("depth", DEPTHS)
def test_cifar_nets_of_any_width(depth: int) -> None:
    with torch.device("meta"):
        net = timm.create_model(f"cifar_resnet{depth}", num_classes=0, width=24)
    spec = infer_backbone(shapes_of(net))
    assert (spec.name, spec.options) == (f"cifar_resnet{depth}", {"width": 24})


@pytest.mark.parametrize("layers", [[1, 2, 1, 3], [1, 1, 1, 1]])
@pytest.mark.parametrize("groups", [{}, {"cardinality": 8, "base_width": 16}])
def test_unpublished_nets_are_built_from_their_numbers(layers: list[int], groups: dict[str, Any]) -> None:
    with torch.device("meta"):
        net = timm.create_model("resnet50", num_classes=0, layers=layers, **groups)
    spec = infer_backbone(shapes_of(net))
    assert (spec.name, spec.options) == ("resnet50", {"layers": layers, **groups})
    assert shapes_of(create_backbone(spec.name, **spec.options).net) == shapes_of(net)


def test_what_is_no_resnet() -> None:
    with pytest.raises(DataError, match="no ResNet"):
        infer_backbone({"patch_embed.weight": (3, 3)})
    with torch.device("meta"):
        net = timm.create_model("cifar_resnet20", num_classes=0)
    shapes = shapes_of(net) | {"layer1.3.conv1.weight": (16, 16, 3, 3)}
    with pytest.raises(DataError, match=r"\(4, 3, 3\) blocks"):
        infer_backbone(shapes)


def test_names_of_other_codes() -> None:
    assert canonical_name("conv3_x.1.residual_function.4.running_var") == "layer2.1.bn2.running_var"
    assert canonical_name("conv2_x.0.shortcut.1.weight") == "layer1.0.downsample.1.weight"
    assert canonical_name("layer4.0.shortcut.0.weight") == "layer4.0.downsample.0.weight"
    assert canonical_name("conv1.0.weight") == "conv1.weight"
    assert canonical_name("fc.weight") is None
    assert canonical_name("layer1.0.se.fc1.weight") is None


def test_names_go_there_and_back() -> None:
    with torch.device("meta"):
        net = timm.create_model("cifar_stem_resnet50", num_classes=0)
    for name in net.state_dict():
        assert legacy_name(name, "glmc") == glmc_name(name)
        for style in ("glmc", "gpaco", ""):
            assert canonical_name(legacy_name(name, style)) == name
