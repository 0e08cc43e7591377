"""RIDE's network on timm's ResNets and the CIFAR ResNets."""

from __future__ import annotations

import math

import pytest
import torch

from ltk.errors import UsageError
from ltk.models.backbones import count_parameters, create_backbone
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
    backbone = create_backbone("resnet18").eval()
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


def test_other_networks_are_refused() -> None:
    with pytest.raises(UsageError, match="stages"):
        create_experts(create_backbone("vit_tiny_patch16_224", image_size=32), 2)
    with pytest.raises(UsageError, match="width"):
        create_experts(create_backbone("cifar_resnet8"), 2, width=0.75)
