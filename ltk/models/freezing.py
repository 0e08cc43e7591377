"""Leaving parts of a pretrained network as they are."""

from __future__ import annotations

from torch import nn

from ltk.errors import UsageError
from ltk.models.backbones import Backbone


def stage_names(net: nn.Module) -> list[str]:
    """Return the names layer1, layer2, ... of a ResNet's stages, in order; empty for other networks."""
    return sorted(name for name, _ in net.named_children() if name.startswith("layer") and name[5:].isdigit())


def find_last_block(backbone: Backbone) -> nn.Module:
    """Return the last residual block of a ResNet.

    Raises:
        UsageError: the network has no stages named layer1, layer2, ...
    """
    stages = stage_names(backbone.net)
    if not stages:
        raise UsageError("this backbone has no last residual block to train alone", "Use a ResNet, or train all of it.")
    return list(backbone.net.get_submodule(stages[-1]).children())[-1]


def freeze_early_convolutions(backbone: Backbone) -> None:
    """Stop training every convolution but those of the last block; norms stay trainable (PaCo's recipe for Places-LT).

    Args:
        backbone: a ResNet; changed in place.

    Raises:
        UsageError: the network has no stages named layer1, layer2, ...
    """
    kept = set(find_last_block(backbone).parameters())
    for module in backbone.net.modules():
        if isinstance(module, nn.Conv2d):
            for parameter in module.parameters():
                parameter.requires_grad_(parameter in kept)
