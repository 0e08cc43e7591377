"""In which precision and with how many threads a run computes."""

from __future__ import annotations

import contextlib
import time
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from ltk.engine import device
from ltk.engine.build import build, plan_data
from ltk.engine.device import choose_precision, choose_threads, probe_threads
from ltk.engine.dry_run import estimate
from ltk.resolve import resolve_config

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("seconds", "fastest"),
    [
        (lambda threads: 0.001 * threads, 1),  # other programs on every core
        (lambda threads: 0.004 / threads, 4),  # all cores free
        (lambda threads: 0.004 / threads if threads < 4 else 0.01, 3),  # one core taken
    ],
    ids=["busy", "free", "one taken"],
)
def test_the_fastest_number_of_threads_is_taken(
    seconds: Callable[[int], float], fastest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, tried = torch.get_num_threads(), set()

    def convolve(*arguments: Any, **options: Any) -> None:
        tried.add(torch.get_num_threads())
        time.sleep(seconds(torch.get_num_threads()))

    monkeypatch.setattr("torch.nn.functional.conv2d", convolve)
    assert probe_threads(4, 0.05) == fastest
    assert tried == {1, 2, 3, 4}
    assert torch.get_num_threads() == before


def test_one_core_is_not_tried_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.nn.functional.conv2d", pytest.fail)
    assert probe_threads(1) == 1


def test_threads_asked_for_tiny_images_and_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "probe_threads", lambda cores: 7)
    assert choose_threads(3, CPU, 32) == 3
    assert choose_threads(0, CPU, 8) == 1
    assert choose_threads(0, CPU, 32) == 7
    assert choose_threads(0, torch.device("cuda"), 32) >= 1


@pytest.mark.parametrize(("device", "precision"), [("cuda:0", "fp16"), ("cuda:1", "bf16")])
def test_bf16_is_taken_where_the_device_of_the_run_multiplies_it(
    device: str, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Turing, which only emulates it, and an Ampere; the first one is the current device."""
    current = [0]

    @contextlib.contextmanager
    def at(device: torch.device) -> Iterator[None]:
        current.append(device.index)
        yield
        current.pop()

    monkeypatch.setattr("torch.cuda.device", at)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.current_device", lambda: current[-1])
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda index: types.SimpleNamespace(major=(7, 8)[index]))
    monkeypatch.setattr("torch.cuda._check_bf16_tensor_supported", lambda index: True)
    assert choose_precision("auto", torch.device(device), 32) == precision
    assert choose_precision("fp32", torch.device(device), 32) == "fp32"


def test_threads_are_shared_among_the_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "probe_threads", lambda cores: cores)
    monkeypatch.setattr(device, "count_cores", lambda: 3)
    assert choose_threads(0, CPU, 32) == 3
    assert choose_threads(0, torch.device("cuda"), 32) == 3


def test_a_run_takes_its_device_for_the_whole_process(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[str] = []

    def use(name: str) -> torch.device:
        taken.append(name)
        return CPU

    monkeypatch.setattr("ltk.engine.build.use_device", use)
    monkeypatch.setattr("ltk.engine.rehearsal.use_device", use)
    config = resolve_config("ce", dataset="digits", options={"run.device": "cpu", "run.threads": 1}).config
    build(plan_data(config))
    estimate(config, seconds=0.01)
    assert taken == ["cpu", "cpu"]
