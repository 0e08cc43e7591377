"""Features made once take the place of the images."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable

import numpy as np
import pytest
import torch

from ltk.data.banks import MemoryBank
from ltk.data.base import ArraySplit
from ltk.data.image import ImageSpec
from ltk.engine.features import FeatureEvalSet
from ltk.methods import create_method
from ltk.models.backbones import Backbone


def test_the_images_of_an_evaluation_go_when_their_features_are_there(
    tiny_backbone: Callable[[], Backbone], monkeypatch: pytest.MonkeyPatch
) -> None:
    method = create_method("retrain-classifier", tiny_backbone(), torch.tensor([6, 4, 2]))
    pixels = np.random.RandomState(0).randint(0, 256, (12, 3, 8, 8)).astype(np.uint8)
    split, image = ArraySplit(pixels, np.arange(12) % 3, "x"), ImageSpec(8, 8, 3, (0.5,) * 3, (0.5,) * 3)
    banks: list[weakref.ref[MemoryBank]] = []
    create = MemoryBank.__init__

    def watch(self: MemoryBank, *arguments: object, **options: object) -> None:
        banks.append(weakref.ref(self))
        create(self, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(MemoryBank, "__init__", watch)
    images = FeatureEvalSet(split, image, method, torch.device("cpu"), 5)
    gc.collect()
    assert [bank() is None for bank in banks] == [False]
    first, total = images.count_correct(method)
    gc.collect()
    assert [bank() is None for bank in banks] == [True]
    again, _ = images.count_correct(method)
    assert first.tolist() == again.tolist()
    assert total.tolist() == [4, 4, 4]
