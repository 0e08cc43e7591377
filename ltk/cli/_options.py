"""Options that several commands share."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, get_args

import typer


def complete_method(incomplete: str) -> list[str]:
    """Complete methods and presets."""
    from ltk.methods import METHODS
    from ltk.presets import list_presets

    return [name for name in (*METHODS, *(p.name for p in list_presets())) if name.startswith(incomplete)]


def complete_recipe(incomplete: str) -> list[str]:
    """Complete recipes of second stages."""
    from ltk.presets import list_second_stages

    return [name for name in list_second_stages() if name.startswith(incomplete)]


def complete_dataset(incomplete: str) -> list[str]:
    """Complete data sets."""
    from ltk.data.sources import SOURCES

    return [name for name in SOURCES if name.startswith(incomplete)]


def complete_run(incomplete: str) -> list[str]:
    """Complete runs under ``runs/``."""
    return [str(path.parent) for path in Path("runs").glob("*/*/config.toml") if str(path).startswith(incomplete)]


def complete_values(group: str, key: str) -> Callable[[str], list[str]]:
    """Return what completes the values of a setting that takes one of a few words.

    Args:
        group: of the setting, "module:Class"; imported when the shell asks.
        key: of the setting.
    """

    def complete(incomplete: str) -> list[str]:
        module, _, name = group.partition(":")
        annotation = getattr(import_module(module), name).model_fields[key].annotation
        return [value for value in get_args(annotation) if value.startswith(incomplete)]

    return complete


def choice_option(flag: str, group: str, text: str, panel: str) -> Any:
    """Return an option for a setting of the same name that takes one of a few words, which shells complete.

    Args:
        flag: of the option, "--imb-type".
        group: see ``complete_values``.
        text: its help.
        panel: heading of the help under which it stands.
    """
    completion = complete_values(group, flag.removeprefix("--").replace("-", "_"))
    return typer.Option(flag, help=text, rich_help_panel=panel, autocompletion=completion)


def check_device(name: str | None) -> str | None:
    """Return the name of a device when there can be one of that name.

    Raises:
        UsageError: there cannot.
    """
    from ltk.errors import UsageError
    from ltk.settings import DEVICES

    if name is not None and not re.fullmatch(DEVICES, name):
        raise UsageError(f"--device {name!r} is none of auto, cpu, cuda and cuda:N", "Example: --device cuda:0")
    return name


def find_device(name: str) -> str:
    """Return the device of a name; that the CPU is there needs no torch to be known.

    Raises:
        EnvironmentFault: it is not there.
    """
    if name == "cpu":
        return name
    from ltk.machine import choose_device

    return str(choose_device(name))


RunsDir = Annotated[Path, typer.Option("--runs", help="Folder of runs.", envvar="LTK_RUNS")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.", callback=check_device)]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print results alone.")]
Dataset = Annotated[
    str | None,
    typer.Option(
        "--dataset", "-d", help="Data set, or a folder of images (the preset's).", autocompletion=complete_dataset
    ),
]
Root = Annotated[Path | None, typer.Option("--root", help="Where the images are (LTK_DATA, else ~/.cache/ltk/data).")]
