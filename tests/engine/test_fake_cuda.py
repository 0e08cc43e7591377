"""No step waits for a GPU or copies to one, seen without a GPU: every method, every recipe of views."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensor

from ltk import draws
from ltk.data.banks import DiskBank
from ltk.data.base import ArraySplit
from ltk.data.samplers import SAMPLERS, create_sampler
from ltk.data.transforms import RECIPES, create_view
from ltk.engine.average import WeightAverage
from ltk.engine.runner import GraphRunner
from ltk.methods import METHODS, create_method
from ltk.models.backbones import Backbone
from tests.engine.fake_cuda import HostWatch, fake_backward, fake_cuda, to_fake_cuda
from tests.engine.small_run import IMAGES, OPTIONS, Run

FakeRun = Callable[..., contextlib.AbstractContextManager[Run]]


@pytest.fixture
def fake_run(tiny_backbone: Callable[[], Backbone], monkeypatch: pytest.MonkeyPatch) -> FakeRun:
    """``with fake_run("ce") as run``: a small run on a device that computes nothing."""

    @contextlib.contextmanager
    def create(name: str, ema: float = 0.0, **options: Any) -> Iterator[Run]:
        counts_K = torch.tensor([20, 10, 8, 4, 2])
        method, twin = (create_method(name, tiny_backbone(), counts_K, **OPTIONS.get(name, {})) for _ in range(2))
        with fake_cuda(monkeypatch):
            fake_backward(method, monkeypatch)
            run = Run(to_fake_cuda(method), **options)
            if ema:
                monkeypatch.setattr("copy.deepcopy", lambda network: to_fake_cuda(twin))
                run.step.average = WeightAverage(run.method, ema)
            yield run

    return create


def watch_third_step(steps: Iterator[int]) -> HostWatch:
    """The first steps make what is made once."""
    next(steps), next(steps)
    with HostWatch() as watch:
        assert next(steps) == 8
    return watch


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(
    "options",
    [{}, {"precision": "bf16"}, {"optimizer": "adamw", "clip": 0.1, "ema": 0.9}],
    ids=["fp32", "bf16", "adamw, clip, ema"],
)
def test_a_step_stays_on_the_device(name: str, options: dict[str, Any], fake_run: FakeRun) -> None:
    with fake_run(name, **options) as run:
        watch = watch_third_step(run.eager.epoch(0, 0, 0))
    assert watch.found == []
    assert watch.operators > 200


@pytest.mark.parametrize("name", METHODS)
def test_a_step_to_be_captured_stays_on_the_device(
    name: str, fake_run: FakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ltk.engine.runner.make_warm_up", lambda device: contextlib.nullcontext)
    with fake_run(name) as run:
        watch = watch_third_step(GraphRunner(run.eager, pytest.fail, lambda function: function).epoch(0, 0, 0))
    assert watch.found == []
    assert watch.operators > 200


@pytest.mark.parametrize("name", ["ce", "glmc"])
def test_a_step_with_images_from_the_disk_does_not_wait(
    name: str, fake_run: FakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which images to read is known on the host: an epoch's orders are brought there once, at its start."""
    monkeypatch.setattr(FakeTensor, "tolist", lambda tensor: [0] * len(tensor))
    monkeypatch.setattr(Tensor, "pin_memory", lambda tensor: tensor)
    split = ArraySplit(np.zeros((1, 3, 8, 8), np.uint8), np.zeros(IMAGES), "x")
    with fake_run(name) as run:
        run.loader.bank = DiskBank(split, 8, torch.device("cuda"), 2)
        steps = run.eager.epoch(0, 0, 0)
        with HostWatch() as start:
            next(steps)
        watch = watch_third_step(steps)
        steps.close()  # type: ignore[attr-defined]
    assert len(start.waits) == len(run.loader.streams)
    assert watch.waits == []
    assert watch.operators > 200


@pytest.mark.parametrize("name", SAMPLERS)
def test_an_epoch_begins_on_the_device(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tables of a sampler are copied once."""
    options: dict[str, Any] = {"q": 0.5} if name == "power" else {}
    sampler = create_sampler(name, np.repeat(np.arange(3), [8, 4, 1]), **options)
    with fake_cuda(monkeypatch):
        key = draws.make_key(0, "cuda")
        sampler.order(key, 0)
        with HostWatch() as watch:
            order_N = sampler.order(key, 1)
    assert (tuple(order_N.shape), order_N.device.type) == ((sampler.length,), "cuda")
    assert watch.found == []


@pytest.mark.parametrize("recipe", RECIPES)
def test_views_stay_on_the_device(recipe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    view = create_view(recipe, size=24, mean=(0.5,) * 3, std=(0.2,) * 3)
    with fake_cuda(monkeypatch):
        images_BCHW = torch.zeros(4, 3, 32, 32, dtype=torch.uint8, device="cuda")
        key_B = draws.fold(draws.make_key(0, "cuda"), torch.arange(4, device="cuda"))
        view(images_BCHW, key_B)
        with HostWatch() as watch:
            x_BCHW = view(images_BCHW, key_B)
    assert (tuple(x_BCHW.shape), x_BCHW.device.type) == ((4, 3, 24, 24), "cuda")
    assert watch.found == []


@pytest.mark.parametrize(
    "look",
    [lambda x: x[0].item(), lambda x: float(x.sum()), lambda x: x.nonzero(), lambda x: x[x > 0]],
    ids=["item", "float", "nonzero", "mask"],
)
def test_looking_at_a_value_is_noticed(look: Callable[[Tensor], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: what waits for a GPU."""
    with fake_cuda(monkeypatch), pytest.raises((DataDependentOutputException, DynamicOutputShapeException)):
        look(torch.zeros(3, device="cuda"))


@pytest.mark.parametrize(
    "copy",
    [lambda x: torch.tensor(2.0, device="cuda"), lambda x: x[torch.tensor([0, 1])], lambda x: x.new_tensor([1.0])],
    ids=["tensor", "index", "new_tensor"],
)
def test_a_copy_from_the_host_is_noticed(copy: Callable[[Tensor], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: what cannot be captured."""
    with fake_cuda(monkeypatch):
        x = torch.zeros(3, device="cuda")
        with HostWatch() as watch:
            copy(x)
    assert watch.found != []
