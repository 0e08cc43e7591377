"""timm's ResNets with a stem for 32x32 images: one 3x3 convolution of stride 1, no pooling; registered with timm.

GLMC and GPaCo publish CIFAR results on these nets (ResNet-18/34/50 of four stages, 64 to 512 channels; ResNet-34: 21 M
parameters). Everything but the stem is timm's, so weights keep timm's and torchvision's names. Residual branches start
at full strength, as in the official codes; timm's own start, at zero, is ``zero_init_last=True``.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from timm.models.resnet import BasicBlock, Bottleneck, ResNet
from torch import nn

from ltk.models.registry import register

_STAGES = {
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (3, 4, 23, 3)),
    152: (Bottleneck, (3, 8, 36, 3)),
}
DEPTHS = tuple(_STAGES)


class CifarStemResNet(ResNet):
    """A ResNet of four stages whose first stage sees the full image.

    Args:
        block: basic or bottleneck block.
        layers: blocks per stage.
        in_chans: channels of the images.
        zero_init_last: start the last norm of each block at 0.
        **options: further arguments of timm's ResNet.
    """

    def __init__(
        self, block: Any, layers: tuple[int, ...], in_chans: int = 3, zero_init_last: bool = False, **options: Any
    ) -> None:
        super().__init__(block, layers, in_chans=in_chans, zero_init_last=zero_init_last, **options)
        stem = nn.Conv2d(in_chans, 64, 3, stride=1, padding=1, bias=False)
        nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")
        self.add_module("conv1", stem)
        self.add_module("maxpool", nn.Identity())
        self.feature_info = [
            info | {"reduction": info["reduction"] // (2 if info["module"] == "act1" else 4)}  # type: ignore[operator]
            for info in self.feature_info
        ]


for _depth, (_block, _layers) in _STAGES.items():
    register(f"cifar_stem_resnet{_depth}", __name__, partial(CifarStemResNet, _block, layers=_layers))
