"""On a CUDA device: a captured step gives the numbers of an eager one, and neither ever waits for the device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from ltk.engine.compiled import CompiledForward
from ltk.engine.optim import set_learning_rate
from ltk.engine.runner import GraphRunner
from ltk.methods import METHODS, create_method
from ltk.methods.base import Method
from ltk.models.backbones import Backbone
from tests.engine.small_run import OPTIONS, Run, assert_same

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
TOLERANCE = 1e-3  # over 21 updates, where two kernels of the same operator may add in another order


@pytest.fixture(autouse=True)
def same_algorithms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)


@pytest.fixture
def forbid_waiting() -> Iterator[Callable[[], None]]:
    """``forbid_waiting()``: from here on to the end of the test a synchronisation is an error."""
    yield lambda: torch.cuda.set_sync_debug_mode("error")
    torch.cuda.set_sync_debug_mode("default")


@pytest.fixture
def create(tiny_backbone: Callable[[], Backbone]) -> Callable[[str], Method]:
    def build(name: str) -> Method:
        torch.manual_seed(0)
        method = create_method(name, tiny_backbone(), torch.tensor([20, 10, 8, 4, 2]), **OPTIONS.get(name, {}))
        return method.to(device="cuda", memory_format=torch.channels_last)  # type: ignore[call-overload]

    return build


@pytest.mark.parametrize("name", METHODS)
def test_a_captured_step_gives_the_same_numbers(name: str, create: Callable[[str], Method]) -> None:
    eager, graph = Run(create(name)), Run(create(name))
    eager.train(eager.eager, range(3))
    graph.train(GraphRunner(graph.eager, pytest.fail), range(3))
    assert_same(eager, graph, TOLERANCE)


@pytest.mark.parametrize(
    "options", [{"optimizer": "adamw"}, {"precision": "bf16"}, {"clip": 0.1}], ids=["adamw", "bf16", "clip"]
)
def test_however_a_step_is_made(options: dict[str, Any], create: Callable[[str], Method]) -> None:
    eager, graph = Run(create("glmc"), **options), Run(create("glmc"), **options)
    eager.train(eager.eager, range(3))
    graph.train(GraphRunner(graph.eager, pytest.fail), range(3))
    assert_same(eager, graph, 1e-2 if "precision" in options else TOLERANCE)


def test_a_captured_run_is_continued_in_the_middle_of_an_epoch(create: Callable[[str], Method]) -> None:
    eager, graph = Run(create("paco")), Run(create("paco"))
    eager.train(eager.eager, range(3))
    first = GraphRunner(graph.eager, pytest.fail).epoch(0, 0, 0)
    graph.images += [next(first) for _ in range(5)]
    graph.train(GraphRunner(graph.eager, pytest.fail), range(3), start=5)
    assert_same(eager, graph, TOLERANCE)


@pytest.mark.slow
def test_a_compiled_network_is_captured(create: Callable[[str], Method]) -> None:
    eager, graph = Run(create("glmc")), Run(create("glmc"))
    graph.step.forward = CompiledForward(graph.method, pytest.fail)
    eager.train(eager.eager, range(3))
    graph.train(GraphRunner(graph.eager, pytest.fail), range(3))
    assert_same(eager, graph, 1e-2)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("engine", ["eager", "graph"])
def test_no_step_waits(
    name: str, engine: str, create: Callable[[str], Method], forbid_waiting: Callable[[], None]
) -> None:
    run = Run(create(name))
    runner = run.eager if engine == "eager" else GraphRunner(run.eager, pytest.fail)
    set_learning_rate(run.optimizer, 0.05)
    steps = runner.epoch(0, 0, 0)
    for _ in range(4):  # what is made once, and the capture, may wait
        next(steps)
    forbid_waiting()
    assert list(steps) == [8, 8, 2]
