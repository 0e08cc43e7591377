"""Whether a network's logits follow the training frequencies is a fact of its options, which corrections rely on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from ltk.methods import create_method
from ltk.models.backbones import Backbone

COUNTS = torch.tensor([50, 20, 5, 1])
SMALL = {"queue_size": 16, "embedding": 5}
PLAIN: list[tuple[str, dict[str, Any]]] = [
    ("bagmar", {"lambda_1": 0}),
    ("bagmar", {"lambda_1": 0, "lambda_2": 0, "margin": "paper"}),
    ("ce", {}),
    ("class-balanced", {"beta": 0}),
    ("focal", {}),
    ("gcl", {"noise_scale": 0, "margin": 0.1}),
    ("glmc", {"label_weighting": 0}),
    ("gpaco", {"prior": False, **SMALL}),
    ("gpaco", {"prior": False, "objective": "multitask", **SMALL}),
    ("ldam", {"max_margin": 0}),
    ("ldam", {"max_margin": 0, "drw": True, "beta": 0}),
    ("logit-adjustment", {"tau": 0}),
    ("paco", {"prior": False, **SMALL}),
    ("reslt", {"beta": 0}),
    ("retrain-classifier", {"recipe": "crt", "rule": "uniform"}),
    ("retrain-classifier", {"recipe": "crt", "rule": "effective-rs", "beta": 0}),
    ("retrain-classifier", {"recipe": "gcl", "rule": "uniform", "noise_scale": 0}),
    ("retrain-classifier", {"recipe": "lws", "rule": "uniform"}),
    ("retrain-classifier", {"recipe": "tau-norm", "tau": 0}),
]
COMPENSATING: list[tuple[str, dict[str, Any]]] = [
    ("bagmar", {}),
    ("bagmar", {"lambda_1": 0, "margin": "paper"}),
    ("bagmar", {"lambda_1": 0, "sampler": "class-aware"}),
    ("balanced-softmax", {}),
    ("class-balanced", {}),
    ("gcl", {}),
    ("glmc", {}),
    ("glmc", {"label_weighting": 0, "resample_weighting": 0.2}),
    ("gpaco", SMALL),
    ("ldam", {}),
    ("ldam", {"max_margin": 0, "drw": True}),
    ("logit-adjustment", {}),
    ("paco", SMALL),
    ("reslt", {}),
    ("reslt", {"beta": 0, "form": "block"}),  # whose evaluation divides by the norms
    ("retrain-classifier", {"recipe": "crt"}),
    ("retrain-classifier", {"recipe": "crt", "rule": "balanced-rw"}),
    ("retrain-classifier", {"recipe": "maxnorm", "rule": "uniform"}),
    ("retrain-classifier", {"recipe": "tau-norm"}),
    ("retrain-classifier", {"recipe": "balanced-softmax"}),
]


@pytest.mark.parametrize(
    ("name", "options", "expected"), [(*case, False) for case in PLAIN] + [(*case, True) for case in COMPENSATING]
)
def test_only_what_compensates_for_frequencies_says_so(
    name: str, options: dict[str, Any], expected: bool, tiny_backbone: Callable[[], Backbone]
) -> None:
    assert create_method(name, tiny_backbone(), COUNTS, **options).uses_prior is expected
