"""Where a step's time goes: a profiler trace of some of the first steps and ten lines that sum it up."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from ltk.data.base import count_of
from ltk.engine.runner import EagerRunner, Runner
from ltk.files import write_text

TRACE, SUMMARY = "profile.json.gz", "profile.txt"
_WARM_UPS, _STEPS = 3, 5
_PARTS = {
    "data": "taking the images",
    "views": "changing and normalising them",
    "forward": "network and loss",
    "backward": "gradients",
    "update": "optimiser, momentum encoders",
    "wait": "the host waits for the device",
    "other": "everything else",
}
_SLOWEST = 3


@dataclass
class _Profiled:
    """What was profiled so far: steps, their images, the seconds they took."""

    steps: int = 0
    images: int = 0
    seconds: float = 0.0


class ProfiledRunner:
    """Carries out the first steps kernel by kernel under the profiler, then leaves the others to a runner.

    A captured step has no parts to be seen, so that what is profiled is never a replay. Three steps warm up; the next
    five are profiled, or as many of them as the epoch still has: evaluation and saving are no part of a step.

    Args:
        eager: carries out the profiled steps.
        then: carries out all others.
        folder: where trace and summary are written.
        note: told the summary.
        epochs: how many the run has.
    """

    def __init__(
        self, eager: EagerRunner, then: Runner, folder: Path, note: Callable[[str], None], epochs: int
    ) -> None:
        self._eager, self._then, self._folder, self._note, self._epochs = eager, then, folder, note, epochs
        self._device = eager.step.first_bad.device
        self._warm_ups = _WARM_UPS
        self._is_over = False
        self._activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (self._device.type == "cuda")
        os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else its notes stand between those of the run

    def epoch(self, epoch: int, start: int, update: int) -> Iterator[int]:
        """Carry out the steps of an epoch; see ``Runner``."""
        if not self._is_over:
            with closing(self._first_steps(self._eager.epoch(epoch, start, update))) as first:
                for images in first:
                    yield images
                    start, update = start + 1, update + 1
        if start < self._eager.loader.steps:
            yield from self._then.epoch(epoch, start, update)
        elif not self._is_over and epoch + 1 == self._epochs:
            self._note(f"no profile: too few steps were left, the first {_WARM_UPS} warm up")

    def _first_steps(self, steps: Iterator[int]) -> Generator[int, None, None]:
        """Warm up and profile; the profiler has stopped when this ends, whatever ends it."""
        for images in itertools.islice(steps, self._warm_ups):
            self._warm_ups -= 1
            yield images
        profiler = profile(activities=self._activities, acc_events=True)  # else older torch warns of more cycles
        done = _Profiled()
        profiler.start()
        try:
            while done.steps < _STEPS and (images := self._time_step(steps, done)):
                yield images
        finally:
            profiler.stop()
            if done.steps:
                self._write(profiler, done)

    def _time_step(self, steps: Iterator[int], done: _Profiled) -> int:
        """Carry out and count one step; return its images, 0 where the epoch has no more."""
        began = time.perf_counter()
        images = next(steps, 0)
        if images:
            with record_function("ltk.wait"):
                if self._device.type == "cuda":
                    torch.cuda.synchronize(self._device)
            done.steps, done.images = done.steps + 1, done.images + images
            done.seconds += time.perf_counter() - began
        return images

    def _write(self, profiler: profile, done: _Profiled) -> None:
        self._is_over = True
        summary = summarise(profiler.key_averages(), done.steps, done.seconds, done.images, self._device.type)
        profiler.export_chrome_trace(str(self._folder / TRACE))
        write_text(self._folder / SUMMARY, summary + "\n")
        self._note(f"{summary}\ntrace {self._folder / TRACE} (open it in https://ui.perfetto.dev)")


def summarise(averages: Sequence[Any], steps: int, seconds: float, images: int, device: str) -> str:
    """Return ten lines: the parts of a step, what is left over, and the slowest operators.

    Args:
        averages: of ``torch.profiler``; the parts are ranges named ``ltk.<part>``.
        steps: profiled.
        seconds: they took in all.
        images: they had in all.
        device: "cpu" or "cuda"; decides by which time operators are ordered.
    """
    spent = measure_parts(averages, seconds)
    each, rate = 1e3 * seconds / steps, images / seconds
    lines = [f"{count_of(steps, 'step')}, {each:.2f} ms each under the profiler, {rate:,.0f} images/s"]
    lines += [
        f"{part:9}{1e3 * spent[part] / steps:10.2f} ms {100 * spent[part] / seconds:6.1f} %  {text}"
        for part, text in _PARTS.items()
    ]
    slowest = slowest_operators(averages, "self_cpu_time_total" if device == "cpu" else "self_device_time_total")
    return "\n".join([*lines, f"operators by time on the {device}:", "  " + ", ".join(slowest)])


def measure_parts(averages: Sequence[Any], seconds: float) -> dict[str, float]:
    """Return the seconds of each part of the profiled steps; what is left of ``seconds`` is "other"."""
    totals = {each.key.removeprefix("ltk."): each.cpu_time_total / 1e6 for each in averages if each.key[:4] == "ltk."}
    spent = {part: totals.get(part, 0.0) for part in _PARTS}
    return spent | {"other": seconds - sum(spent.values())}


def slowest_operators(averages: Sequence[Any], by: str, count: int = _SLOWEST) -> list[str]:
    """Return the operators that take most of the time, each with its share.

    Args:
        averages: of ``torch.profiler``.
        by: "self_cpu_time_total" or "self_device_time_total".
        count: how many.
    """
    times = {each.key: float(getattr(each, by)) for each in averages if each.key[:4] != "ltk."}
    total = sum(times.values()) or 1.0
    names = sorted(times, key=lambda name: -times[name])[:count]
    return [f"{name} {100 * times[name] / total:.0f} %" for name in names]
