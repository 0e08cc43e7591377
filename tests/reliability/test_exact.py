"""Every recipe, stopped again and again, ends with the bits of a run that was left in peace.

Each run is stopped within its first epoch, between two epochs, and within its last one, when a deferred re-weighting
has begun and the queues of the contrastive methods have wrapped around. Images from the disk are in
``test_invariance.py``, runs that are killed in ``test_kill.py``.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch

from ltk.checkpoint import load_checkpoint
from ltk.config import RunConfig
from ltk.engine.fit import fit, resume
from ltk.engine.stage_two import StageTwoRequest, resolve_stage_two
from ltk.errors import StoppedError
from ltk.methods.baselines import deferred_weights
from ltk.resolve import resolve_config
from ltk.run_files import LAST
from ltk.types import Progress
from tests.reliability.processes import ROOT
from tests.test_resume import Interrupter, assert_same_end

NO_TRAINING = {"stage2-tau-norm"}
RECIPES = sorted({path.parent.name for path in (ROOT / "presets").glob("*/digits.toml")} - NO_TRAINING)
SECOND_STAGES = [name for name in RECIPES if name.startswith("stage2-")]
EPOCHS = 4
STOPS = ((0, 2), (2, None), (3, 4))
FILES = ("metrics.jsonl", "card.json", "model.safetensors", "checkpoints/best.safetensors", "logits/test.safetensors")


@pytest.fixture(scope="module")
def parents(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs that a second stage can start from."""
    folder = tmp_path_factory.mktemp("parents")
    for method in ("ce", "gcl"):
        fit(create_config(method, {"optim.epochs": 1}), out=folder / method)
    return {method: folder / method for method in ("ce", "gcl")}


def create_config(recipe: str, changes: dict[str, object]) -> RunConfig:
    options = {"optim.epochs": EPOCHS, "run.device": "cpu", "run.precision": "fp32", "run.threads": 1} | changes
    return resolve_config(recipe, dataset="digits", options=options, overrides=("model.width=4",)).config


def create_second_stage(recipe: str, parents: dict[str, Path]) -> RunConfig:
    parent = parents.get(recipe.removeprefix("stage2-"), parents["ce"])
    options = {"optim.epochs": EPOCHS, "run.device": "cpu"}
    return resolve_stage_two(StageTwoRequest(parent, recipe.removeprefix("stage2-"), "last", options, [])).config


def stop_again_and_again(config: RunConfig, folder: Path) -> int:
    """Let a run end in as many parts as it takes; returns how often it was stopped."""
    stopped = 0
    for place in (*STOPS, None):
        reporter = Interrupter(*place) if place else None
        try:
            resume(folder, reporter=reporter) if stopped else fit(config, out=folder, reporter=reporter)
        except StoppedError:
            stopped += 1
    return stopped


def digests(folder: Path) -> dict[str, str]:
    """sha256 of every file that a run in peace and one that was stopped share."""
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in FILES}


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_run_in_parts_is_the_whole_run(recipe: str, parents: dict[str, Path], tmp_path: Path) -> None:
    is_second = recipe in SECOND_STAGES
    config = create_second_stage(recipe, parents) if is_second else create_config(recipe, {})
    fit(config, out=tmp_path / "whole")
    assert stop_again_and_again(config, tmp_path / "parts") == len(STOPS)
    assert_same_end(tmp_path / "whole", tmp_path / "parts")
    assert digests(tmp_path / "whole") == digests(tmp_path / "parts")


def test_the_stops_lie_where_they_are_meant_to(tmp_path: Path) -> None:
    """At the last one the queue of PaCo has wrapped around, and LDAM-DRW has begun to weigh its classes."""
    config = create_config("paco", {})
    with pytest.raises(StoppedError):
        fit(config, out=tmp_path / "paco", reporter=Interrupter(*STOPS[-1]))
    position = load_checkpoint(tmp_path / "paco" / "checkpoints" / LAST).state["position"]
    assert (position["epoch"], position["step"]) == STOPS[-1]
    assert position["update"] * config.optim.batch_size > 2 * config.method.options["queue_size"]
    for place, weighs in ((STOPS[1], False), (STOPS[2], True)):
        epoch = Progress(torch.tensor(float(place[0])), EPOCHS, torch.zeros((), dtype=torch.int64))
        assert bool((deferred_weights(torch.zeros(3), epoch) == 0).all()) == weighs
