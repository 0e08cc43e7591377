"""Networks of ltk's own under a name of timm's list."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from timm.models import register_model
from torch import nn

_OF_TIMM = ("pretrained_cfg", "pretrained_cfg_overlay", "cache_dir")  # timm gives them to every model


def register(name: str, module: str, create: Callable[..., nn.Module]) -> None:
    """Make a network known to timm; it has no published weights.

    Args:
        name: for ``timm.create_model``.
        module: name of the module that registers it.
        create: builds it from the arguments that are not timm's own.
    """

    def entry(pretrained: bool = False, **options: Any) -> nn.Module:
        if pretrained:
            raise ValueError(f"{name} has no published pretrained weights")
        return create(**{option: value for option, value in options.items() if option not in _OF_TIMM})

    entry.__name__, entry.__module__ = name, module
    register_model(entry)
