"""Any timm model as a feature extractor: pooled features and feature maps through one interface."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

import ltk.models.cifar_resnet  # registers cifar_resnet*
import ltk.models.cifar_stem  # noqa: F401  registers cifar_stem_resnet*
from ltk.errors import DataError, UsageError, unknown_name
from ltk.models.pretrained import is_model_file, load_weights


class Backbone(nn.Module):
    """A timm model without its classifier.

    Args:
        net: a timm model created with ``num_classes=0``.
        name: timm's name of it; "" where it is not known.
        options: the arguments that timm built it with.

    Attributes:
        num_features: D, the width of the pooled features.
        map_features: D', the width of the feature map (differs from D where timm's head widens, as in MobileNets).
    """

    def __init__(self, net: nn.Module, name: str = "", options: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self.net, self.name, self.options = net, name, dict(options or {})
        self.map_features = int(net.num_features)  # type: ignore[arg-type]
        self.num_features = int(getattr(net, "head_hidden_size", net.num_features))  # type: ignore[arg-type]

    def forward_map(self, x_BCHW: Tensor) -> Tensor:
        """Return the last feature map_BDHW; tokens of a transformer come as map_BDN1, class token left out."""
        out: Tensor = self.net.forward_features(x_BCHW)  # type: ignore[operator]
        if out.ndim == 3:
            first = int(getattr(self.net, "num_prefix_tokens", 0) or 0)
            return out[:, first:].transpose(1, 2).unsqueeze(-1)
        if out.shape[1] != self.map_features and out.shape[-1] == self.map_features:
            return out.permute(0, 3, 1, 2)  # channels-last families (Swin)
        return out

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return pooled features_BD."""
        out: Tensor = self.net.forward_features(x_BCHW)  # type: ignore[operator]
        pooled: Tensor = self.net.forward_head(out, pre_logits=True)  # type: ignore[operator]
        return pooled


def create_backbone(
    name: str,
    *,
    pretrained: bool | Path = False,
    in_chans: int = 3,
    image_size: int | None = None,
    **options: Any,
) -> Backbone:
    """Build a backbone by its timm name.

    Args:
        name: any name of ``timm.list_models()``, such as resnet50, resnext50_32x4d, cifar_resnet32.
        pretrained: True for timm's weights, or a local file: a state dict, or a model of ltk whose backbone is taken.
        in_chans: channels of the images.
        image_size: side in pixels, for families that need to know it (vision transformers).
        **options: further arguments of the timm model, such as ``width=64`` for the CIFAR ResNets.

    Raises:
        UsageError: no such model, or an option it does not take.
        DataError: the pretrained weights cannot be read.
    """
    if not timm.is_model(name):
        raise unknown_name("backbone", name, timm.list_models())
    options = {key: value for key, value in options.items() if value is not None}
    options |= {"num_classes": 0, "in_chans": in_chans}
    own = None
    if isinstance(pretrained, Path):
        if not pretrained.is_file():
            raise DataError(f"no weight file {pretrained}", "Give one: --set model.pretrained=FILE")
        if name.startswith("cifar_") or is_model_file(pretrained):
            own, pretrained = pretrained, False
        else:
            options["pretrained_cfg_overlay"] = {"file": str(pretrained)}
    if image_size and not name.startswith("cifar_"):
        options = _with_image_size(name, options, image_size)
    try:
        net = timm.create_model(name, pretrained=bool(pretrained), **options)
    except TypeError as error:
        raise UsageError(f"backbone {name} does not take these options: {error}") from error
    except (OSError, RuntimeError, ValueError, AssertionError) as error:
        if not pretrained:
            raise UsageError(f"backbone {name} cannot be built: {error}") from error
        raise DataError(
            f"no pretrained weights for {name}: {' '.join(str(error).split())[:300]}",
            "Give a local file: --set model.pretrained=PATH, or train from scratch with model.pretrained=false.",
        ) from error
    if own:
        load_weights(net, own)
    options.pop("pretrained_cfg_overlay", None)  # where weights come from is no part of the network
    return Backbone(net, name, options)


def _with_image_size(name: str, options: dict[str, Any], image_size: int) -> dict[str, Any]:
    """Pass img_size to the families that ask for it (transformers), if they take images of that size.

    Raises:
        UsageError: the size does not fit the patches.
    """
    with torch.device("meta"):
        try:
            shape = {key: value for key, value in options.items() if key != "pretrained_cfg_overlay"}
            net = timm.create_model(name, **{**shape, "img_size": image_size})
        except (TypeError, RuntimeError, AssertionError):
            return options
        try:
            net(torch.zeros(1, options["in_chans"], image_size, image_size))
        except (AssertionError, RuntimeError) as error:
            if isinstance(error, AssertionError) or "Kernel size" in str(error):
                fault = f"backbone {name} takes no images of {image_size} pixels: {error}"
                raise UsageError(
                    fault, "Choose another size with --set data.image_size=N, or another backbone."
                ) from error
    return options | {"img_size": image_size}


def count_parameters(module: nn.Module) -> int:
    """Return how many numbers are learnt."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)
