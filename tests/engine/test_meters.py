"""What a method logs stands beside the run's own figures, never in their place."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from ltk.config import RunConfig
from ltk.engine.fit import fit
from ltk.engine.journal import OWN_NAMES
from ltk.engine.meters import Meters
from ltk.errors import UsageError
from ltk.methods.baselines import CrossEntropy
from ltk.resolve import resolve_config
from ltk.types import Batch, Progress, StepOutput


def create_config(*overrides: str) -> RunConfig:
    options = {"optim.epochs": 1, "run.device": "cpu", "run.precision": "fp32", "run.threads": 1}
    return resolve_config("ce", dataset="digits", options=options, overrides=("model.width=4", *overrides)).config


def log(name: str) -> StepOutput:
    return StepOutput(torch.tensor(2.0), torch.eye(4), {name: torch.tensor(0.5)})


def test_parts_of_the_loss_are_averaged() -> None:
    meters = Meters()
    meters.add(log("contrast"), torch.arange(4))
    assert meters.means() == {"loss": 2.0, "train_top1": 1.0, "contrast": 0.5}


@pytest.mark.parametrize("name", [*sorted(OWN_NAMES), "val/top1"])
def test_the_names_of_the_run_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match=f"the method logs {name}, "):
        Meters().add(log(name), torch.arange(4))


@pytest.mark.parametrize("held_out", ["data.val=1", "data.val=0"])
def test_they_are_all_that_a_line_of_the_journal_holds(tmp_path: Path, held_out: str) -> None:
    run = fit(create_config(held_out, "run.on_nan=skip:1"), out=tmp_path / "run").folder
    for name in ("metrics.jsonl", "times.jsonl"):
        assert set(json.loads((run / name).read_text())) <= OWN_NAMES


def test_a_run_ends_at_its_first_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = CrossEntropy.forward

    def with_logs(self: CrossEntropy, batches: Mapping[str, Batch], progress: Progress) -> StepOutput:
        output = forward(self, batches, progress)
        return StepOutput(output.loss, output.logits_BK, {"lr": output.loss.detach()})

    monkeypatch.setattr(CrossEntropy, "forward", with_logs)
    with pytest.raises(UsageError, match="the method logs lr"):
        fit(create_config(), out=tmp_path / "run")
    assert not (tmp_path / "run" / "metrics.jsonl").exists()
