"""Many classes stay vectors, whatever the method; and what the scaling benchmark measures and predicts."""

from __future__ import annotations

import json
import sys

import pytest

from benchmarks import memory, scale
from benchmarks._sides import METHODS

MATRIX = 4 * 8142**2  # bytes of one number for every pair of classes
NETWORK = scale.Network(per_node=8, inside=150e9, between=12.5e9, latency=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_a_step_with_8142_classes_holds_no_matrix_of_classes(method: str) -> None:
    """Heads of 16 numbers a class, their gradients and momentum, logits of 16 images: no square."""
    grown = memory.measure_classes(method, [100, 8142])
    assert grown["8142"] < MATRIX / 5
    assert grown["bytes_per_class"] < 4 * 8142 / 4


def test_the_prediction() -> None:
    step, gradient = 0.1, 100e6
    assert scale.predict(1, step, gradient, NETWORK) == (step, 0, 1)
    whole, reduce, efficiency = scale.predict(8, step, gradient, NETWORK)
    assert reduce == pytest.approx(2 * 7 / 8 * gradient / 150e9 + 14e-5)
    assert whole == pytest.approx(step + reduce / 4), "a quarter of the gradients goes out last"
    assert efficiency == pytest.approx(step / whole)
    _, two_nodes, _ = scale.predict(16, step, gradient, NETWORK)
    assert two_nodes == pytest.approx(reduce + gradient / 12.5e9 + 2e-5)
    slow, late, _ = scale.predict(16, 0.001, gradient, NETWORK)
    assert slow == pytest.approx(0.001 + late - 0.001 * 2 / 3), "what the backward pass does not hide is waited for"


def test_processes_are_measured(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--worlds", "2", "--rounds", "1", "--width", "4", "--batch", "4", "--json"]
    monkeypatch.setattr(sys, "argv", ["scale", *arguments])
    scale.main()
    results = json.loads(capsys.readouterr().out)
    assert set(results["measured"]) == {"2"}
    assert 0 <= results["measured"]["2"]["communication"] < 1
    assert results["measured"]["2"]["gradient_mb"] > 0
    alone = results["measured"]["2"]
    assert (
        f"assumed: a step of {alone['cpu_ms']:.4g} ms on one GPU, {alone['gradient_mb']:.4g} MB" in results["assumed"]
    )


def test_a_prediction_needs_a_step(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["scale", "--no-run", "--step-ms", "100"])
    with pytest.raises(SystemExit):
        scale.main()
    monkeypatch.setattr(sys, "argv", ["scale", "--no-run", "--step-ms", "100", "--gradient-mb", "102.2"])
    capsys.readouterr()
    scale.main()
    assert "61.6" in capsys.readouterr().out
