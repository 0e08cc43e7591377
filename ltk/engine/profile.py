"""Where a step's time goes: a profiler trace of some of the first steps and ten lines that sum it up."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, record_function

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


class ProfiledRunner:
    """Carries out the first steps kernel by kernel under the profiler, then leaves the others to a runner.

    A captured step has no parts to be seen, so that what is profiled is never a replay.

    Args:
        eager: carries out the profiled steps.
        then: carries out all others.
        folder: where trace and summary are written.
        note: told the summary.
    """

    def __init__(self, eager: EagerRunner, then: Runner, folder: Path, note: Callable[[str], None]) -> None:
        self._eager, self._then, self._folder, self._note = eager, then, folder, note
        self._device = eager.step.first_bad.device
        self._done = self._images = 0
        self._seconds = 0.0
        activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (self._device.type == "cuda")
        os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else its notes stand between those of the run
        self._profiler = profile(activities=activities, acc_events=True)  # else older torch warns of more cycles

    def epoch(self, epoch: int, start: int, update: int) -> Iterator[int]:
        """Carry out the steps of an epoch; see ``Runner``."""
        if self._done < _WARM_UPS + _STEPS:
            began = time.perf_counter()
            for images in self._eager.epoch(epoch, start, update):
                self._count(images, began)
                yield images
                start, update = start + 1, update + 1
                if self._done == _WARM_UPS + _STEPS:
                    break
                began = time.perf_counter()
        if start < self._eager.loader.steps:
            yield from self._then.epoch(epoch, start, update)

    def _count(self, images: int, began: float) -> None:
        with record_function("ltk.wait"):
            if self._device.type == "cuda":
                torch.cuda.synchronize(self._device)
        self._done += 1
        if self._done > _WARM_UPS:
            self._images += images
            self._seconds += time.perf_counter() - began
        if self._done == _WARM_UPS:
            self._profiler.start()
        elif self._done == _WARM_UPS + _STEPS:
            self._profiler.stop()
            self._write()

    def _write(self) -> None:
        summary = summarise(self._profiler.key_averages(), _STEPS, self._seconds, self._images, self._device.type)
        self._profiler.export_chrome_trace(str(self._folder / TRACE))
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
    lines = [f"{steps} steps, {1e3 * seconds / steps:.2f} ms each under the profiler, {images / seconds:,.0f} images/s"]
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
