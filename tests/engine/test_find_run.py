"""Runs by name: what is nearly one is suggested, and what holds some lists them."""

from __future__ import annotations

from pathlib import Path

import pytest

from ltk.engine.run_dir import find_run
from ltk.errors import DataError


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("ce-001", "ce-002", "glmc-001"):
        (Path("runs/digits-imb50") / name).mkdir(parents=True)
        (Path("runs/digits-imb50") / name / "config.toml").touch()
    return Path("runs")


@pytest.mark.parametrize("name", ["runs/digits-imb50/glmc-01", "digits-imb5/glmc-001", "glcm-001"])
def test_the_nearest_run_is_offered(name: str, runs: Path) -> None:
    with pytest.raises(DataError, match=f"no run '{name}'") as caught:
        find_run(name, runs)
    assert caught.value.hint == "Did you mean runs/digits-imb50/glmc-001?"


def test_what_resembles_no_run_gets_no_offer(runs: Path) -> None:
    with pytest.raises(DataError) as caught:
        find_run("photos", runs)
    assert caught.value.hint == "Give the path of a run directory."


@pytest.mark.parametrize("name", ["runs/digits-imb50", "runs"])
def test_a_folder_of_runs_lists_them(name: str, runs: Path) -> None:
    with pytest.raises(DataError, match=f"{name} is a folder of runs, not a run") as caught:
        find_run(name, runs)
    assert caught.value.hint == "Give one: " + ", ".join(
        f"runs/digits-imb50/{n}" for n in ("ce-001", "ce-002", "glmc-001")
    )


def test_a_run_is_found_as_before(runs: Path) -> None:
    assert find_run("runs/digits-imb50/ce-002", runs) == runs / "digits-imb50/ce-002"
    assert find_run("ce-002", runs) == runs / "digits-imb50/ce-002"
