"""What ``ltk train`` would do: where its settings come from, and ``--dry-run``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ltk.cli import _console

if TYPE_CHECKING:
    from ltk.resolve import Resolved


def describe_origin(resolved: Resolved) -> list[str]:
    """Say which preset a run starts from and what it changes."""
    lines = [*resolved.notes] or [f"preset {resolved.config.preset or 'none'}"]
    shown = [f"{key} = {new} (preset: {old})" for key, old, new in resolved.departures]
    return lines + [f"  {text}" for text in (*shown, *resolved.describe_rate())]


def show_plan(resolved: Resolved, devices: int, *, as_json: bool) -> None:
    """Print the configuration of a run, what it would warn of, and what it would take."""
    from ltk.config_text import dump_config
    from ltk.engine.dry_run import estimate

    found = estimate(resolved.config, devices)
    for line in found.notes:
        _console.warn(line)
    if as_json:
        config: dict[str, Any] = resolved.config.model_dump(mode="json")
        origin = {"departures": resolved.departures, "notes": resolved.notes, "warnings": found.notes}
        _console.print_json({"config": config, **origin, **found.figures})
        return
    for line in describe_origin(resolved):
        _console.print_text(line)
    _console.print_text("\n" + dump_config(resolved.config))
    _console.print_table("This run", ("what", "value"), list(found.figures.items()), left=(0, 1))
