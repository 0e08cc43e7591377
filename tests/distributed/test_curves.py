"""Two and four processes train what one trains: the same loss curve, one set of weights, every test image once."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from ltk import draws
from ltk.checkpoint import load_checkpoint
from ltk.engine.fit import fit, resume
from ltk.run_files import LAST
from tests.distributed.jobs import free_port
from tests.test_resume import assert_same_end

ROOT = Path(__file__).parents[2]
WORKER = Path(__file__).with_name("worker.py")
TOLERANCE = 1e-5  # relative, of an epoch's mean loss: sums are rounded in another order (measured: below 2e-6)


def _load_worker() -> Any:
    spec = importlib.util.spec_from_file_location("distributed_worker", WORKER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


worker = _load_worker()


Results = list[dict[str, Any]]


def train_together(folder: Path, world: int, *cases: str) -> Results:
    """Train cases, or all of them, in processes that stay together; return what each one says."""
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, str(WORKER), str(folder), str(world), *cases],
        env={**os.environ, **common, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(world)]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Results]:
    """Every case, trained by two processes."""
    folder = tmp_path_factory.mktemp("pair")
    return folder, train_together(folder, 2)


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """The cases whose curve does not depend on how a batch is shared out, trained by four processes."""
    return train_together(tmp_path_factory.mktemp("four"), 4, *worker.SAME)


def losses(records: list[Mapping[str, Any]]) -> list[float]:
    return [record["loss"] for record in records]


@pytest.mark.parametrize("name", worker.SAME)
def test_two_and_four_processes_have_the_curve_of_one(
    name: str, pair: tuple[Path, Results], four: Results, tmp_path: Path
) -> None:
    """PaCo alone on one device splits the batch in parts, as several devices do."""
    alone: list[Mapping[str, Any]] = []
    for world, together in ((2, pair[1][0][name]["records"]), (4, four[0][name]["records"])):
        method = worker.SAME[name] | ({"virtual_gpus": world} if name == "paco" else {})
        if not alone or name == "paco":
            alone = fit(worker.create_case(method), out=tmp_path / f"{name}-{world}").records
        assert losses(together) == pytest.approx(losses(alone), rel=TOLERANCE)
        assert together[-1]["train_top1"] == pytest.approx(alone[-1]["train_top1"], abs=0.01)
        if name != "paco":  # whose evaluation uses running statistics, which are those of one device
            assert together[-1]["test"]["top1"] == pytest.approx(alone[-1]["test"]["top1"], abs=0.01)


@pytest.mark.parametrize("name", worker.SAME)
def test_all_four_ranks_agree(name: str, four: Results) -> None:
    assert all(results[name] == four[0][name] for results in four)
    assert four[0][name]["are_equal"]
    assert four[0][name]["evaluated"] == 500


def test_a_second_stage_has_the_curve_of_one(pair: tuple[Path, Results], tmp_path: Path) -> None:
    alone = fit(worker.create_stage_two(pair[0] / "ce"), out=tmp_path / "run").records
    together = pair[1][0]["crt"]["records"]
    assert losses(together) == pytest.approx(losses(alone), rel=TOLERANCE)
    assert together[-1]["test"]["top1"] == pytest.approx(alone[-1]["test"]["top1"], abs=0.005)


def test_gcl_mixes_within_a_process(
    pair: tuple[Path, list[dict[str, Any]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One process whose images find their partners within each half of the batch has the curve of two."""

    def halves(key: torch.Tensor, size: int, alpha: float) -> tuple[torch.Tensor, torch.Tensor]:
        weight, partner_B = draws.mixing(key, size // 2, alpha)
        return weight, torch.cat((partner_B, partner_B + size // 2))

    monkeypatch.setattr("ltk.methods.mixing.draws", SimpleNamespace(**vars(draws) | {"mixing": halves}))
    alone = fit(worker.create_case(worker.OTHER["gcl-mixup"]), out=tmp_path / "run").records
    assert losses(pair[1][0]["gcl-mixup"]["records"]) == pytest.approx(losses(alone), rel=TOLERANCE)


@pytest.mark.parametrize("name", [*worker.SAME, *worker.OTHER, "crt", "spoilt"])
def test_all_ranks_agree(name: str, pair: tuple[Path, list[dict[str, Any]]]) -> None:
    first, second = (results[name] for results in pair[1])
    assert first == second
    assert first["are_equal"]
    assert first["evaluated"] == 500
    assert len(first["records"]) == worker.EPOCHS


def test_a_loss_that_is_bad_on_one_rank_is_left_out_on_all(pair: tuple[Path, list[dict[str, Any]]]) -> None:
    folder, (first, _) = pair
    assert [record["skipped"] for record in first["spoilt"]["records"]] == [1, 1]
    assert len((folder / "spoilt" / "bad_batch.txt").read_text().splitlines()) == 64, "the images of both ranks"


def test_a_signal_to_one_rank_stops_all_and_one_process_goes_on(
    pair: tuple[Path, list[dict[str, Any]]], tmp_path: Path
) -> None:
    folder, results = pair
    assert [result["stopped"] for result in results] == [results[0]["stopped"]] * 2
    assert (results[0]["stopped"]["epoch"], results[0]["stopped"]["step"]) == (1, 3)
    resume(folder / "stopped")
    lines = (folder / "stopped" / "metrics.jsonl").read_text().splitlines()
    whole = fit(worker.create_case(worker.SAME["ce"]), out=tmp_path / "whole").records
    assert losses([json.loads(line) for line in lines]) == pytest.approx(losses(whole), rel=TOLERANCE)
    assert json.loads((folder / "stopped" / "card.json").read_text())["devices"] == 1


def test_each_rank_drops_out_by_itself_and_goes_on_where_it_stopped(pair: tuple[Path, Results]) -> None:
    folder, _ = pair
    assert_same_end(folder / "dropout", folder / "dropout-parts")
    states = load_checkpoint(folder / "dropout" / "checkpoints" / LAST).part("rng")
    assert states.keys() == {"cpu", "cpu.1"}
    assert not torch.equal(states["cpu"], states["cpu.1"])


def test_three_processes_go_on_where_they_stopped(tmp_path: Path) -> None:
    """Three numbers have more than one sum, by their order; and all processes take the threads of the first."""
    results = train_together(tmp_path, 3, worker.THREADS)
    assert [result[worker.THREADS]["threads"] for result in results] == [1, 1, 1]
    assert_same_end(tmp_path / worker.THREADS, tmp_path / f"{worker.THREADS}-parts")


def test_only_the_first_rank_wrote(pair: tuple[Path, list[dict[str, Any]]]) -> None:
    folder, (first, _) = pair
    lines = [json.loads(line) for line in (folder / "ce" / "metrics.jsonl").read_text().splitlines()]
    assert lines == first["ce"]["records"]
    assert json.loads((folder / "ce" / "card.json").read_text())["devices"] == 2
