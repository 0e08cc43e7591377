from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ltk.data.base import ArraySplit
from ltk.data.image import ImageSpec
from ltk.evaluation.evaluate import EvalSet, compute_logits
from ltk.methods import create_method
from ltk.models.backbones import Backbone
from ltk.models.heads import CosineClassifier, ScaledLinear

SPEC = ImageSpec(4, 4, 3, (0.5,) * 3, (0.25,) * 3)
WIDTH = 6  # of the features of the tiny backbone
LABELS = np.array([0, 0, 1, 2])


def create_split() -> ArraySplit:
    return ArraySplit(np.random.default_rng(0).integers(0, 256, (4, 3, 4, 4)).astype(np.uint8), LABELS, "x")


class Fixed(nn.Module):
    """A network that answers the same, whatever the images."""

    def __init__(self, logits_NK: Tensor) -> None:
        super().__init__()
        self.logits_NK = logits_NK

    def predict(self, x_BCHW: Tensor) -> Tensor:
        return self.logits_NK[: len(x_BCHW)]


def test_an_image_with_nan_is_never_right() -> None:
    nan = float("nan")
    logits_NK = torch.tensor([[nan, 0, 0], [1, nan, nan], [0, 1, 0], [nan, nan, nan]])
    images = EvalSet(create_split(), SPEC, torch.device("cpu"))
    correct_K, total_K = images.count_correct(Fixed(logits_NK))  # type: ignore[arg-type]
    assert correct_K.tolist() == [0, 1, 0]
    assert total_K.tolist() == [2, 1, 1]


@pytest.fixture
def weigh(tiny_backbone: Callable[[], Backbone]) -> Callable[[nn.Module], list[Tensor | None]]:
    """``weigh(fc)``: the row norms and the bias that are saved with the logits of a network with this classifier."""

    def compute(fc: nn.Module) -> list[Tensor | None]:
        method = create_method("ce", tiny_backbone(), torch.tensor([3, 2, 1]))
        method.fc = fc
        saved = compute_logits(
            method,
            create_split(),
            SPEC,
            class_names=("a", "b", "c"),
            class_counts=(3, 2, 1),
            groups=(100, 20),
            checkpoint="last",
        )
        return [None if a is None else torch.from_numpy(a) for a in (saved.weight_norm_K, saved.bias_K)]

    return compute


def test_scales_act_on_the_length_of_a_row_and_on_the_bias(weigh: Callable[[nn.Module], list[Tensor | None]]) -> None:
    scaled = ScaledLinear(WIDTH, 3)
    with torch.no_grad():
        scaled.scale_K.copy_(torch.tensor([0.5, 1.0, -3.0]))
    norm_K, bias_K = weigh(scaled)
    torch.testing.assert_close(norm_K, (scaled.scale_K[:, None] * scaled.weight).norm(dim=1).detach())
    torch.testing.assert_close(bias_K, (scaled.scale_K * scaled.bias).detach())
    plain = nn.Linear(WIDTH, 3)
    norm_K, bias_K = weigh(plain)
    torch.testing.assert_close(norm_K, plain.weight.detach().norm(dim=1))
    torch.testing.assert_close(bias_K, plain.bias.detach())


class Doubled(nn.Linear):
    """A linear layer that does more than its weight and bias say."""

    def forward(self, input: Tensor) -> Tensor:
        return 2 * super().forward(input)


@pytest.mark.parametrize("kind", [CosineClassifier, Doubled])
def test_other_classifiers_have_no_length(
    kind: Callable[..., nn.Module], weigh: Callable[[nn.Module], list[Tensor | None]]
) -> None:
    assert weigh(kind(WIDTH, 3)) == [None, None]
