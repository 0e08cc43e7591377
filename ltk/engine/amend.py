"""What may change when a run is continued: where and how long it runs, never what it learns from which images."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ltk.config import RunConfig
from ltk.config_text import create_config, with_overrides
from ltk.derived import scale_schedule
from ltk.errors import BusyError
from ltk.settings import find_differences, resolve_paths

_FILES = tuple(f"data.source.{key}" for key in ("csv", "train_list", "val_list", "test_list"))
_FREE = ("run.", "data.root", *_FILES, "optim.epochs")  # the manifest tells whether they are the same images
_MOVED = ("optim.schedule.milestones", "optim.schedule.warmup_epochs")  # with the number of epochs
_FIXED = ("run.seed", "run.sync_bn")
_INEXACT = {
    "run.device": "sums are rounded differently there",
    "run.precision": "sums are rounded differently",
    "run.engine": "sums are rounded differently",
    "run.threads": "sums are rounded differently",
    "optim.epochs": "the learning rate follows the longer schedule from here on",
}


def amend_config(config: RunConfig, settings: Iterable[tuple[str, Any]]) -> RunConfig:
    """Return the configuration with which a run is to be continued; more epochs move its schedule's milestones.

    Args:
        config: of the run.
        settings: dotted keys and values.

    Raises:
        UsageError: unknown keys, values out of range.
        BusyError: a setting that may not change.
    """
    chosen = list(settings)
    moved, _ = scale_schedule(config.optim, dict(chosen))
    root = dict(chosen).get("data.root")
    data = config.data.move(Path(root)) if isinstance(root, str | Path) else config.data
    tree = config.model_copy(update={"data": data}).model_dump(mode="json", exclude_none=True)
    amended = create_config(with_overrides(tree, [*moved, *chosen]), "options")
    check_amended(config, amended)
    return amended


def check_amended(before: RunConfig, after: RunConfig) -> None:
    """Check that a run may be continued with another configuration.

    Raises:
        BusyError: a difference would make another run of it (another model, other images, another seed, fewer
            epochs); all of them are named.
    """
    moved = _MOVED if before.optim.epochs != after.optim.epochs else ()
    differing = [each for each in _compare(before, after) if each[0] not in moved]
    refused = [_show(*each) for each in differing if _makes_another_run(*each)]
    if refused:
        raise BusyError(
            f"a run is continued as it began, but this differs: {'; '.join(refused)}",
            "Leave them out, or start a new run. "
            f"What may change: run.* except {' and '.join(_FIXED)}, data.root, the files of data.source, more"
            " optim.epochs.",
        )


def describe_amendments(before: RunConfig, after: RunConfig) -> list[str]:
    """Say what differs, and where the continued run will not be the uninterrupted one bit for bit."""
    lines = []
    for key, old, new in _compare(before, after):
        reason = _INEXACT.get(key)
        lines.append(_show(key, old, new) + (f": no longer exact to the last bit, {reason}" if reason else ""))
    return lines


def _compare(before: RunConfig, after: RunConfig) -> list[tuple[str, Any, Any]]:
    return find_differences(resolve_paths(before), resolve_paths(after))


def _show(key: str, old: Any, new: Any) -> str:
    return f"{key} = {new} (the run: {old})"


def _makes_another_run(key: str, old: Any, new: Any) -> bool:
    if key == "optim.epochs":
        return bool(new < old)
    return key in _FIXED or not key.startswith(_FREE)
