"""A captured step gives the numbers of steps that are carried out one by one."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch._dynamo.backends.common import aot_autograd
from torch._functorch._aot_autograd.utils import make_boxed_func

from ltk import draws
from ltk.data.banks import DiskBank, MemoryBank
from ltk.data.base import ArraySplit
from ltk.engine.build import build, plan_data
from ltk.engine.capture import explain_no_capture
from ltk.engine.compiled import CompiledForward
from ltk.engine.device import choose_engine
from ltk.engine.engines import create_runner
from ltk.engine.meters import Meters
from ltk.engine.optim import create_optimizer
from ltk.engine.profile import ProfiledRunner
from ltk.engine.reporter import SilentReporter
from ltk.engine.runner import EagerRunner, GraphRunner
from ltk.engine.step import TrainStep
from ltk.methods import METHODS, create_method
from ltk.methods.base import Method
from ltk.models.backbones import Backbone
from ltk.resolve import resolve_config
from ltk.types import Batch, Progress, StepOutput
from tests.engine.fake_graph import record_on_tape
from tests.engine.small_run import BATCH, CPU, EPOCHS, OPTIONS, Run, assert_same
from tests.methods.test_host_sync import RefuseReads


@pytest.fixture
def create(tiny_backbone: Callable[[], Backbone]) -> Callable[[str], Method]:
    def build(name: str) -> Method:
        torch.manual_seed(0)
        return create_method(name, tiny_backbone(), torch.tensor([20, 10, 8, 4, 2]), **OPTIONS.get(name, {}))

    return build


def graph_runner(run: Run) -> GraphRunner:
    return GraphRunner(run.eager, pytest.fail, record_on_tape)


@pytest.mark.parametrize("name", METHODS)
def test_a_captured_step_gives_the_same_numbers(name: str, create: Callable[[str], Method]) -> None:
    eager, graph = Run(create(name)), Run(create(name))
    eager.train(eager.eager)
    graph.train(graph_runner(graph))
    assert eager.images == ([BATCH] * 6 + [2]) * EPOCHS
    assert_same(eager, graph)


@pytest.mark.parametrize(
    "options", [{"optimizer": "adamw"}, {"precision": "bf16"}, {"clip": 0.1}], ids=["adamw", "bf16", "clip"]
)
def test_however_a_step_is_made(options: dict[str, Any], create: Callable[[str], Method]) -> None:
    eager, graph = Run(create("glmc"), **options), Run(create("glmc"), **options)
    eager.train(eager.eager, range(3))
    graph.train(graph_runner(graph), range(3))
    assert_same(eager, graph)


def test_a_captured_run_is_continued_in_the_middle_of_an_epoch(create: Callable[[str], Method]) -> None:
    """Nothing but the counters is needed: a new capture goes on where another one stood."""
    eager, graph = Run(create("paco")), Run(create("paco"))
    eager.train(eager.eager, range(3))
    first = graph_runner(graph).epoch(0, 0, 0)
    graph.images += [next(first) for _ in range(5)]
    graph.train(graph_runner(graph), range(3), start=5)
    assert_same(eager, graph)


def test_a_host_value_in_the_step_is_noticed(create: Callable[[str], Method]) -> None:
    """Negative control: a step that reads its epoch on the host repeats the epoch it was captured in."""
    eager, graph = Run(create("ce")), Run(create("ce"))
    for run in (eager, graph):
        run.step.forward = ScaledByEpoch(run.method)
    eager.train(eager.eager, range(3))
    graph.train(graph_runner(graph), range(3))
    with pytest.raises(AssertionError):
        assert_same(eager, graph)


class ScaledByEpoch:
    """A forward that looks at a value."""

    def __init__(self, method: Method) -> None:
        self._method = method

    def __call__(self, batches: Mapping[str, Batch], progress: Progress) -> StepOutput:
        output: StepOutput = self._method(batches, progress)
        return StepOutput(output.loss * float(progress.epoch), output.logits_BK, output.logs)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("name", ["bagmar", "ce", "gpaco", "paco", "reslt"])
def test_nothing_of_a_step_is_read_on_the_host(name: str, precision: str, create: Callable[[str], Method]) -> None:
    """From drawing the images to counting. (On a CPU alone ``one_hot`` looks at its input, in the other methods.)"""
    run = Run(create(name), precision=precision)
    steps = run.eager.epoch(0, 0, 0)
    next(steps)
    with RefuseReads():  # type: ignore[no-untyped-call]
        assert next(steps) == BATCH


def test_a_step_that_cannot_be_captured_runs_on(create: Callable[[str], Method]) -> None:
    def refuse(function: Callable[[], None]) -> Callable[[], None]:
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    told: list[str] = []
    eager, graph = Run(create("glmc")), Run(create("glmc"))
    eager.train(eager.eager, range(3))
    graph.train(GraphRunner(graph.eager, told.append, refuse), range(3))
    assert_same(eager, graph)
    assert told == [
        "the step cannot be captured, it runs kernel by kernel: operation not permitted when stream is capturing"
    ]


@pytest.mark.parametrize("name", ["bagmar", "gcl", "glmc", "gpaco", "paco", "reslt"])
def test_a_compiled_step_gives_the_same_numbers(name: str, create: Callable[[str], Method]) -> None:
    """Traced and differentiated as one graph, run by the same kernels: equal but for the order of some sums."""
    eager, compiled = Run(create(name)), Run(create(name))
    compiled.step.forward = CompiledForward(compiled.method, pytest.fail, backend="aot_eager")
    eager.train(eager.eager, range(3))
    compiled.train(compiled.eager, range(3))
    assert_same(eager, compiled, tolerance=1e-4)


@pytest.mark.parametrize("name", ["glmc", "bagmar"])
def test_two_hundred_steps_give_the_same_losses(name: str, create: Callable[[str], Method]) -> None:
    """Captured or traced, the kernels are the same, and so are the mean losses of every 7 steps, to the last bit.

    Of a traced step 1e-6 is asked for, as torch may fold a constant one day.
    """
    epochs = range(29)
    eager, graph, compiled = (Run(create(name)) for _ in range(3))
    compiled.step.forward = CompiledForward(compiled.method, pytest.fail, backend="aot_eager")
    eager.train(eager.eager, epochs)
    graph.train(graph_runner(graph), epochs)
    compiled.train(compiled.eager, epochs)
    assert len(eager.images) == 203
    assert eager.means == graph.means
    assert [means["loss"] for means in compiled.means] == pytest.approx([m["loss"] for m in eager.means], rel=1e-6)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_two_hundred_steps_through_inductor(create: Callable[[str], Method]) -> None:
    """Compiled kernels add in another order, which changes the last of 24 bits (6e-8), and training carries that on.

    Found were differences up to 6e-8 in the mean losses of every 7 steps; 1e-5 leaves room for other processors.
    """
    eager, compiled = Run(create("ce")), Run(create("ce"))
    compiled.step.forward = CompiledForward(compiled.method, pytest.fail)
    for run in (eager, compiled):
        run.train(run.eager, range(29))
    for mine, theirs in zip(eager.means, compiled.means, strict=True):
        assert mine["loss"] == pytest.approx(theirs["loss"], rel=1e-5)


def test_the_first_step_of_a_compiled_run_is_compiled(create: Callable[[str], Method]) -> None:
    """Else a continued run would differ from an uninterrupted one; tables that cannot be compiled are made before."""
    calls: list[int] = []

    def backend(graph: Any, inputs: Any) -> Any:
        calls.append(len(inputs))
        return graph.forward

    run = Run(create("glmc"))
    run.method.mix_alpha = 0.7  # type: ignore[assignment]  # its table of quantiles is made by scipy
    before = run.state()
    run.step.forward = CompiledForward(run.method, pytest.fail, backend=backend)
    next(run.eager.epoch(0, 0, 0))
    assert len(calls) == 1
    assert int(run.state()["backbone.net.stem.1.num_batches_tracked"]) == 2  # two views, and nothing of the copy
    assert before.keys() == run.state().keys()


def test_a_compiled_step_draws_what_any_step_draws(create: Callable[[str], Method]) -> None:
    """Else dropout would go on from other numbers at every continuation."""
    states = []
    for compile_it in (False, True):
        run = Run(create("ce"))
        run.method.backbone = nn.Sequential(run.method.backbone, nn.Dropout(0.5))  # type: ignore[assignment]
        if compile_it:
            run.step.forward = CompiledForward(run.method, pytest.fail, backend=lambda graph, inputs: graph.forward)
        torch.manual_seed(5)
        next(run.eager.epoch(0, 0, 0))
        states.append(torch.get_rng_state())
    torch.manual_seed(5)
    assert not torch.equal(states[0], torch.get_rng_state())
    assert torch.equal(states[0], states[1])


def refuse_graph(graph: Any, inputs: Any) -> Any:
    raise OSError("no compiler")


@pytest.mark.parametrize(
    "backend",
    [
        refuse_graph,
        aot_autograd(fw_compiler=refuse_graph),
        aot_autograd(fw_compiler=lambda graph, inputs: make_boxed_func(graph.forward), bw_compiler=refuse_graph),
    ],
    ids=["graph", "forward", "backward"],
)
def test_a_method_that_cannot_be_compiled_runs_on(backend: Any, create: Callable[[str], Method]) -> None:
    told: list[str] = []
    eager, compiled = Run(create("ce")), Run(create("ce"))
    compiled.step.forward = CompiledForward(compiled.method, told.append, backend=backend)
    eager.train(eager.eager, range(2))
    compiled.train(compiled.eager, range(2))
    assert_same(eager, compiled)
    assert told == ["the network cannot be compiled, it runs as it is: no compiler"]


class Listener(SilentReporter):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.warnings: list[str] = []
        self.notes: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.mark.parametrize(("engine", "words"), [("graph", "CUDA device"), ("eager", "")])
def test_engines_on_the_cpu(engine: str, words: str, tmp_path: Path) -> None:
    listener = Listener()
    options = {"run.engine": engine, "run.device": "cpu", "run.threads": 1}
    built = build(plan_data(resolve_config("ce", dataset="digits", options=options).config))
    optimizer = create_optimizer(built.plan.config.optim, built.method.parameters())
    step = TrainStep(built.method, optimizer, precision="fp32", device=CPU, clip=0)
    runner = create_runner(built, step, Meters(), draws.make_key(0), listener, tmp_path)
    assert isinstance(runner, EagerRunner)
    assert len(listener.warnings) == bool(words)
    assert words in "".join(listener.warnings)


@pytest.mark.parametrize("start", [0, 3])
def test_a_profile_changes_no_number(start: int, create: Callable[[str], Method], tmp_path: Path) -> None:
    eager, profiled = Run(create("glmc")), Run(create("glmc"))
    eager.train(eager.eager, range(3), start)
    notes: list[str] = []
    runner = ProfiledRunner(profiled.eager, graph_runner(profiled), tmp_path, notes.append, EPOCHS)
    profiled.train(runner, range(3), start)
    assert_same(eager, profiled)
    lines = (tmp_path / "profile.txt").read_text().splitlines()
    assert len(lines) == 10
    assert [line.split()[0] for line in lines[1:8]] == [
        "data", "views", "forward", "backward", "update", "wait", "other"
    ]  # fmt: skip
    spent = {line.split()[0]: float(line.split()[1]) for line in lines[1:8]}
    assert spent["forward"] > 0
    assert spent["backward"] > 0
    whole = float(lines[0].split()[2])
    assert sum(spent.values()) == pytest.approx(whole, abs=0.1)
    assert len(notes) == 1
    with gzip.open(tmp_path / "profile.json.gz", "rt") as file:
        names = {event.get("name") for event in json.load(file)["traceEvents"]}
    assert {"ltk.views", "ltk.forward", "ltk.update"} <= names


@pytest.mark.parametrize(("left", "profiled"), [(1, 0), (3, 0), (4, 1), (6, 3)])
def test_a_profile_ends_with_the_run(left: int, profiled: int, create: Callable[[str], Method], tmp_path: Path) -> None:
    """A profiler that is never stopped takes the process with it."""
    run, notes = Run(create("ce")), list[str]()
    runner = ProfiledRunner(run.eager, run.eager, tmp_path, notes.append, EPOCHS)
    run.train(runner, range(EPOCHS - 1, EPOCHS), run.loader.steps - left)
    assert not torch.autograd.profiler._is_profiler_enabled
    assert len(notes) == 1
    assert notes[0].startswith(f"{profiled} step" if profiled else "no profile: too few steps")
    assert (tmp_path / "profile.json.gz").exists() == bool(profiled)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_profile_ends_where_the_run_is_stopped(
    error: type[BaseException], create: Callable[[str], Method], tmp_path: Path
) -> None:
    run, notes = Run(create("ce")), list[str]()

    def train() -> None:
        for images in ProfiledRunner(run.eager, run.eager, tmp_path, notes.append, EPOCHS).epoch(0, 0, 0):
            run.images.append(images)
            if len(run.images) == 5:
                assert torch.autograd.profiler._is_profiler_enabled
                raise error

    with pytest.raises(error):
        train()
    assert not torch.autograd.profiler._is_profiler_enabled
    assert notes[0].startswith("2 steps, ")


def test_a_profile_waits_for_an_epoch_that_has_steps(create: Callable[[str], Method], tmp_path: Path) -> None:
    """Warm-ups count from epoch to epoch; what lies between two epochs is no part of a profile."""
    run, notes = Run(create("ce")), list[str]()
    runner = ProfiledRunner(run.eager, run.eager, tmp_path, notes.append, EPOCHS)
    last = run.loader.steps - 1
    for epoch in range(3):
        assert len([*runner.epoch(epoch, last, 0)]) == 1
        assert not torch.autograd.profiler._is_profiler_enabled
    assert notes == []
    assert len([*runner.epoch(3, 0, 0)]) == run.loader.steps
    assert notes[0].startswith("5 steps, ")


def test_why_a_step_is_not_captured() -> None:
    pixels = np.zeros((4, 3, 8, 8), dtype=np.uint8)
    memory = MemoryBank(ArraySplit(pixels, np.zeros(4, dtype=np.int64), "x"), 8, CPU)
    disk = DiskBank(ArraySplit(pixels, np.zeros(4, dtype=np.int64), "x"), 8, CPU, 1)
    cuda = torch.device("cuda")
    assert explain_no_capture(cuda, "bf16", memory) == ""
    assert "cpu" in explain_no_capture(CPU, "bf16", memory)
    assert "fp16" in explain_no_capture(cuda, "fp16", memory)
    assert "disk" in explain_no_capture(cuda, "bf16", disk)


def test_the_engine_chosen() -> None:
    assert choose_engine("auto", CPU) == "eager"
    assert choose_engine("auto", torch.device("cuda")) == "graph"
    assert choose_engine("compile", CPU) == "compile"
