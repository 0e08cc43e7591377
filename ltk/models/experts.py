"""RIDE's network: several experts that share the early stages of a ResNet.

Wang, Lian, Miao, Liu, Yu: "Long-tailed recognition by routing diverse distribution-aware experts", ICLR 2021,
section 3.1: stem and first stages are shared, the last two stages exist once per expert, optionally narrower.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import timm
import torch
from timm.models.resnet import ResNet
from torch import Tensor, nn

from ltk.errors import UsageError
from ltk.models.backbones import Backbone
from ltk.models.freezing import stage_names

_OWN_STAGES = 2


class ExpertBackbone(Backbone):
    """A backbone whose features are those of E experts, side by side.

    Args:
        shared: a ResNet or ResNeXt whose last two stages are left out.
        experts: the last two stages of each expert.
        expert_features: D, channels of one expert's map.

    Attributes:
        num_experts: E.
        expert_features: D; ``num_features`` and ``map_features`` are E * D.
    """

    def __init__(self, shared: nn.Module, experts: Iterable[nn.Module], expert_features: int) -> None:
        super().__init__(shared)
        self.experts = nn.ModuleList(experts)
        self.num_experts, self.expert_features = len(self.experts), expert_features
        self.num_features = self.map_features = self.num_experts * expert_features

    def forward_maps(self, x_BCHW: Tensor, num_experts: int | None = None) -> list[Tensor]:
        """Return each expert's map_BDHW.

        Args:
            x_BCHW: images.
            num_experts: run the first so many alone; None runs all.
        """
        shared_BCHW = super().forward_map(x_BCHW)
        return [expert(shared_BCHW) for expert in self.experts[:num_experts]]

    def forward_map(self, x_BCHW: Tensor) -> Tensor:
        """Return map_BCHW with E * D channels, expert after expert."""
        return torch.cat(self.forward_maps(x_BCHW), dim=1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return pooled features_BD of width E * D."""
        return self.forward_map(x_BCHW).mean(dim=(2, 3))


def create_experts(backbone: Backbone, num_experts: int, width: float = 1.0) -> ExpertBackbone:
    """Split a ResNet into shared early stages and fresh late stages for each expert.

    Pretrained weights stay in the shared part alone: experts that start alike would stay alike. No residual branch
    starts at zero, in either part.

    Args:
        backbone: a ResNet or ResNeXt; it is copied.
        num_experts: E.
        width: factor on the channels of the late stages (RIDE: 0.75), for timm's ResNets alone.

    Raises:
        UsageError: a network without residual stages, or one whose width cannot change.
    """
    names = stage_names(backbone.net)
    if len(names) <= _OWN_STAGES:
        raise UsageError("experts need a ResNet with stages", "Use a ResNet or ResNeXt backbone.")
    late = names[-_OWN_STAGES:]
    template = backbone.net if width == 1 else _create_narrow(backbone, width)
    stages = nn.Sequential(*(template.get_submodule(name) for name in late))
    experts = (_redrawn(stages) for _ in range(num_experts))  # one by one: a file may not ask for any number
    shared = copy.deepcopy(backbone.net)
    for name in late:
        setattr(shared, name, nn.Sequential())  # passes its input on
    _open_branches(shared)
    return ExpertBackbone(shared, experts, int(template.num_features))  # type: ignore[arg-type]


def _create_narrow(backbone: Backbone, width: float) -> nn.Module:
    """The same network with scaled late stages, built anew from the backbone's name and options."""
    net, hint = backbone.net, "Leave method.expert_width at 1."
    if not isinstance(net, ResNet):
        raise UsageError("only timm's ResNets take another expert width", hint)
    if not backbone.name:
        raise UsageError("a backbone that create_backbone did not build takes no other expert width", hint)
    stages: list[Any] = [net.get_submodule(name) for name in stage_names(net)]
    outputs: list[Any] = [info["num_chs"] for info in net.feature_info[-len(stages) :]]
    planes = [output // stage[0].expansion for output, stage in zip(outputs, stages, strict=True)]
    late = (round(width * channels) for channels in planes[-_OWN_STAGES:])
    options = backbone.options | {"channels": (*planes[:-_OWN_STAGES], *late)}
    try:
        narrow: nn.Module = timm.create_model(backbone.name, **options)
        if not all(parameter.numel() for parameter in narrow.parameters()):
            raise ValueError("no channels would be left")
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        raise UsageError(f"backbone {backbone.name} takes no expert width of {width:g}: {error}", hint) from error
    return narrow


@torch.no_grad()
def _open_branches(net: nn.Module) -> None:
    """Set the norms that start at 0, and with them a residual branch, to 1; all others stay."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d) and module.affine:
            module.weight.copy_(torch.where(module.weight.any(), module.weight, 1.0))


def _redrawn(stages: nn.Module) -> nn.Module:
    """A copy with convolutions from N(0, 2 / (k^2 * channels out)) and norms at 1 and 0, as RIDE starts."""
    fresh = copy.deepcopy(stages)
    for module in fresh.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
    return fresh
