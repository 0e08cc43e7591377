"""``ltk --version``."""

from __future__ import annotations

import platform
from importlib import metadata

import typer

import ltk
from ltk.cli import _console


def print_version(wanted: bool) -> None:
    """Print the versions that matter for a bug report, then exit."""
    if not wanted:
        return
    lines = [f"ltk {ltk.__version__}", f"python {platform.python_version()}"]
    lines += [f"{name} {_installed(name)}" for name in ("torch", "torchvision", "timm")]
    _console.print_text("\n".join([*lines, f"device {_device()}"]))
    raise typer.Exit


def _installed(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "missing"


def _device() -> str:
    import torch

    if torch.cuda.is_available():
        return f"cuda ({torch.cuda.get_device_name()}, {torch.cuda.device_count()} in all)"
    return f"cpu ({torch.get_num_threads()} threads)"
