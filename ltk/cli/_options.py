"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

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


RunsDir = Annotated[Path, typer.Option("--runs", help="Folder of runs.", envvar="LTK_RUNS")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:N or mps.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print results alone.")]
Dataset = Annotated[
    str | None,
    typer.Option(
        "--dataset", "-d", help="Data set, or a folder of images (the preset's).", autocompletion=complete_dataset
    ),
]
Root = Annotated[Path | None, typer.Option("--root", help="Where the images are (LTK_DATA, else ~/.cache/ltk/data).")]
