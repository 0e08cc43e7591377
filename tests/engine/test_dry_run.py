"""``--dry-run``: time and memory from the first steps of the run, on this machine's images or on made-up ones."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from benchmarks._memory import measure_peak
from benchmarks._pil import MEAN
from benchmarks._sides import SIZE, LtkSide, Task
from ltk.cli import app
from ltk.data.image import ImageSpec
from ltk.engine.build import build, build_method, plan_data, resolve_machine
from ltk.engine.dry_run import estimate
from ltk.engine.rehearsal import STEPS, Rehearsal, rehearse
from ltk.errors import DataError, UsageError
from ltk.resolve import Resolved, resolve_config

SMALL = {"model.backbone": "cifar_resnet8", "model.width": 4, "run.device": "cpu", "run.threads": 1}


def resolve(method: str = "ce", dataset: str = "digits", **options: Any) -> Resolved:
    keys = {name.replace("__", "."): value for name, value in options.items()}
    return resolve_config(method, dataset=dataset, options=SMALL | keys)


def test_images_that_are_here_are_read_and_steps_of_the_whole_batch_timed() -> None:
    figures = estimate(resolve().config).figures
    assert figures["measured"] == f"{STEPS} steps of 64 images on cpu, fp32, 1 thread"
    assert "images/s, once: " in figures["reading"]
    assert figures["steps"] == "60 epochs x 6 = 360"
    assert "evaluation" in figures["time per epoch"]


def test_steps_are_those_of_the_loader() -> None:
    for sampler in ("uniform", "class-aware"):
        config = resolve("bagmar", optim__drop_last=True, method__sampler=sampler).config
        built = build(plan_data(config))
        steps = built.loader.steps
        assert steps == 342 // 64
        assert estimate(config, seconds=0.1).figures["steps"] == f"60 epochs x {steps} = {60 * steps}"
    left_out = resolve("ce", optim__batch_size=11).config
    assert estimate(left_out, seconds=0.1).figures["steps"].startswith("60 epochs x 31")


def test_images_that_are_not_here_are_made_up(tmp_path: Any) -> None:
    config = resolve("paco", "imagenet-lt", data__root=tmp_path, data__image_size=28).config
    figures = estimate(config, seconds=0.5).figures
    assert "made up in the right shape: the data set is not here" in figures["measured"]
    assert figures["reading"] == "not measured: there are no images"
    assert figures["training images"] == "115,846"
    assert figures["largest / smallest class"] == "1280 / 5"


def test_images_of_the_users_own_must_be_here(tmp_path: Any) -> None:
    (tmp_path / "train").mkdir()
    with pytest.raises(DataError):
        estimate(resolve_config("ce", dataset=str(tmp_path), options=SMALL).config, seconds=0.1)


def test_a_batch_is_shared_out() -> None:
    figures = estimate(resolve().config, devices=2, seconds=20).figures
    assert "of 32 images" in figures["measured"]
    assert figures["views per step"] == "1 x 64, over 2 devices"
    with pytest.raises(UsageError, match="among 3 processes"):
        estimate(resolve().config, devices=3)


def rehearse_task(method: str, seconds: float) -> tuple[Rehearsal, LtkSide]:
    task = Task(method, width=16, depth=8, batch=64, precision="fp32")
    config = task.config
    run = config.run.model_copy(update={"device": "cpu", "precision": "fp32", "threads": 1})
    image = ImageSpec(SIZE, SIZE, 3, MEAN, MEAN)
    config = resolve_machine(config.model_copy(update={"run": run}), image)
    network, _ = build_method(config, task.counts.tolist(), image)
    labels_N = np.repeat(np.arange(task.classes), task.counts)
    return rehearse(config, network, image, labels_N, share=64, seconds=seconds), LtkSide(task)


@pytest.mark.parametrize("method", ["ce", "glmc", "paco"])
def test_memory_is_about_what_a_step_takes(method: str) -> None:
    """Measured with the benchmark's counter: 0.72 (PaCo, whose keys leave no gradient) to 0.99 of it."""
    found, side = rehearse_task(method, seconds=0.1)
    assert 0.65 < found.memory / measure_peak(side.step, side.held) < 1.1


def test_a_step_too_long_for_the_time_is_scaled() -> None:
    """A part of the batch is timed; the figure is that of the whole one."""
    quick, _ = rehearse_task("ce", seconds=0.0)
    assert quick.images < 64
    assert quick.steps == 1
    whole, _ = rehearse_task("ce", seconds=3)
    assert whole.images == 64
    assert 0.1 < quick.step_seconds / whole.step_seconds < 20, "other programs disturb it"


def test_images_that_wait_in_memory_wait_there_once_for_each_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """One process of a CPU run finds them in memory; two of them share it."""
    monkeypatch.setattr("ltk.data.banks.free_memory", lambda device: 342 * 8 * 8 * 4)  # of which 40 % may be taken
    config = resolve().config
    assert "once" in estimate(config, seconds=0.1).figures["reading"]
    assert "once" not in estimate(config, devices=2, seconds=0.1).figures["reading"]


def test_the_learning_rate_is_said() -> None:
    plain, larger = resolve(), resolve(optim__batch_size=128)
    linear = resolve(optim__batch_size=128, optim__lr_rule="linear")
    assert plain.describe_rate() == []
    assert "--lr-rule linear: 0.2" in larger.describe_rate()[0]
    assert larger.config.optim.scaled_lr == plain.config.optim.scaled_lr
    assert linear.describe_rate() == ["learning rate 0.2 = 0.1 x 128 / 64 (lr_rule linear)"]
    assert linear.config.optim.describe_rate() == "0.2 = 0.1 x 128 / 64 (lr_rule linear)"
    own = resolve_config("ce", dataset="digits", options=SMALL, overrides=["optim.lr_rule=linear", "optim.lr=0.05"])
    assert own.config.optim.reference_batch == 64


def test_it_is_printed_and_nothing_is_written(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["train", "ce", "--dataset", "digits", "--device", "cpu", "--dry-run", "--lr-rule", "linear", "--json"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    shown = json.loads(result.stdout)
    assert {"measured", "memory of training", "time per step", "time per epoch", "time of the run"} <= set(shown)
    assert shown["config"]["optim"]["reference_batch"] == 64
    assert list(tmp_path.iterdir()) == []
