"""Folded networks give the results of the networks they come from."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ltk.data.base import ArraySplit
from ltk.data.image import ImageSpec
from ltk.evaluation.evaluate import EvalSet
from ltk.methods import create_method
from ltk.methods.base import Method
from ltk.models.backbones import create_backbone
from ltk.models.folding import fold_batch_norm

COUNTS = torch.tensor([20, 10, 5])


def create(backbone: str, method: str = "ce", **options: Any) -> Method:
    torch.manual_seed(0)
    network = create_method(method, create_backbone(backbone, image_size=32, **options), COUNTS).train()
    with torch.no_grad():
        for _ in range(5):  # so that the running statistics are not those of the start
            network.predict(torch.randn(8, 3, 32, 32) * 2 + 1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    return network.eval()


def count_norms(network: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


@pytest.mark.parametrize(
    ("backbone", "options", "left"),
    [
        ("cifar_resnet8", {"width": 4}, 0),
        ("resnet18", {"layers": [1, 1, 1, 1], "channels": [8, 8, 16, 16]}, 0),
        ("densenet121", {"growth_rate": 4, "block_config": [2, 2]}, 6),  # norms in front of convolutions stay
    ],
)
def test_a_folded_network_gives_the_same_logits(backbone: str, options: dict[str, Any], left: int) -> None:
    network, x_BCHW = create(backbone, **options), torch.randn(4, 3, 32, 32)
    before = copy.deepcopy(network.state_dict())
    folded = fold_batch_norm(network, lambda each: each.predict(x_BCHW))
    assert count_norms(folded) == left < count_norms(network)
    with torch.no_grad():
        assert torch.allclose(folded.predict(x_BCHW), network.predict(x_BCHW), rtol=1e-4, atol=1e-5)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


class NormFirst(nn.Module):
    """Registers the norm behind the convolution and applies it in front."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)
        nn.init.uniform_(self.norm.weight, 0.5, 1.5)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        out: Tensor = self.conv(self.norm(x_BCHW))
        return out


def test_a_norm_that_does_not_follow_is_left_alone() -> None:
    network = NormFirst().eval()
    assert fold_batch_norm(network, lambda each: each(torch.ones(1, 4, 8, 8))) is network


def test_a_network_without_norms_is_returned() -> None:
    network = nn.Linear(2, 2).eval()
    assert fold_batch_norm(network, lambda each: each(torch.ones(1, 2))) is network


@pytest.fixture
def images() -> EvalSet:
    pixels = np.random.RandomState(0).randint(0, 256, (64, 3, 32, 32)).astype(np.uint8)
    split = ArraySplit(pixels, np.arange(64) % 3, "x")
    return EvalSet(split, ImageSpec(32, 32, 3, (0.5,) * 3, (0.25,) * 3), torch.device("cpu"), 25)


def half() -> torch.autocast:
    return torch.autocast("cpu", dtype=torch.bfloat16)


@pytest.mark.parametrize("method", ["ce", "reslt"])
def test_an_evaluation_in_half_precision_is_close(method: str, images: EvalSet) -> None:
    network = create("cifar_resnet8", method, width=8)
    full_NK, half_NK = images.predict(network), images.predict(network, half, fold=True)
    assert float((half_NK - full_NK).norm() / full_NK.norm()) < 0.02
    assert half_NK.dtype == torch.float32


def test_what_is_folded(images: EvalSet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts in half precision are; counts and logits in full precision are exact."""
    calls: list[bool] = []
    whole: Callable[..., Tensor] = EvalSet.predict

    def predict(self: EvalSet, *arguments: object, fold: bool = False) -> Tensor:
        calls.append(fold)
        return whole(self, *arguments, fold=fold)

    monkeypatch.setattr(EvalSet, "predict", predict)
    network = create("cifar_resnet8", width=4).train()
    for autocast in (half, nullcontext):
        correct_K, total_K = images.count_correct(network, autocast)
        assert (correct_K <= total_K).all()
        assert total_K.tolist() == [22, 21, 21]
    assert calls == [True, False]
    assert network.training
