"""Convolutions that carry the BatchNorm which follows them: fewer passes over the maps, for evaluation alone."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TypeVar

import torch
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

_Network = TypeVar("_Network", bound=nn.Module)
_TOLERANCE = 1e-3


@torch.no_grad()
def fold_batch_norm(network: _Network, run: Callable[[_Network], Tensor]) -> _Network:
    """Return a copy with every BatchNorm folded into the convolution before it, or the network itself.

    A BatchNorm follows a convolution when it is the next module of the same parent and as wide. Where that is not the
    order of the computation the results differ, and the network is returned as it is.

    Args:
        network: in evaluation mode.
        run: some of its results, to compare with those of the copy; relative differences up to 0.001 are equal.
    """
    folded = copy.deepcopy(network)
    if not _fold_children(folded):
        return network
    expected, found = run(network).float(), run(folded).float()
    is_equal = (found - expected).norm() <= _TOLERANCE * expected.norm()
    return folded if is_equal else network


def _fold_children(module: nn.Module) -> int:
    """Fold all pairs below a module in place and return how many there were."""
    count = 0
    before: tuple[str, nn.Module] | None = None
    for name, child in list(module.named_children()):
        if before is not None and _is_pair(before[1], child):
            setattr(module, before[0], fuse_conv_bn_eval(before[1], child))  # type: ignore[type-var, arg-type]
            setattr(module, name, child.act if isinstance(child, BatchNormAct2d) else nn.Identity())
            count += 1
        count += _fold_children(child)
        before = (name, child)
    return count


def _is_pair(conv: nn.Module, norm: nn.Module) -> bool:
    if not isinstance(norm, nn.BatchNorm2d) or type(norm) not in (nn.BatchNorm2d, BatchNormAct2d):
        return False
    return type(conv) is nn.Conv2d and norm.num_features == conv.out_channels and norm.running_mean is not None
