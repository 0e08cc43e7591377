"""What is counted while a run trains stays right when it goes on over another number of devices, or mid-epoch."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from ltk.checkpoint import load_checkpoint, save_checkpoint
from ltk.config import RunConfig
from ltk.data import loaders
from ltk.data.loaders import count_steps
from ltk.engine import trainer
from ltk.engine.amend import amend_config
from ltk.engine.fit import fit, resume
from ltk.engine.position import Position
from ltk.engine.reporter import SilentReporter
from ltk.errors import StoppedError
from ltk.resolve import resolve_config
from ltk.run_files import LAST, read_run_config
from tests.test_resume import Interrupter

IMAGES, STEPS = 342, 11  # a batch of 34: ten whole ones and one of 2 images, too few for two devices
EPOCHS = 12


def create_config(**options: object) -> RunConfig:
    cheap = {"optim.epochs": EPOCHS, "optim.batch_size": 34, "run.device": "cpu", "run.precision": "fp32"}
    overrides = ("model.width=4", "run.threads=1", "run.eval_every=50")
    return resolve_config("ce", dataset="digits", options=cheap | options, overrides=overrides).config


def share_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on an epoch has the steps it has on two devices."""

    def count(length: int, batch_size: int, *, drop_last: bool, world: int) -> int:
        return count_steps(length, batch_size, drop_last=drop_last, world=2)

    monkeypatch.setattr(loaders, "count_steps", count)


def read_card(run: Path) -> dict[str, object]:
    card: dict[str, object] = json.loads((run / "card.json").read_text())
    return card


def test_the_card_counts_what_was_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = fit(create_config(), out=tmp_path / "run").folder
    card = read_card(run)
    assert (card["epochs"], card["updates"], card["images_seen"]) == (12, 12 * STEPS, 12 * IMAGES)
    share_out(monkeypatch)
    resume(run, config=amend_config(read_run_config(run), [("optim.epochs", 24)]))
    card = read_card(run)
    assert (card["epochs"], card["updates"]) == (24, 12 * STEPS + 12 * (STEPS - 1))
    assert card["images_seen"] == 12 * IMAGES + 12 * (IMAGES - 2)


@pytest.mark.parametrize("step", [None, 4])
def test_a_checkpoint_that_does_not_count_images_is_told_how_many(tmp_path: Path, step: int | None) -> None:
    with pytest.raises(StoppedError):
        fit(create_config(**{"optim.epochs": 3}), out=tmp_path / "run", reporter=Interrupter(1, step))
    checkpoint = load_checkpoint(tmp_path / "run" / "checkpoints" / LAST)
    del checkpoint.state["position"]["images"]
    save_checkpoint(tmp_path / "run" / "checkpoints", checkpoint)
    resume(tmp_path / "run")
    assert read_card(tmp_path / "run")["images_seen"] == 3 * IMAGES


def test_an_update_is_found_by_the_position() -> None:
    place = Position(epoch=7, step=5, update=80)
    assert place.locate(79) == (7, 4)
    assert place.locate(75) == (7, 0)


class Clock(SilentReporter):
    """Every step takes two seconds."""

    seconds = 0

    def step(self, epoch: int, done: int, steps: int, images: int) -> None:
        self.seconds += 2


class StoppingClock(Clock):
    """Stops in the second epoch, after its third step."""

    def step(self, epoch: int, done: int, steps: int, images: int) -> None:
        super().step(epoch, done, steps, images)
        Interrupter(1, 3).step(epoch, done, steps, images)


def test_times_of_a_continued_epoch_are_those_of_its_speed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, stopping, clock = tmp_path / "run", StoppingClock(), Clock()
    config = create_config(**{"optim.epochs": 3, "optim.batch_size": 64})
    monkeypatch.setattr(trainer, "time", SimpleNamespace(perf_counter=lambda: stopping.seconds + clock.seconds))
    with pytest.raises(StoppedError):
        fit(config, out=run, reporter=stopping)
    resume(run, reporter=clock)
    lines = [json.loads(line) for line in (run / "times.jsonl").read_text().splitlines()]
    assert [line["seconds"] for line in lines] == [12, 12, 12]
    assert [line["images_per_second"] for line in lines] == [IMAGES / 12, (IMAGES - 3 * 64) / 6, IMAGES / 12]
