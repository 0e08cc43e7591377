"""Files are whole or refused; a kill between any two system calls leaves a whole one."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from ltk.checkpoint import (
    Checkpoint,
    load_checkpoint,
    load_model,
    load_newest,
    read_tensors,
    save_checkpoint,
    save_model,
    write_tensors,
)
from ltk.engine.build import build_method, plan_data
from ltk.errors import DataError, EnvironmentFault
from ltk.resolve import resolve_config
from ltk.run_files import LAST, PREVIOUS

DAMAGES = 1000


def create_checkpoint(value: float) -> Checkpoint:
    tensors = {"model.w": torch.full((40, 5), value), "rng.cpu": torch.arange(30, dtype=torch.uint8)}
    return Checkpoint(tensors, {"position": {"epoch": int(value)}}, {"method": "ce"})


def test_round_trip_is_bit_for_bit(tmp_path: Path) -> None:
    tensors = {
        "half": torch.randn(3, 4).to(torch.bfloat16),
        "transposed": torch.randn(4, 6).t(),
        "channels_last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "empty": torch.zeros(0, 3),
        "scalar": torch.tensor(7),
        "nan": torch.tensor([float("nan"), float("inf")]),
    }
    tensors["alias"] = tensors["half"]
    write_tensors(tmp_path / "x", tensors, {"a": "1", "unicode": "é"})
    got, metadata = read_tensors(tmp_path / "x")
    assert metadata == {"a": "1", "unicode": "é"}
    assert got.keys() == tensors.keys()
    for name, value in tensors.items():
        assert torch.equal(got[name].nan_to_num(-1), value.nan_to_num(-1)), name


def test_every_damage_is_found(tmp_path: Path) -> None:
    path = tmp_path / "x"
    write_tensors(path, {"w": torch.randn(300)}, {"k": "v"})
    whole = path.read_bytes()
    chance = random.Random(0)
    for _ in range(DAMAGES):
        damaged = bytearray(whole)
        kind = chance.choice(["flip", "cut", "zero", "append"])
        place = chance.randrange(len(damaged))
        if kind == "flip":
            damaged[place] ^= 1 << chance.randrange(8)
        elif kind == "cut":
            del damaged[place:]
        elif kind == "append":
            damaged += chance.randbytes(1 + place % 9)
        else:
            damaged[place : place + 64] = bytes(len(damaged[place : place + 64]))
        if damaged == whole:
            continue
        path.write_bytes(damaged)
        with pytest.raises(DataError):
            read_tensors(path)


def test_the_two_newest_are_kept(tmp_path: Path) -> None:
    for epoch in range(4):
        save_checkpoint(tmp_path, create_checkpoint(epoch))
    assert load_checkpoint(tmp_path / LAST).state["position"]["epoch"] == 3
    assert load_checkpoint(tmp_path / PREVIOUS).state["position"]["epoch"] == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == [LAST, PREVIOUS]


def test_a_torn_checkpoint_is_passed_over_and_named(tmp_path: Path) -> None:
    for epoch in range(2):
        save_checkpoint(tmp_path, create_checkpoint(epoch))
    (tmp_path / LAST).write_bytes((tmp_path / LAST).read_bytes()[:-10])
    checkpoint, complaints = load_newest(tmp_path)
    assert checkpoint.state["position"]["epoch"] == 0
    assert len(complaints) == 1
    assert str(tmp_path / LAST) in complaints[0]
    (tmp_path / PREVIOUS).unlink()
    with pytest.raises(DataError, match="no usable checkpoint"):
        load_newest(tmp_path)


def test_a_kill_between_the_renames_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_checkpoint(tmp_path, create_checkpoint(0))
    original = Path.replace

    def die_at_last(self: Path, target: Path) -> Path:
        if Path(target).name == LAST:
            raise KeyboardInterrupt
        return original(self, target)

    monkeypatch.setattr(Path, "replace", die_at_last)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(tmp_path, create_checkpoint(1))
    monkeypatch.undo()
    checkpoint, _ = load_newest(tmp_path)
    assert checkpoint.state["position"]["epoch"] == 1


def test_disk_full_keeps_the_old_file_and_leaves_no_temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_checkpoint(tmp_path, create_checkpoint(0))

    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(EnvironmentFault, match="disk full") as fault:
        save_checkpoint(tmp_path, create_checkpoint(1))
    assert fault.value.exit_code == 6
    assert [path.name for path in tmp_path.iterdir()] == [LAST]
    assert load_newest(tmp_path)[0].state["position"]["epoch"] == 0


def test_a_model_file_rebuilds_its_network(tmp_path: Path) -> None:
    plan = plan_data(resolve_config("glmc", dataset="digits", options={"run.device": "cpu"}).config)
    method, description = build_method(plan.config, plan.manifest.counts, plan.image)
    save_model(tmp_path / "m.safetensors", method, description)
    x = torch.randn(2, plan.image.channels, plan.image.size, plan.image.size)
    loaded = load_model(tmp_path / "m.safetensors")
    assert not loaded.training
    assert torch.equal(loaded.predict(x), method.eval().predict(x))
    names = read_tensors(tmp_path / "m.safetensors")[0]
    assert not [name for name in names if name.startswith(("fc.", "projector.", "predictor."))]


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(b"<!DOCTYPE html>")
    for path in (tmp_path / "x.safetensors", tmp_path / "absent", tmp_path):
        with pytest.raises(DataError):
            load_model(path)
