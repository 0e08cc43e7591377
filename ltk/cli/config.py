"""``ltk config``: every key, its default and its meaning; and the presets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from ltk.cli import _console
from ltk.cli._options import AsJson


def config(
    method: Annotated[str | None, typer.Argument(help="Also show this method's own keys.")] = None,
    presets: Annotated[bool, typer.Option("--presets", help="List the presets instead.")] = False,
    as_json: AsJson = False,
) -> None:
    """List the configuration keys with defaults and meaning, or the presets.

    Examples:
      ltk config
      ltk config glmc
      ltk config --presets
    """
    rows = list(_preset_rows()) if presets else list(_key_rows(method))
    columns = ("preset", "published", "row") if presets else ("key", "default", "meaning")
    if as_json:
        _console.print_json([dict(zip(columns, row, strict=True)) for row in rows])
        return
    _console.print_table("", columns, rows, left=(0, 1, 2))


def _preset_rows() -> Iterator[tuple[str, str, str]]:
    from ltk.presets import list_presets

    for preset in (*list_presets(), *list_presets(stage_two=True)):
        rows = preset.published()
        figure, row = (rows[0][0], rows[0][1]) if rows else ("-", "")
        yield preset.name, figure, row


def _key_rows(method: str | None) -> Iterator[tuple[str, Any, str]]:
    from ltk.config import RunConfig
    from ltk.methods import get_method_class

    yield from _rows_of(RunConfig, "")
    if method:
        yield from _rows_of(get_method_class(method).Options, "method.")


def _rows_of(model: Any, prefix: str) -> Iterator[tuple[str, Any, str]]:
    from ltk.settings import Settings

    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Settings):
            yield from _rows_of(field.annotation, f"{prefix}{name}.")
        else:
            default = field.get_default(call_default_factory=True)
            yield f"{prefix}{name}", "-" if default is None else str(default), field.description or ""
