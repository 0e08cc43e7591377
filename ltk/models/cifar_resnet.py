"""The ResNets for 32x32 images, any depth 6n+2 and any even width, registered with timm.

He, Zhang, Ren, Sun: "Deep residual learning for image recognition", 2016, section 4.2: a 3x3 stem and three stages of
basic blocks at widths w, 2w, 4w; shortcuts without parameters ("option A": every second pixel, zeros for the new
channels). Width 16 is the standard net (ResNet-32: 0.46 M parameters); GLMC publishes at width 64 (7.4 M).
"""

from __future__ import annotations

from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from ltk.models.heads import initialise_kaiming
from ltk.models.registry import register

DEPTHS = tuple(range(8, 111, 6))


def _conv3x3(width_in: int, width_out: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(width_in, width_out, 3, stride=stride, padding=1, bias=False)


class CifarBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut without parameters."""

    def __init__(self, width_in: int, width_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _conv3x3(width_in, width_out, stride)
        self.bn1 = nn.BatchNorm2d(width_out)
        self.conv2 = _conv3x3(width_out, width_out, 1)
        self.bn2 = nn.BatchNorm2d(width_out)
        self.stride = stride
        self.padding = (width_out - width_in) // 2

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return maps_BCHW, half the size when the stride is 2."""
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x_BCHW)))))
        if self.padding or self.stride > 1:
            x_BCHW = F.pad(x_BCHW[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.padding, self.padding))
        return F.relu(out + x_BCHW)


class CifarResNet(nn.Module):
    """A CIFAR ResNet with timm's model interface.

    Args:
        depth: 6n+2.
        width: channels of the first stage, an even number.
        num_classes: 0 for features alone.
        in_chans: channels of the images.
    """

    def __init__(self, depth: int = 32, width: int = 16, num_classes: int = 10, in_chans: int = 3) -> None:
        super().__init__()
        blocks = (depth - 2) // 6
        if depth != 6 * blocks + 2 or blocks < 1:
            raise ValueError(f"a CIFAR ResNet has depth 6n+2, not {depth}")
        if width < 2 or width % 2:
            raise ValueError(f"a CIFAR ResNet has an even width, not {width}: new channels go to both sides of the old")
        self.num_classes = num_classes
        self.num_features = self.head_hidden_size = 4 * width
        self.conv1 = _conv3x3(in_chans, width, 1)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = self._create_stage(width, width, blocks, 1)
        self.layer2 = self._create_stage(width, 2 * width, blocks, 2)
        self.layer3 = self._create_stage(2 * width, 4 * width, blocks, 2)
        self.fc = nn.Linear(4 * width, num_classes) if num_classes else nn.Identity()
        initialise_kaiming(self)

    @staticmethod
    def _create_stage(width_in: int, width_out: int, blocks: int, stride: int) -> nn.Sequential:
        first = CifarBlock(width_in, width_out, stride)
        return nn.Sequential(first, *(CifarBlock(width_out, width_out, 1) for _ in range(blocks - 1)))

    def forward_features(self, x_BCHW: Tensor) -> Tensor:
        """Return the last feature map, 4w channels at a quarter of the size."""
        x = F.relu(self.bn1(self.conv1(x_BCHW)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return x

    def forward_head(self, map_BDHW: Tensor, pre_logits: bool = False) -> Tensor:
        """Pool the map and, unless ``pre_logits``, classify."""
        pooled_BD = map_BDHW.mean(dim=(2, 3))
        return pooled_BD if pre_logits else self.fc(pooled_BD)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return logits_BK, or features_BD when num_classes is 0."""
        return self.forward_head(self.forward_features(x_BCHW))


for _depth in DEPTHS:
    register(f"cifar_resnet{_depth}", __name__, partial(CifarResNet, _depth))
