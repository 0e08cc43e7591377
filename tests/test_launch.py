"""What the environment says of a process, and what it cannot say."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from ltk.cli import app
from ltk.cli._devices import is_follower, is_worker
from ltk.config import RunSettings
from ltk.engine.elastic import count_restarts
from ltk.engine.parallel import process_group
from ltk.errors import EnvironmentFault
from ltk.launch import find_place
from ltk.machine import count_cores, host_memory


def set_place(monkeypatch: pytest.MonkeyPatch, rank: str | None, world: str | None) -> None:
    for name, value in (("RANK", rank), ("WORLD_SIZE", world)):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("rank", "world", "place"),
    [
        (None, None, (0, 1)),
        (None, "4", (0, 1)),
        ("", "4", (0, 1)),
        ("0", "", (0, 1)),
        ("1", "1", (0, 1)),
        ("0", "4", (0, 4)),
        ("3", "4", (3, 4)),
    ],
)
def test_a_place_among_processes(
    rank: str | None, world: str | None, place: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    set_place(monkeypatch, rank, world)
    assert find_place() == place
    assert (is_worker(), is_follower()) == (place[1] > 1, place[0] > 0)


@pytest.mark.parametrize(
    ("rank", "world", "named"),
    [("0", "abc", "WORLD_SIZE"), ("0", "0", "WORLD_SIZE"), ("x", "2", "RANK"), ("-1", "2", "RANK"), ("2", "2", "RANK")],
)
def test_a_place_that_cannot_be_is_told_where_processes_meet(
    rank: str, world: str, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not where the command line asks who speaks."""
    set_place(monkeypatch, rank, world)
    assert not is_worker()
    assert not is_follower()
    with pytest.raises(EnvironmentFault, match=f"{named} is") as refused, process_group(RunSettings(device="cpu")):
        pass
    assert named in refused.value.hint


@pytest.mark.parametrize("text", ["x", "-1", "1.5"])
def test_other_variables_that_are_no_numbers(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, read in (
        ("TORCHELASTIC_RESTART_COUNT", count_restarts),
        ("LOCAL_WORLD_SIZE", count_cores),
        ("LOCAL_WORLD_SIZE", host_memory),
    ):
        monkeypatch.setenv(name, text)
        with pytest.raises(EnvironmentFault, match=f"{name} is '{text}'"):
            read()
        monkeypatch.setenv(name, "")
        assert read() >= 0


def test_one_process_does_what_is_done_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """``torchrun -m ltk eval RUN`` prints one table, ``--dry-run`` one plan."""
    set_place(monkeypatch, "1", "2")
    commands = (["eval", "nothing"], ["report", "nothing"], ["export", "nothing"], ["data", "list"])
    for command in (*commands, ["train", "ce", "--dataset", "digits", "--dry-run"]):
        result = CliRunner().invoke(app, command)
        assert (result.exit_code, result.output) == (0, ""), command
    assert CliRunner().invoke(app, ["train", "no-such-method"]).exception is not None
    set_place(monkeypatch, "0", "2")
    assert CliRunner().invoke(app, ["eval", "nothing"]).exception is not None
