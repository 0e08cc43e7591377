"""How many images a forward pass of an evaluation has: as the run says, and less where memory runs out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ltk.data.base import ArraySplit
from ltk.data.image import ImageSpec
from ltk.engine.fit import fit
from ltk.errors import EnvironmentFault, UsageError
from ltk.evaluation.evaluate import EvalSet, ensure_logits
from ltk.evaluation.logits import logits_path
from ltk.methods import create_method
from ltk.methods.base import Method
from ltk.models.backbones import create_backbone
from ltk.resolve import resolve_config

OPTIONS = {
    "optim.epochs": 1,
    "run.device": "cpu",
    "run.threads": 1,
    "run.precision": "fp32",
    "model.backbone": "cifar_resnet8",
    "model.width": 4,
}


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """The sizes of the batches that are evaluated."""
    found: set[int] = set()
    whole = EvalSet.batches

    def batches(self: EvalSet) -> object:
        for x_BCHW in whole(self):
            found.add(len(x_BCHW))
            yield x_BCHW

    monkeypatch.setattr(EvalSet, "batches", batches)
    return found


def test_a_run_is_judged_in_batches_of_its_own_size(tmp_path: Path, sizes: set[int]) -> None:
    """While it trains, at its end, and later: what fits a GPU in training must fit it at the end."""
    run = tmp_path / "run"
    fit(resolve_config("ce", dataset="digits", options=OPTIONS | {"run.eval_batch_size": 16}).config, out=run)
    assert max(sizes) == 16
    first = ensure_logits(run)
    logits_path(run, "test", "last").unlink()
    sizes.clear()
    again = ensure_logits(run)
    assert max(sizes) == 16
    np.testing.assert_array_equal(again.logits_NK, first.logits_NK)


@pytest.mark.parametrize(
    ("device", "fault"), [("cuda:7", EnvironmentFault), ("mps", EnvironmentFault), ("x", UsageError)]
)
def test_a_device_that_is_not_there_is_no_bug(device: str, fault: type[Exception], tmp_path: Path) -> None:
    run = tmp_path / "run"
    fit(resolve_config("ce", dataset="digits", options=OPTIONS).config, out=run)
    logits_path(run, "test", "last").unlink()
    with pytest.raises(fault):
        ensure_logits(run, device=device)
    assert ensure_logits(run, device="auto").logits_NK.shape[1] == 10


def test_saved_logits_are_float32_and_not_tf32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever was allowed before is allowed afterwards."""
    run, seen = tmp_path / "run", []
    fit(resolve_config("ce", dataset="digits", options=OPTIONS).config, out=run)
    logits_path(run, "test", "last").unlink()
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    predict = EvalSet.predict

    def watch(*arguments: Any) -> Tensor:
        seen.append(torch.backends.cudnn.allow_tf32)
        return predict(*arguments)

    monkeypatch.setattr(EvalSet, "predict", watch)
    ensure_logits(run)
    assert seen == [False]
    assert torch.backends.cudnn.allow_tf32


class Small:
    """A network on a GPU that takes a few images at a time."""

    def __init__(self, network: Method, most: int) -> None:
        self._predict, self._most = network.predict, most
        self.sizes: list[int] = []

    def predict(self, x_BCHW: Tensor) -> Tensor:
        self.sizes.append(len(x_BCHW))
        if len(x_BCHW) > self._most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        logits_BK: Tensor = self._predict(x_BCHW)
        return logits_BK


@pytest.fixture
def images() -> EvalSet:
    pixels = np.random.RandomState(0).randint(0, 256, (20, 3, 8, 8)).astype(np.uint8)
    split = ArraySplit(pixels, np.arange(20) % 3, "x")
    return EvalSet(split, ImageSpec(8, 8, 3, (0.5,) * 3, (0.25,) * 3), torch.device("cpu"), 12)


def test_a_batch_that_does_not_fit_is_halved(images: EvalSet, monkeypatch: pytest.MonkeyPatch) -> None:
    method = create_method("ce", create_backbone("cifar_resnet8", width=4), torch.tensor([9, 5, 1]))
    whole_NK = images.predict(method)
    small = Small(method, 4)
    monkeypatch.setattr(method, "predict", small.predict)
    torch.testing.assert_close(images.predict(method.train()), whole_NK)
    assert small.sizes == [12, 6, 3, 3, 6, 3, 3, 8, 4, 4]
    assert method.training
    none = Small(method, 0)
    monkeypatch.setattr(method, "predict", none.predict)
    with pytest.raises(torch.OutOfMemoryError):
        images.predict(method)
