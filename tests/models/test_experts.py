"""RIDE's network on timm's ResNets and the CIFAR ResNets."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import nn

from ltk.errors import UsageError
from ltk.models.backbones import Backbone, count_parameters, create_backbone
from ltk.models.experts import create_experts


def test_stages_are_shared_early_and_own_late() -> None:
    torch.manual_seed(0)
    backbone = create_backbone("cifar_resnet8", width=4)
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    experts = create_experts(backbone, 3)
    assert (experts.num_experts, experts.expert_features, experts.num_features) == (3, 16, 48)
    stage = count_parameters(backbone.net.layer2) + count_parameters(backbone.net.layer3)  # type: ignore[arg-type]
    assert count_parameters(experts) == count_parameters(backbone) + 2 * stage
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())
    shared = {name for name in experts.state_dict() if name.startswith("net.")}
    assert shared == {name for name in before if "layer2" not in name and "layer3" not in name}
    x_BCHW = torch.randn(2, 3, 16, 16)
    maps = experts.eval().forward_maps(x_BCHW)
    assert [tuple(m.shape) for m in maps] == [(2, 16, 4, 4)] * 3
    assert not torch.allclose(maps[0], maps[1])
    torch.testing.assert_close(experts.forward_map(x_BCHW), torch.cat(maps, dim=1))
    torch.testing.assert_close(experts(x_BCHW), torch.cat([m.mean(dim=(2, 3)) for m in maps], dim=1))
    assert len(experts.forward_maps(x_BCHW, 2)) == 2


def test_an_expert_with_the_backbones_own_stages_is_the_backbone() -> None:
    backbone = create_backbone("resnet18", zero_init_last=False).eval()
    experts = create_experts(backbone, 1).eval()
    own, late = experts.experts[0].state_dict(), dict[str, torch.Tensor]()
    for i, name in enumerate(("layer3", "layer4")):
        late |= {f"{i}.{key}": value for key, value in backbone.net.get_submodule(name).state_dict().items()}
    assert set(own) == set(late)
    experts.experts[0].load_state_dict(late)
    x_BCHW = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(experts.forward_map(x_BCHW), backbone.forward_map(x_BCHW))


def test_reduced_width_is_that_of_ride() -> None:
    """ResNeXt-50 with planes 192 and 384: D = 1536 and grouped convolutions of 384 and 768 channels."""
    with torch.device("meta"):
        backbone = create_backbone("resnext50_32x4d")
        experts = create_experts(backbone, 2, width=0.75)
    assert experts.expert_features == 1536
    convs = dict(experts.experts[0].named_modules())
    assert (convs["0.0.conv2"].out_channels, convs["0.0.conv2"].groups) == (384, 32)
    assert (convs["1.0.conv2"].out_channels, convs["1.0.conv3"].out_channels) == (768, 1536)
    assert experts(torch.zeros(1, 3, 64, 64, device="meta")).shape == (1, 3072)


def test_fresh_experts_start_as_ride_does() -> None:
    torch.manual_seed(0)
    experts = create_experts(create_backbone("resnet18"), 2)
    weight = experts.experts[1].get_parameter("1.0.conv2.weight").detach()
    assert float(weight.std()) == pytest.approx(math.sqrt(2 / (9 * 512)), rel=0.01)
    assert torch.equal(experts.experts[1].get_parameter("1.1.bn2.weight").detach(), torch.ones(512))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("cifar_stem_resnet18", {}),
        ("resnet10t", {"act_layer": "silu"}),
        ("resnext50_32x4d", {"cardinality": 16, "output_stride": 16, "avg_down": True, "layers": [1, 1, 1, 1]}),
    ],
)
def test_narrow_experts_are_the_same_network_but_narrower(name: str, options: dict[str, Any]) -> None:
    with torch.device("meta"):
        backbone = create_backbone(name, in_chans=1, **options)
        full, narrow = create_experts(backbone, 2), create_experts(copy.deepcopy(backbone), 2, width=0.75)
        x_BCHW = torch.zeros(1, 1, 64, 64)
        assert narrow.forward_map(x_BCHW).shape[2:] == full.forward_map(x_BCHW).shape[2:]
    assert narrow.expert_features == 0.75 * full.expert_features
    assert kinds_of(narrow.experts[0]) == kinds_of(full.experts[0])


def kinds_of(net: nn.Module) -> list[tuple[Any, ...]]:
    """What each layer is, but for its width."""
    same = ("stride", "padding", "dilation", "kernel_size", "groups")
    return [(name, type(part), *(getattr(part, key, None) for key in same)) for name, part in net.named_modules()]


def test_no_branch_starts_at_zero_in_shared_stages_or_experts() -> None:
    backbone = create_backbone("resnet18", zero_init_last=True)
    learnt = backbone.get_parameter("net.layer1.0.bn1.weight").detach().fill_(0.5)
    experts = create_experts(backbone, 2)
    norms = [part for part in experts.modules() if isinstance(part, nn.BatchNorm2d)]
    assert all(norm.weight.detach().all() for norm in norms)
    assert torch.equal(experts.get_parameter("net.layer1.0.bn1.weight"), learnt)
    assert not backbone.get_parameter("net.layer1.0.bn2.weight").detach().any()


@pytest.mark.filterwarnings("ignore:Initializing zero-element")
def test_widths_that_cannot_be_built_are_refused() -> None:
    with pytest.raises(UsageError, match=r"no expert width of 0\.01: no channels"):
        create_experts(create_backbone("resnext50_32x4d", layers=[1, 1, 1, 1]), 2, width=0.01)
    with pytest.raises(UsageError, match="create_backbone did not build"):
        create_experts(Backbone(create_backbone("resnet10t").net), 2, width=0.75)


def test_other_networks_are_refused() -> None:
    with pytest.raises(UsageError, match="stages"):
        create_experts(create_backbone("vit_tiny_patch16_224", image_size=32), 2)
    with pytest.raises(UsageError, match="width"):
        create_experts(create_backbone("cifar_resnet8"), 2, width=0.75)
