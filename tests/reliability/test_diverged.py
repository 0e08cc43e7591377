"""A loss or gradient that is not finite: stop before the update, or leave a few such updates out."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from ltk.checkpoint import load_newest
from ltk.config import RunConfig
from ltk.data import loaders
from ltk.data.loaders import Loader
from ltk.engine.build import build, plan_data
from ltk.engine.fit import fit, resume
from ltk.engine.optim import create_optimizer, optimizer_tensors
from ltk.engine.reporter import SilentReporter
from ltk.engine.run_dir import RunDir
from ltk.engine.signals import StopRequest
from ltk.engine.step import TrainStep
from ltk.engine.trainer import Trainer
from ltk.errors import DivergedError, StoppedError
from ltk.resolve import resolve_config
from ltk.types import Batch, Progress
from tests.reliability.processes import Launcher
from tests.test_resume import Interrupter

Place = tuple[int, int]
STEPS = 6  # of an epoch of the long-tailed digits


class Warnings(SilentReporter):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def warn(self, text: str) -> None:
        self.texts.append(text)


def create_config(method: str = "ce", *overrides: str) -> RunConfig:
    options = {"optim.epochs": 3, "run.device": "cpu", "run.precision": "fp32", "run.threads": 1}
    return resolve_config(method, dataset="digits", options=options, overrides=("model.width=4", *overrides)).config


@pytest.fixture
def poison(monkeypatch: pytest.MonkeyPatch) -> Callable[[Collection[Place]], None]:
    """``poison(places)``: make the images of these (epoch, step) batches nan."""
    whole = Loader.epoch

    def apply(places: Collection[Place]) -> None:
        def epoch(self: Loader, epoch: int, start: int = 0) -> Iterator[dict[str, Batch]]:
            for step, batches in enumerate(whole(self, epoch, start), start=start):
                if (epoch, step) in places:
                    for batch in batches.values():
                        batch.views[0].fill_(float("nan"))
                yield batches

        monkeypatch.setattr(Loader, "epoch", epoch)

    return apply


def test_training_stops_before_the_update(tmp_path: Path, poison: Any) -> None:
    poison({(1, 2)})
    with pytest.raises(DivergedError) as stopped:
        fit(create_config(), out=tmp_path / "run")
    assert stopped.value.exit_code == 7
    assert f"update {STEPS + 2} (epoch 2)" in stopped.value.message
    assert str(tmp_path / "run" / "bad_batch.txt") in stopped.value.hint
    checkpoint, complaints = load_newest(tmp_path / "run" / "checkpoints")
    assert complaints == []
    assert checkpoint.state["position"]["update"] == STEPS
    assert [name for name, value in checkpoint.tensors.items() if not value.isfinite().all()] == []


def test_the_images_of_the_batch_are_named(tmp_path: Path, poison: Any) -> None:
    poison({(1, 2)})
    with pytest.raises(DivergedError):
        fit(create_config("glmc"), out=tmp_path / "run")
    plan = plan_data(create_config("glmc"))
    batches = list(build(plan).loader.epoch(1))[2]
    names = plan.splits["train"].names
    expected = [f"{stream}\t{names[i]}" for stream, batch in batches.items() for i in batch.index_B.tolist()]
    assert (tmp_path / "run" / "bad_batch.txt").read_text().splitlines() == expected
    assert len(set(names)) == len(names)


def test_they_are_named_when_epochs_have_got_shorter(
    tmp_path: Path, poison: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with more devices, among which the last batch of an epoch cannot be shared out."""
    with pytest.raises(StoppedError):
        fit(create_config(), out=tmp_path / "run", reporter=Interrupter(1))
    monkeypatch.setattr(loaders, "count_steps", lambda length, batch_size, **options: length // batch_size)
    poison({(2, 1)})
    with pytest.raises(DivergedError, match=rf"update {2 * STEPS + 1} \(epoch 3\)"):
        resume(tmp_path / "run")
    plan = plan_data(create_config())
    batch = list(build(plan).loader.epoch(2))[1]["main"]
    expected = [f"main\t{plan.splits['train'].names[i]}" for i in batch.index_B.tolist()]
    assert (tmp_path / "run" / "bad_batch.txt").read_text().splitlines() == expected


def test_bad_updates_are_left_out_and_counted(tmp_path: Path, poison: Any) -> None:
    poison({(0, 0), (1, 3)})
    reporter = Warnings()
    fit(create_config("paco", "run.on_nan=skip:2"), out=tmp_path / "run", reporter=reporter)
    assert len(reporter.texts) == 2
    assert "left out, 2 of at most 2" in reporter.texts[1]
    records = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [record["skipped"] for record in records] == [1, 2, 2]
    checkpoint, _ = load_newest(tmp_path / "run" / "checkpoints")
    assert [name for name, value in checkpoint.tensors.items() if not value.isfinite().all()] == []


def test_one_more_than_allowed_stops(tmp_path: Path, poison: Any) -> None:
    poison({(0, 0), (1, 3)})
    with pytest.raises(DivergedError, match="after 1 that were left out"):
        fit(create_config("ce", "run.on_nan=skip:1"), out=tmp_path / "run")


def test_the_count_outlasts_a_stop(tmp_path: Path, poison: Any) -> None:
    poison({(0, 0), (2, 3)})
    with pytest.raises(StoppedError):
        fit(create_config("ce", "run.on_nan=skip:1"), out=tmp_path / "run", reporter=Interrupter(1, 2))
    with pytest.raises(DivergedError):
        resume(tmp_path / "run")


def test_an_epoch_without_a_good_update_is_no_training(tmp_path: Path, poison: Any) -> None:
    poison({(1, step) for step in range(STEPS)})
    with pytest.raises(DivergedError, match="no update of epoch 2"):
        fit(create_config("ce", "run.on_nan=skip:100"), out=tmp_path / "run")


@pytest.mark.parametrize("method", ["ce", "paco", "bagmar", "glmc"])
@pytest.mark.parametrize("good_before", [0, 1])
def test_a_left_out_update_leaves_no_trace(method: str, good_before: int) -> None:
    """Weights, batch statistics, queue, momentum encoder, running sums, momentum: as if the batch had not been."""
    built = build(plan_data(create_config(method)))
    optimizer = create_optimizer(built.plan.config.optim, built.method.parameters())
    step = TrainStep(built.method, optimizer, precision="fp32", device=torch.device("cpu"), clip=0.0, undo_bad=True)
    batches = built.loader.epoch(0)
    progress = Progress(torch.zeros(()), 3, torch.zeros((), dtype=torch.int64))
    built.method.train()
    for update in range(good_before):
        step(next(batches), progress, update)

    def read_state() -> dict[str, torch.Tensor]:
        state = dict(built.method.state_dict()) | optimizer_tensors(optimizer)
        return {name: value.clone() for name, value in state.items()}

    before = read_state()
    bad = next(batches)
    for batch in bad.values():
        batch.views[0].fill_(float("nan"))
    step(bad, progress, good_before)
    after = read_state()
    assert [name for name in before if not torch.equal(before[name], after[name])] == []
    assert int(step.num_bad) == 1
    step(next(batches), progress, good_before + 1)
    assert [name for name, value in read_state().items() if not value.isfinite().all()] == []
    assert int(step.num_bad) == 1


def test_a_finite_loss_with_a_gradient_that_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = TrainStep.__call__

    def call(self: TrainStep, batches: Any, progress: Any, update: int) -> Any:
        handle = self._parameters[0].register_hook(lambda grad: grad * float("inf")) if update == 4 else None
        output = whole(self, batches, progress, update)
        if handle:
            handle.remove()
        return output

    monkeypatch.setattr(TrainStep, "__call__", call)
    with pytest.raises(DivergedError, match="update 4 "):
        fit(create_config(), out=tmp_path / "run")


@pytest.fixture
def overflow(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """``overflow(n)``: let the gradients of the first n updates be infinite."""
    whole = TrainStep.__call__

    def apply(updates: int) -> None:
        def call(self: TrainStep, batches: Any, progress: Any, update: int) -> Any:
            handle = self._parameters[0].register_hook(lambda grad: grad * float("inf")) if update < updates else None
            output = whole(self, batches, progress, update)
            if handle:
                handle.remove()
            return output

        monkeypatch.setattr(TrainStep, "__call__", call)

    return apply


def test_a_scale_that_is_found_stops_nothing(tmp_path: Path, overflow: Callable[[int], None]) -> None:
    """From 65536 down to 1 are 16 halvings."""
    overflow(17)
    fit(create_config("ce", "run.precision=fp16", "optim.epochs=4"), out=tmp_path / "run")
    records = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [record["skipped"] for record in records] == [6, 12, 17, 17]
    checkpoint, _ = load_newest(tmp_path / "run" / "checkpoints")
    assert checkpoint.state["scaler"]["scale"] == 0.5
    assert int(checkpoint.tensors["step.num_bad"]) == 0


def test_a_scale_that_is_not_found_is_divergence(tmp_path: Path, overflow: Callable[[int], None]) -> None:
    overflow(100)
    with pytest.raises(DivergedError, match="update 17 ") as stopped:
        fit(create_config("ce", "run.precision=fp16", "optim.epochs=4"), out=tmp_path / "run")
    assert "--precision fp32" in stopped.value.hint
    assert (tmp_path / "run" / "bad_batch.txt").exists()


def test_updates_below_a_scale_of_one_count_as_left_out(tmp_path: Path, overflow: Callable[[int], None]) -> None:
    overflow(19)
    config = create_config("ce", "run.precision=fp16", "optim.epochs=4", "run.on_nan=skip:2")
    fit(config, out=tmp_path / "run")
    assert int(load_newest(tmp_path / "run" / "checkpoints")[0].tensors["step.num_bad"]) == 2
    with pytest.raises(DivergedError, match=r"update 18 .* after 1 "):
        fit(config.model_copy(update={"run": config.run.model_copy(update={"on_nan": "skip:1"})}), out=tmp_path / "two")


def test_a_short_run_without_an_update_has_not_trained(tmp_path: Path, overflow: Callable[[int], None]) -> None:
    overflow(100)
    with pytest.raises(DivergedError, match="none of the 12 updates"):
        fit(create_config("ce", "run.precision=fp16", "optim.epochs=2"), out=tmp_path / "run")


def test_weights_that_are_not_finite_are_never_saved(tmp_path: Path) -> None:
    built = build(plan_data(create_config()))
    run_dir = RunDir.create(tmp_path / "run", tmp_path, built.plan.config)
    training = Trainer(built, run_dir, SilentReporter())
    training.save()
    next(built.method.buffers()).fill_(float("inf"))
    with pytest.raises(DivergedError, match="weights are not finite"):
        training.save()
    assert load_newest(run_dir.checkpoints)[0].state["position"]["update"] == 0
    with pytest.raises(DivergedError):
        training.run(StopRequest())
    run_dir.close()


def test_the_command_line_says_so(launcher: Launcher, tmp_path: Path) -> None:
    before = """
from ltk.data.loaders import Loader
whole = Loader.epoch
def epoch(self, epoch, start=0):
    for step, batches in enumerate(whole(self, epoch, start), start=start):
        batches["main"].views[0][0, 0, 0, 0] = float("nan") if (epoch, step) == (1, 2) else 0
        yield batches
Loader.epoch = epoch
"""
    arguments = ("train", "ce", "--dataset", "digits", "--epochs", "3", "--set", "run.device=cpu")
    done = launcher.run(*arguments, "--out", tmp_path / "run", before=before)
    assert done.code == 7, done.err
    assert "is not finite" in done.err
    assert "bad_batch.txt" in done.err
    assert "Traceback" not in done.err
    again = launcher.run(*arguments, "--set", "run.on_nan=skip:3", "--out", tmp_path / "other", before=before)
    assert again.code == 0, again.err
    assert "left out, 1 of at most 3" in again.err
