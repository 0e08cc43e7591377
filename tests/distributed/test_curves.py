"""Two processes train what one trains: the same loss curve, one set of weights, every test image once."""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from ltk import draws
from ltk.engine.fit import fit, resume

ROOT = Path(__file__).parents[2]
WORKER = Path(__file__).with_name("worker.py")
TOLERANCE = 1e-5  # relative, of an epoch's mean loss: sums are rounded in another order (measured: below 5e-7)


def _load_worker() -> Any:
    spec = importlib.util.spec_from_file_location("distributed_worker", WORKER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


worker = _load_worker()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """Every case, trained by two processes that stay together."""
    folder = tmp_path_factory.mktemp("pair")
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, str(WORKER), str(folder)],
            env={**os.environ, **common, "PYTHONPATH": str(ROOT), "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        outputs = [process.communicate(timeout=200)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert [process.returncode for process in processes] == [0, 0], "\n".join(outputs)
    return folder, [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


def losses(records: list[Mapping[str, Any]]) -> list[float]:
    return [record["loss"] for record in records]


@pytest.mark.parametrize("name", worker.SAME)
def test_two_processes_have_the_curve_of_one(
    name: str, pair: tuple[Path, list[dict[str, Any]]], tmp_path: Path
) -> None:
    """PaCo alone on one device splits the batch in two, as two devices do."""
    method = worker.SAME[name] | ({"virtual_gpus": 2} if name == "paco" else {})
    alone = fit(worker.create_case(method), out=tmp_path / name).records
    together = pair[1][0][name]["records"]
    assert losses(together) == pytest.approx(losses(alone), rel=TOLERANCE)
    assert together[-1]["train_top1"] == pytest.approx(alone[-1]["train_top1"], abs=0.01)
    if name != "paco":  # whose evaluation uses running statistics, which are those of one device
        assert together[-1]["test"]["top1"] == pytest.approx(alone[-1]["test"]["top1"], abs=0.01)


def test_gcl_mixes_within_a_process(
    pair: tuple[Path, list[dict[str, Any]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One process whose images find their partners within each half of the batch has the curve of two."""
    permutation = draws.permutation

    def halves(key: torch.Tensor, size: int) -> torch.Tensor:
        partner_B = permutation(key, size // 2)
        return torch.cat((partner_B, partner_B + size // 2))

    monkeypatch.setattr("ltk.methods.gcl.draws", SimpleNamespace(**vars(draws) | {"permutation": halves}))
    alone = fit(worker.create_case(worker.OTHER["gcl-mixup"]), out=tmp_path / "run").records
    assert losses(pair[1][0]["gcl-mixup"]["records"]) == pytest.approx(losses(alone), rel=TOLERANCE)


@pytest.mark.parametrize("name", [*worker.SAME, *worker.OTHER, "spoilt"])
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


def test_only_the_first_rank_wrote(pair: tuple[Path, list[dict[str, Any]]]) -> None:
    folder, (first, _) = pair
    lines = [json.loads(line) for line in (folder / "ce" / "metrics.jsonl").read_text().splitlines()]
    assert lines == first["ce"]["records"]
    assert json.loads((folder / "ce" / "card.json").read_text())["devices"] == 2
