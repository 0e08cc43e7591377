"""The benchmarks run, and their two sides compute the same."""

from __future__ import annotations

import json
import sys
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks import bagmar, eval, memory, scaling, step, views
from benchmarks._measure import Spent, fit_slope, interleave, summarise
from benchmarks._memory import measure_peak
from benchmarks._plain import GradientMatrices, PlainGCL, PlainGLMC, PlainMethod, PlainPaCo
from benchmarks._sides import METHODS, LtkSide, PlainSide, Task
from ltk import draws
from ltk.methods.bagmar import add_gradient, positive_gradient
from ltk.methods.base import Method
from ltk.methods.functional import cutmix_box
from ltk.types import Batch, Progress

BATCH, EPOCHS = 8, 4
KEY = draws.make_key(5)
SMALL = ("--rounds", "2", "--json")
RUNS: dict[str, tuple[ModuleType, tuple[str, ...], str]] = {
    "step": (step, ("--methods", "glmc", "--width", "4", "--depth", "8", "--batch", "8"), "glmc"),
    "views": (views, ("--recipes", "crop-flip", "--batch", "8"), "crop-flip"),
    "eval": (eval, ("--widths", "4", "--depth", "8", "--images", "16"), "width 4, per epoch"),
    "memory": (
        memory,
        ("--methods", "paco", "--width", "4", "--batch", "8", "--classes", "100", "200", "--queues", "1024", "2048"),
        "classes",
    ),
    "scaling": (
        scaling,
        ("--methods", "glmc", "--images", "300", "600", "--classes", "100", "200", "--widths", "4", "8"),
        "glmc step, by classes",
    ),
    "bagmar": (bagmar, ("--classes", "10", "50"), "50"),
}


@pytest.mark.parametrize("name", RUNS)
def test_a_benchmark_runs(name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    module, arguments, key = RUNS[name]
    monkeypatch.setattr(sys, "argv", [name, *arguments, *SMALL])
    module.main()
    results = json.loads(capsys.readouterr().out)
    assert key in results
    if name == "step":
        assert results["glmc"]["ratio"] > 0
        assert results["glmc"]["ratio_low"] <= results["glmc"]["ratio"] <= results["glmc"]["ratio_high"]


def test_a_table_is_printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["bagmar", "--classes", "10", "--rounds", "1"])
    bagmar.main()
    machine, header, row = capsys.readouterr().out.splitlines()
    assert "threads 1" in machine
    assert "ratio" in header
    assert row.startswith("10 classes")


def create_pair(method: str) -> tuple[Method, PlainMethod]:
    """Return both sides' networks with the same weights."""
    task = Task(method, width=4, depth=8, batch=BATCH, precision="fp32")
    ours, plain = LtkSide(task).method, PlainSide(task).method
    missing, _ = plain.load_state_dict(ours.state_dict(), strict=False)
    assert missing == []
    if isinstance(plain, PlainPaCo):
        state = ours.state_dict()
        plain.keys_QE, plain.labels_Q = state["queue.keys_QE"].clone(), state["queue.labels_Q"].clone()
    return ours, plain


def share_draws(plain: PlainMethod, key: Tensor, key_B: Tensor) -> None:
    """Let the plain side draw what ltk draws."""
    weight = draws.beta(draws.fold(key, 0), 1.0)
    if isinstance(plain, PlainGLMC):
        y, x = (draws.randint(draws.fold(key, word), 32) for word in (1, 2))
        row, column = cutmix_box(weight, y, x, 32, 32).nonzero(as_tuple=True)
        box = (int(row.min()), int(row.max()) + 1, int(column.min()), int(column.max()) + 1) if len(row) else (0,) * 4
        plain.draw = lambda height, width: (float(weight), box)  # type: ignore[method-assign]
    if isinstance(plain, PlainGCL):
        partner_B = draws.permutation(draws.fold(key, 1), BATCH)
        plain.draw_mix = lambda count: (float(weight), partner_B)  # type: ignore[method-assign]
        plain.draw_noise = lambda count, draw: draws.normal(draws.fold(key_B, draw), 100) / 3  # type: ignore[method-assign]


@pytest.mark.parametrize("method", METHODS)
def test_both_sides_have_the_same_loss_and_gradient(method: str) -> None:
    """Three steps, so that what is kept from step to step (queue, key encoder, sums) is compared too."""
    ours, plain = create_pair(method)
    generator = torch.Generator().manual_seed(0)
    for number in range(3):
        key = draws.fold(KEY, number)
        batches: dict[str, Batch] = {}
        for name, stream in ours.streams.items():
            views = tuple(torch.randn(BATCH, 3, 32, 32, generator=generator) for _ in range(stream.views))
            target_B, index_B = torch.randint(100, (BATCH,), generator=generator), torch.arange(BATCH)
            batches[name] = Batch(views, target_B, index_B, draws.fold(key, index_B))
        share_draws(plain, key, batches["main"].key_B)
        if isinstance(plain, PlainGLMC):
            plain.alpha = 1 - (number / EPOCHS) ** 2
        output = ours(batches, Progress(torch.tensor(float(number)), EPOCHS, key))
        loss, logits_BK = plain({name: (batch.views, batch.target_B) for name, batch in batches.items()})
        assert loss.item() == pytest.approx(output.loss.item(), rel=1e-4)
        torch.testing.assert_close(logits_BK.detach(), output.logits_BK, rtol=1e-3, atol=1e-4)
        for part in (output.loss, loss):
            part.backward()
    stem, other = (dict(net.named_parameters())["backbone.net.conv1.weight"].grad for net in (ours, plain))
    assert stem is not None
    torch.testing.assert_close(stem, other, rtol=1e-2, atol=5e-3 * float(stem.abs().max()))


def test_the_matrices_hold_what_the_vectors_hold() -> None:
    matrices, total_K, theta_K = GradientMatrices(5), torch.zeros(5), torch.zeros(5)
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        logits_BK = torch.randn(7, 5, generator=generator)
        target_B = torch.randint(5, (7,), generator=generator)
        matrices.add(torch.softmax(logits_BK, dim=1), target_B)
        total_K, theta_K = add_gradient(total_K, theta_K, positive_gradient(logits_BK, target_B))
    received_K, sent_K = matrices.margins()
    torch.testing.assert_close(received_K, torch.log(theta_K + 1e-3))
    torch.testing.assert_close(sent_K, received_K)


def test_memory_grows_with_classes_not_their_square() -> None:
    """A matrix of 8,142 x 8,142 numbers alone would take 265 MB."""
    grown = memory.measure_classes("bagmar", [100, 8142])
    assert grown["8142"] < 20e6
    assert grown["bytes_per_class"] < 2000


@pytest.mark.parametrize(("precision", "share"), [("fp32", 1.0), ("bf16", 0.6)])
def test_a_step_takes_no_more_memory_than_the_plain_one(precision: str, share: float) -> None:
    sides = memory.measure_sides(Task("glmc", width=16, depth=8, batch=16, precision=precision))
    assert sides["ltk"] <= share * sides["plain"]


def test_the_peak_is_that_of_what_lives_at_one_time() -> None:
    weight = torch.zeros(1000)

    def work() -> None:
        first = weight + 1
        second = first + 1
        del first
        third = second + 1
        del second, third

    assert measure_peak(work, lambda: [weight]) == 3 * 4000


def test_ratios_and_slopes() -> None:
    ltk, other = (
        [Spent(1.0, 1.0), Spent(2.0, 1.0), Spent(1.0, 1.0)],
        [Spent(2.0, 3.0), Spent(6.0, 3.0), Spent(4.0, 3.0)],
    )
    ratio = summarise(ltk, other)
    assert (ratio.ratio_low, ratio.ratio, ratio.ratio_high, ratio.cpu_ratio) == (2.5, 3.0, 3.5, 3.0)
    assert fit_slope([1, 10, 100], [2, 200, 20_000]) == pytest.approx(2)
    calls: list[str] = []
    sides: dict[str, Any] = {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}
    spent = interleave(sides, 4, {"a": 2})
    assert [len(times) for times in spent.values()] == [4, 4]
    assert (calls.count("a"), calls.count("b")) == (10, 5)
