"""What all commands have in common."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand

from ltk.cli._devices import is_follower

CONTEXT = {"help_option_names": ["-h", "--help"]}
_TRAINING = ("train", "finetune-classifier", "demo")  # what several processes do together; all else rank 0 does alone


class Commands(typer.Typer):
    """A group of commands that take ``-h``, and ``~`` for the home folder where the shell leaves it as it is.

    Shells expand it at the beginning of a word alone: neither in ``--runs=~/runs`` nor in a quoted variable.
    """

    def command(self, name: str | None = None, **options: Any) -> Callable[[Any], Any]:
        """Register a command; see ``typer.Typer.command``."""
        return super().command(name, cls=_HomeCommand, context_settings=CONTEXT, **options)


class _HomeCommand(TyperCommand):
    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        rest = super().parse_args(ctx, args)
        ctx.params = {name: _expand(value) for name, value in ctx.params.items()}
        return rest

    def invoke(self, ctx: Any) -> Any:
        """Run the command; of a file that ends too early click would say no more than "Aborted."."""
        if is_follower() and self.name not in _TRAINING:
            return None
        try:
            return super().invoke(ctx)
        except EOFError as error:
            raise RuntimeError(f"EOFError: {error}") from error


def _expand(value: Any) -> Any:
    if isinstance(value, str | Path) and str(value).startswith("~"):
        return type(value)(os.path.expanduser(value))  # noqa: PTH111 - a Path refuses an unknown user, and a name is no path
    if isinstance(value, list | tuple):
        return type(value)(_expand(each) for each in value)
    return value
