"""What every --help owes its reader: examples that parse, a text for every option, and what happens without it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from ltk.cli import app

ROOT: Any = typer.main.get_command(app)
_ENDS_WITH_DEFAULT = re.compile(r"\([^()]+\)\.?$")


def walk(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if hasattr(command, "commands"):
        for name, child in command.commands.items():
            yield from walk(child, (*path, name))
    else:
        yield path, command


COMMANDS = dict(walk(ROOT))


def fault_of(option: Any) -> str | None:
    """What is wrong with an option's help: no text, or no word on what holds when it is left out."""
    text = getattr(option, "help", None)
    if not text:
        return "no help"
    if option.param_type_name == "argument" or option.is_flag or option.required:
        return None
    is_shown = option.default not in (None, "", [], ())  # typer writes [default: ...] itself
    return None if is_shown or _ENDS_WITH_DEFAULT.search(text) else f"no default named: {text}"


def examples(command: Any) -> list[str]:
    """The lines of a command's help that begin with ltk."""
    return [line.strip() for line in (command.help or "").splitlines() if line.strip().startswith("ltk ")]


def test_all_commands_are_looked_at() -> None:
    assert len(COMMANDS) >= 17
    assert ("data", "stats") in COMMANDS


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_option_is_explained_and_names_its_default(path: tuple[str, ...]) -> None:
    faults = {p.name: fault_of(p) for p in COMMANDS[path].params if p.name != "help"}
    assert {name: fault for name, fault in faults.items() if fault} == {}


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_example_parses(path: tuple[str, ...]) -> None:
    command = COMMANDS[path]
    own = [line for line in examples(command) if line.startswith(f"ltk {' '.join(path)}")]
    assert own, "no example"
    for line in own:
        words = shlex.split(line.partition(" >")[0])[1 + len(path) :]
        command.make_context(" ".join(path), words)  # a wrong option or type raises


def test_a_planted_fault_is_found() -> None:
    planted = typer.Typer()

    @planted.command()
    def command(
        good: str = typer.Option(None, help="Seed (0)."),
        shown: int = typer.Option(3, help="Number."),
        silent: str = typer.Option(None, help="Number."),
        bare: str = typer.Option(None),
    ) -> None: ...

    found = {p.name: fault_of(p) for p in typer.main.get_command(planted).params}
    assert found["good"] is None
    assert found["shown"] is None
    assert found["silent"] == "no default named: Number."
    assert found["bare"] == "no help"


def test_defaults_are_those_the_help_names() -> None:
    """The ones that stand in the code elsewhere, and could drift."""
    from ltk.config import RunConfig
    from ltk.data.tail_split import LEAST_PER_CLASS, TEST_SHARE

    config = RunConfig()
    help_of = {p.name: p.help for path in (("train",), ("data", "stats")) for p in COMMANDS[path].params}
    train = {p.name: p.help for p in COMMANDS[("train",)].params}
    assert f"({TEST_SHARE})" in help_of["test"]
    assert f"({LEAST_PER_CLASS})" in help_of["min_per_class"]
    assert f"({config.run.seed})" in train["seed"]
    assert f"({config.run.device})" in train["device"]
    assert f"({config.run.precision})" in train["precision"]
    assert f"({config.run.engine})" in train["engine"]


def test_help_is_printed_for_every_command() -> None:
    for path in COMMANDS:
        result = CliRunner().invoke(app, [*path, "-h"])
        assert result.exit_code == 0, path
