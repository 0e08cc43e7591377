"""A captured step is one that is carried out when it is replayed, on the device of the run."""

from __future__ import annotations

import contextlib
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from ltk.engine.capture import record_cuda_graph
from ltk.engine.runner import GraphRunner
from ltk.methods import create_method
from ltk.models.backbones import Backbone
from tests.engine.small_run import Run, assert_same


@pytest.fixture
def create(tiny_backbone: Callable[[], Backbone]) -> Callable[[], Run]:
    def build() -> Run:
        torch.manual_seed(0)
        return Run(create_method("ce", tiny_backbone(), torch.tensor([20, 10, 8, 4, 2])))

    return build


def test_a_graph_is_captured_on_the_device_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    captured: list[Any] = []

    @contextlib.contextmanager
    def graph(graph: Any, stream: Any = None, **options: Any) -> Iterator[None]:
        captured.append(stream)
        yield

    monkeypatch.setattr("torch.cuda.CUDAGraph", lambda: types.SimpleNamespace(replay=None))
    monkeypatch.setattr("torch.cuda.Stream", lambda device=None: ("stream on", device))
    monkeypatch.setattr("torch.cuda.graph", graph)
    record_cuda_graph(torch.device("cuda:1"), lambda: None)
    assert captured == [("stream on", torch.device("cuda:1"))]


def record_nothing(function: Callable[[], None]) -> Callable[[], None]:
    """An empty graph."""
    return lambda: None


def carry_out(function: Callable[[], None]) -> Callable[[], None]:
    """A capture on one device while the work goes to another: it is done at once, and not again."""
    function()
    return lambda: None


@pytest.mark.parametrize("record", [record_nothing, carry_out])
def test_a_replay_that_does_nothing_is_noticed(record: Any, create: Callable[[], Run]) -> None:
    told: list[str] = []
    eager, graph = create(), create()
    eager.train(eager.eager, range(3))
    graph.train(GraphRunner(graph.eager, told.append, record), range(3))
    assert_same(eager, graph)
    assert told == ["the captured step does nothing, steps run kernel by kernel"]
