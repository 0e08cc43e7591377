"""How many threads a run takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import torch

from ltk.engine import device
from ltk.engine.device import choose_threads, probe_threads

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
