"""The base class of everything that can be configured; imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

DEVICES = r"^(auto|cpu|cuda(:(0|[1-9][0-9]?))?|mps)$"  # what --device and run.device take


class Settings(BaseModel):
    """A frozen, keyword-only group of options: unknown keys, nan and infinity are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, validate_default=True)


def first_fault(error: ValidationError) -> str:
    """Return the first thing that is wrong, as "names.3: Input should be a valid string"."""
    fault = error.errors()[0]
    return ": ".join(filter(None, (".".join(map(str, fault["loc"])), fault["msg"])))


Group = TypeVar("Group", bound=Settings)


def resolve_paths(group: Group) -> Group:
    """Return a group with every path in it absolute, so that it means the same in any folder."""
    changed: dict[str, Any] = {}
    for key, value in group:
        if isinstance(value, Path):
            changed[key] = value.resolve()
        elif isinstance(value, Settings):
            changed[key] = resolve_paths(value)
    return group.model_copy(update=changed)


def find_differences(before: Settings, after: Settings) -> list[tuple[str, Any, Any]]:
    """Return the dotted keys in which two groups differ, with both values as JSON knows them."""
    old, new = _flatten(before.model_dump(mode="json")), _flatten(after.model_dump(mode="json"))
    return [(key, old.get(key), new.get(key)) for key in sorted({*old, *new}) if old.get(key) != new.get(key)]


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            result |= _flatten(value, f"{prefix}{key}.")
        else:
            result[prefix + key] = value
    return result
