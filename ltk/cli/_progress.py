"""How training is shown: bars on a terminal, one plain line per epoch elsewhere; always on standard error."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType
from rich.constrain import Constrain
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Column

from ltk.cli import _console
from ltk.data.base import count_of

if TYPE_CHECKING:
    from rich.console import Console

    from ltk.config import RunConfig
    from ltk.engine.build import Built

_REFRESH_SECONDS = 0.2
_MILLIONS_FROM = 100_000  # smaller numbers are written out
_ECHO = 2  # columns that stay free for the ^C of an interrupt: wrapped, it would leave the line standing
_FIGURES = 74  # columns of what stands beside the bar, down to the best accuracy
_BAR = (6, 20)  # columns, at least and at most
_BRIEF = {"medium": "med"}


class _Line(Progress):
    """One line: epoch, time left, bar, and as many figures as there is room for."""

    def __init__(self, console: Console) -> None:
        self._terminal = console  # asked for its width before `self.console` is there
        least, most = _BAR
        super().__init__(
            TextColumn("epoch {task.fields[epoch]}"),
            TimeRemainingColumn(compact=True),
            BarColumn(max(least, min(most, console.width - _FIGURES))),
            TextColumn("{task.description}", table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")),
            console=console,
            transient=True,
            expand=True,
        )

    def get_renderable(self) -> RenderableType:
        """Return the line, which leaves some columns free."""
        return Constrain(super().get_renderable(), self._terminal.width - _ECHO)


class TrainingDisplay:
    """Draws what the engine reports.

    Args:
        quiet: show nothing but warnings.
    """

    def __init__(self, quiet: bool = False) -> None:
        self._quiet = quiet
        self._console = _console.notes()
        self._bar: _Line | None = None
        self._task = TaskID(0)
        self._epochs = self._steps = self._images = 0
        self._best: tuple[float, int] = (-1.0, -1)
        self._selection = "test"
        self._text = self._brief = ""
        self._since = self._drawn = 0.0

    def start(self, built: Built, folder: Path, epoch: int) -> None:
        """Say what is trained and where."""
        from ltk.models.backbones import count_parameters

        plan, config = built.plan, built.plan.config
        for text in plan.notes:
            self.warn(text)
        self._epochs, self._selection, self._since = config.optim.epochs, plan.selection, time.monotonic()
        if self._quiet:
            return
        self._console.print(
            f"{config.method.label} on {config.data.dataset}"
            + (f", imbalance {config.data.imb:g}" if config.data.imb else "")
            + f": {sum(plan.manifest.counts)} training images, {plan.manifest.counts and len(plan.manifest.counts)}"
            f" classes, {config.model.backbone}, {_count(count_parameters(built.method))} parameters learnt,"
            f" {config.run.device} {config.run.precision}, seed {config.run.seed}",
            markup=False,
        )
        for text in _describe_batches(config):
            self._console.print(text, markup=False)
        self._console.print(f"run {folder}{_describe_start(epoch, self._epochs)}", markup=False)
        if self._console.is_terminal and epoch < self._epochs:
            self._bar = _Line(self._console)
            total, done = self._epochs * built.loader.steps, epoch * built.loader.steps
            self._task = self._bar.add_task("", total=total, completed=done, epoch=f"{epoch + 1}/{self._epochs}")
            self._bar.start()

    def step(self, epoch: int, done: int, steps: int, images: int) -> None:
        """Move the bar, at most five times a second."""
        self._images += images
        now = time.monotonic()
        if self._bar is None or now - self._drawn < _REFRESH_SECONDS:
            return
        speed = self._images / (now - self._since)
        self._drawn = now
        self._bar.update(
            self._task,
            completed=epoch * steps + done,
            description=f"{self._brief} {speed:,.0f} images/s".strip(),
            epoch=f"{epoch + 1}/{self._epochs}",
        )

    def epoch(self, record: Mapping[str, Any], times: Mapping[str, Any]) -> None:
        """Print or draw the epoch's figures."""
        self._since, self._images = time.monotonic(), 0
        parts = [f"loss {record['loss']:.4f}", f"lr {record['lr']:.4g}"]
        brief = [f"loss {record['loss']:.3f}"]
        evaluated = record.get(self._selection)
        if evaluated:
            self._best = max(self._best, (evaluated["top1"], record["epoch"]))
            best = f"best {_percent(self._best[0])}"
            parts += [*(f"{name} {_percent(value)}" for name, value in evaluated.items()), best]
            groups = (f"{_BRIEF.get(name, name)} {_percent(evaluated[name])}" for name in evaluated if name != "top1")
            brief += [*groups, best, f"top1 {_percent(evaluated['top1'])}"]
        self._text, self._brief = "  ".join(parts), " ".join([*brief, parts[1]])
        if self._bar is None and not self._quiet:
            left = (self._epochs - record["epoch"] - 1) * times["seconds"]
            line = f"epoch {record['epoch'] + 1}/{self._epochs}  {self._text}"
            line += f"  {times['images_per_second']:,.0f} images/s  left {_clock(left)}"
            self._console.print(line, markup=False, soft_wrap=True)

    def note(self, text: str) -> None:
        """Print some lines."""
        _console.note(text)

    def warn(self, text: str) -> None:
        """Print a warning."""
        _console.warn(text)

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _describe_start(epoch: int, epochs: int) -> str:
    if epoch >= epochs:
        return f", already finished: {count_of(epochs, 'epoch')}"
    return f", continued at epoch {epoch + 1}" if epoch else ""


def _count(number: int) -> str:
    return f"{number:,}" if number < _MILLIONS_FROM else f"{number / 1e6:.2f} M"


def _describe_batches(config: RunConfig) -> list[str]:
    """How batches are shared out, and which learning rate that makes."""
    from ltk.distributed import world_size

    optim, processes, lines = config.optim, world_size(), []
    if processes > 1:
        scope = "over all devices" if config.run.sync_bn else "per device"
        share = f"{optim.batch_size // processes} images of each batch of {optim.batch_size} on each"
        lines.append(f"{processes} devices, {share}, batch statistics {scope}")
    if optim.lr_rule == "linear":
        rule = f"{optim.lr:g} x {optim.batch_size} / {optim.reference_batch}"
        lines.append(f"learning rate {optim.scaled_lr:g} = {rule} (linear rule)")
    return lines


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
