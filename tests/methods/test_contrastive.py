"""What PaCo and GPaCo have in common."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ltk.methods import create_method
from ltk.methods.contrastive import supervised_contrastive_loss
from ltk.models.backbones import Backbone
from ltk.types import StepOutput

COUNTS = torch.tensor([50, 20, 8, 3])


@pytest.mark.parametrize("name", ["paco", "gpaco"])
def test_the_contrast_alone_teaches_the_backbone(
    name: str, tiny_backbone: Callable[[], Backbone], step: Callable[..., StepOutput], monkeypatch: pytest.MonkeyPatch
) -> None:
    def contrast(
        features_AE: Tensor, labels_A: Tensor, logits_BK: Tensor, prior_K: Tensor, *, temperature: float, **knobs: float
    ) -> Tensor:
        return supervised_contrastive_loss(features_AE, labels_A, len(logits_BK), temperature=temperature)

    monkeypatch.setattr(f"ltk.methods.{name}.paco_loss", contrast)
    torch.manual_seed(0)
    method = create_method(name, tiny_backbone(), COUNTS, embedding=5, queue_size=16)
    step(method, len(COUNTS)).loss.backward()  # type: ignore[no-untyped-call]
    classifier = method.get_submodule(method.classifier_name)
    assert all(parameter.grad is None for parameter in classifier.parameters())
    for own, parameter in method.backbone.named_parameters():
        assert parameter.grad is not None, own
        assert parameter.grad.any(), own
