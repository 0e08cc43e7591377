"""What may change when a run goes on, and what changes with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from ltk.config import RunConfig
from ltk.engine.amend import amend_config, describe_amendments
from ltk.engine.fit import fit, resume
from ltk.engine.schedules import lr_factor
from ltk.errors import BusyError
from ltk.resolve import resolve_config
from ltk.run_files import read_run_config


def create_config(epochs: int, *overrides: str) -> RunConfig:
    options = {"optim.epochs": epochs, "run.device": "cpu", "run.precision": "fp32", "run.threads": 1}
    return resolve_config("ldam-drw/cifar10-imb100", dataset="digits", options=options, overrides=overrides).config


def test_more_epochs_move_the_milestones_as_in_a_new_run() -> None:
    longer = amend_config(create_config(100), [("optim.epochs", 200)])
    assert longer.optim.schedule.milestones == create_config(200).optim.schedule.milestones == (160, 180)
    for spelling in ("200", 200.0):
        assert amend_config(create_config(100), [("optim.epochs", spelling)]) == longer
    lines = describe_amendments(create_config(100), longer)
    assert any("the learning rate follows the longer schedule" in line for line in lines)
    assert any(line.startswith("optim.schedule.milestones = [160, 180]") for line in lines)
    own = amend_config(create_config(100), [("optim.epochs", 200), ("optim.schedule.milestones", [120, 180])])
    assert own.optim.schedule.milestones == (120, 180)


def test_a_schedule_moves_with_the_epochs_alone() -> None:
    with pytest.raises(BusyError, match=r"optim\.schedule\.milestones"):
        amend_config(create_config(10), [("optim.schedule.milestones", [2, 3])])
    with pytest.raises(BusyError, match=r"optim\.epochs = 5") as caught:
        amend_config(create_config(10), [("optim.epochs", 5)])
    assert "milestones" not in str(caught.value)


def test_the_added_epochs_are_those_of_the_longer_schedule(tmp_path: Path) -> None:
    fit(create_config(10, "model.width=4"), out=tmp_path / "run")
    config = read_run_config(tmp_path / "run")
    records = resume(tmp_path / "run", config=amend_config(config, [("optim.epochs", 20)])).records
    schedule = create_config(20).optim.schedule
    assert [record["lr"] for record in records] == pytest.approx(
        [config.optim.lr * lr_factor(schedule, epoch, 20) for epoch in range(10, 20)]
    )
