"""ResLT's branches: one feature map becomes R pooled features, classified by one shared linear layer.

Suffixes: R branches, B batch, D channels, H height, W width, K classes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class NormBranches(nn.Module):
    """A BatchNorm per branch on the whole map, then average pooling (ResLT on CIFAR).

    The statistics are taken over B*H*W positions; a norm after pooling would see B.

    Args:
        width: D.
        num_branches: R.
    """

    def __init__(self, width: int, num_branches: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for _ in range(num_branches))

    def forward(self, map_BDHW: Tensor) -> Tensor:
        """Return features_RBD."""
        return torch.stack([norm(map_BDHW).mean(dim=(2, 3)) for norm in self.norms])


class BlockBranches(nn.Module):
    """A 1x1 convolution to R*D channels, BatchNorm and ReLU, with average pooling before or after (ResLT elsewhere).

    Pooling does not commute with BatchNorm statistics and ReLU, so the order matters; officially the larger networks
    pool last in training and first in evaluation.

    Args:
        width: D.
        num_branches: R.
        train_pool_last: pool after the block in training (official flag ``after_1x1conv``).
        eval_pool_last: pool after the block in evaluation.
    """

    def __init__(
        self, width: int, num_branches: int, *, train_pool_last: bool = True, eval_pool_last: bool = False
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, num_branches * width, 1, bias=False)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")
        self.norm = nn.BatchNorm2d(num_branches * width)
        self.num_branches = num_branches
        self.train_pool_last, self.eval_pool_last = train_pool_last, eval_pool_last

    def forward(self, map_BDHW: Tensor) -> Tensor:
        """Return features_RBD."""
        pool_last = self.train_pool_last if self.training else self.eval_pool_last
        if not pool_last:
            map_BDHW = map_BDHW.mean(dim=(2, 3), keepdim=True)
        feats_BC = F.relu(self.norm(self.conv(map_BDHW))).mean(dim=(2, 3))
        return torch.stack(feats_BC.chunk(self.num_branches, dim=1))


def scaled_linear(features_RBD: Tensor, linear: nn.Linear, gamma: float, keep_bias: bool) -> Tensor:
    """Return logits_RBK of rows w_k divided by ``norm(w_k) ** gamma``.

    Args:
        features_RBD: any leading dimensions.
        linear: the trained classifier.
        gamma: 0 leaves the rows as they are, 1 gives them length 1.
        keep_bias: add the trained bias.
    """
    weight_KD = linear.weight / linear.weight.norm(dim=1, keepdim=True) ** gamma
    return F.linear(features_RBD, weight_KD, linear.bias if keep_bias else None)
