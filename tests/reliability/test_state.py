"""Everything a checkpoint holds matters: with any one item at its first value, a resumed run ends differently."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from ltk.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from ltk.config import RunConfig
from ltk.engine.fit import fit, resume
from ltk.errors import StoppedError
from ltk.resolve import resolve_config
from ltk.run_files import LAST, PREVIOUS
from tests.test_resume import Interrupter, assert_same_end

EPOCHS, STOP = 4, (2, 3)  # stopped in the third epoch, after its third step
RUNS: Mapping[str, tuple[str, Sequence[str]]] = {
    # Dropout in the backbone draws from torch's generator; the rate at which the third epoch begins destroys what the
    # first two learnt, so that the best epoch lies before the stop.
    "paco": (
        "paco",
        (
            "model.backbone=test_resnet",
            "model.options.drop_rate=0.2",
            "optim.schedule.kind=multistep",
            "optim.schedule.milestones=[2]",
            "optim.schedule.factors=[30.0]",
        ),
    ),
    "bagmar": ("bagmar", ("model.width=4", "optim.ema=0.9")),
    "glmc": ("glmc", ("model.width=4",)),
    # At this rate gradients overflow in half precision, and the scaler learns a smaller scale.
    "fp16": ("ce", ("model.width=4", "run.precision=fp16", "optim.lr=3")),
}


def create_config(run: str) -> RunConfig:
    method, changes = RUNS[run]
    options = {"optim.epochs": EPOCHS, "run.device": "cpu", "run.precision": "fp32", "run.threads": 1}
    config = resolve_config(method, dataset="digits", options=options, overrides=changes).config
    if config.model.backbone.startswith("cifar"):
        return config
    return config.model_copy(update={"model": config.model.model_copy(update={"width": None})})


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, Checkpoint, Checkpoint]]:
    """``stopped(run)``: a whole run, its checkpoint before the first update, and that of a stop in the middle."""
    known: dict[str, tuple[Path, Checkpoint, Checkpoint]] = {}

    def create(run: str) -> tuple[Path, Checkpoint, Checkpoint]:
        if run not in known:
            folder = tmp_path_factory.mktemp(run)
            fit(create_config(run), out=folder / "whole")
            for name, place in (("start", (0, 1)), ("middle", STOP)):
                with pytest.raises(StoppedError):
                    fit(create_config(run), out=folder / name, reporter=Interrupter(*place))
            known[run] = (
                folder,
                load_checkpoint(folder / "start" / "checkpoints" / PREVIOUS),
                load_checkpoint(folder / "middle" / "checkpoints" / LAST),
            )
        return known[run]

    return create


def tensors_like(*parts: str) -> Callable[[Checkpoint, Checkpoint], Checkpoint]:
    """Give the tensors whose names begin with ``parts`` their first values; meters have none before the start."""

    def leave_out(first: Checkpoint, now: Checkpoint) -> Checkpoint:
        chosen = [name for name in now.tensors if name.startswith(parts)]
        assert chosen, parts
        kept: dict[str, Tensor] = {name: value for name, value in now.tensors.items() if name not in chosen}
        kept |= {name: first.tensors[name] for name in chosen if name in first.tensors}
        return replace(now, tensors=kept)

    return leave_out


def batch_statistics(first: Checkpoint, now: Checkpoint) -> Checkpoint:
    names = tuple(name for name in now.tensors if name.startswith("model.backbone.") and ".running_" in name)
    return tensors_like(*names)(first, now)


def parameters(first: Checkpoint, now: Checkpoint) -> Checkpoint:
    names = tuple(name for name in now.tensors if name.startswith("model.backbone.") and name.endswith("weight"))
    return tensors_like(*names)(first, now)


def position_like(*keys: str) -> Callable[[Checkpoint, Checkpoint], Checkpoint]:
    """Give entries of the position their first values."""

    def leave_out(first: Checkpoint, now: Checkpoint) -> Checkpoint:
        position = now.state["position"] | {key: first.state["position"][key] for key in keys}
        assert position != now.state["position"]
        return replace(now, state=now.state | {"position": position})

    return leave_out


def scaler(first: Checkpoint, now: Checkpoint) -> Checkpoint:
    assert first.state["scaler"]["scale"] != now.state["scaler"]["scale"]
    return replace(now, state=now.state | {"scaler": first.state["scaler"]})


ITEMS: Mapping[str, tuple[str, Callable[[Checkpoint, Checkpoint], Checkpoint]]] = {
    "parameters": ("paco", parameters),
    "batch statistics": ("paco", batch_statistics),
    "queue": ("paco", tensors_like("model.queue")),
    "momentum encoder": ("paco", tensors_like("model.key_")),
    "running sums": ("bagmar", tensors_like("model.total_K", "model.theta_K")),
    "averaged weights": ("bagmar", tensors_like("ema.")),
    "optimiser": ("paco", tensors_like("optim.")),
    "meters": ("paco", tensors_like("meter.")),
    "generator": ("paco", tensors_like("rng.")),
    "epoch": ("paco", position_like("epoch")),
    "step": ("paco", position_like("step")),
    "update": ("glmc", position_like("update")),
    "best": ("paco", position_like("best", "best_epoch")),
    "scaler": ("fp16", scaler),
}


def resume_from(checkpoint: Checkpoint, whole: Path, folder: Path) -> None:
    """Make a run directory that stands at a checkpoint, and let it end."""
    (folder / "checkpoints").mkdir(parents=True)
    for name in ("config.toml", "split.json", "environment.json"):
        (folder / name).write_bytes((whole / name).read_bytes())
    lines = (whole / "metrics.jsonl").read_text().splitlines(keepends=True)
    (folder / "metrics.jsonl").write_text("".join(lines[: STOP[0]]))
    save_checkpoint(folder / "checkpoints", checkpoint)
    resume(folder)


def read_result(folder: Path) -> tuple[str, bytes]:
    """What a user gets of a run: its journal and its model, not the counters of its checkpoint."""
    return (folder / "metrics.jsonl").read_text(), (folder / "model.safetensors").read_bytes()


@pytest.mark.parametrize("run", RUNS)
def test_with_everything_the_end_is_the_same(stopped: Any, tmp_path: Path, run: str) -> None:
    folder, _, now = stopped(run)
    resume_from(now, folder / "whole", tmp_path / "run")
    assert_same_end(folder / "whole", tmp_path / "run")


@pytest.mark.parametrize("item", ITEMS)
def test_with_one_item_left_out_the_end_differs(stopped: Any, tmp_path: Path, item: str) -> None:
    run, leave_out = ITEMS[item]
    folder, first, now = stopped(run)
    resume_from(leave_out(first, now), folder / "whole", tmp_path / "run")
    assert read_result(folder / "whole") != read_result(tmp_path / "run")
