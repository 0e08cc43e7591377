"""How a configuration is read from TOML and the command line, overridden, checked, and written; imports no torch."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import ValidationError

from ltk.config import RunConfig
from ltk.errors import UsageError
from ltk.files import check_text, read_bytes
from ltk.settings import Settings


def parse_override(text: str) -> tuple[str, Any]:
    """Split ``section.key=value``; the value is read as TOML, else taken as a string.

    Raises:
        UsageError: no "=" or no section.
    """
    key, equals, value = text.partition("=")
    key = key.strip()
    if not equals or "." not in key or key.startswith(".") or key.endswith("."):
        raise UsageError(f"--set {text!r} is not section.key=value", "Example: --set optim.lr=0.05")
    try:
        return key, tomllib.loads(f"value = {value.strip()}")["value"]
    except tomllib.TOMLDecodeError:
        return key, value.strip()


def with_overrides(tree: Mapping[str, Any], overrides: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Return a copy of a nested mapping with dotted keys set; a later one wins."""
    result = {k: with_overrides(v, ()) if isinstance(v, Mapping) else v for k, v in tree.items()}
    for dotted, value in overrides:
        node = result
        *sections, key = dotted.split(".")
        for section in sections:
            node = node.setdefault(section, {})
            if not isinstance(node, dict):
                raise UsageError(f"{dotted}: {section} is a value, not a section")
        node[key] = value
    return result


def create_config(tree: Mapping[str, Any], where: str = "configuration") -> RunConfig:
    """Check a nested mapping and return the configuration.

    Args:
        tree: sections and values.
        where: named in the error (a file, or the command line).

    Raises:
        UsageError: unknown keys (with the nearest names), wrong types, values out of range; all faults at once.
    """
    try:
        return RunConfig.model_validate(dict(tree))
    except ValidationError as error:
        raise explain(error, RunConfig, where) from error


def explain(error: ValidationError, model: type[Settings], where: str, hint: str = "", flag: str = "") -> UsageError:
    """Turn pydantic's report into one error: a fault a line, each with its key, its value and what would do.

    Args:
        error: the report.
        model: the group of settings that was checked.
        where: named in the error.
        hint: where the user finds the keys (``ltk config``, of a method's own with its name).
        flag: what stands before a key where keys are options of the command line.
    """
    lines = [flag + _explain_fault(fault, model) for fault in error.errors()]
    hint = hint or f"See the keys, types and defaults: ltk config{'' if model is RunConfig else ' METHOD'}"
    return UsageError(f"{where}: " + "; ".join(lines), hint)


def _explain_fault(fault: Any, model: type[Settings]) -> str:
    path = [str(part) for part in fault["loc"]]
    key = ".".join(path) or "value"
    if fault["type"] != "extra_forbidden":
        found = "" if isinstance(fault["input"], Mapping) else f" (got {fault['input']!r})"
        return f"{key}: {fault['msg'].removeprefix('Value error, ')}{found}"[:300]
    known = _fields_at(model, path[:-1])
    near = difflib.get_close_matches(path[-1], known, n=2)
    if near:
        return f"{key}: unknown key, did you mean {' or '.join(near)}?"
    return f"{key}: unknown key; known: {', '.join(known)}"


def _fields_at(model: type[Settings], path: list[str]) -> list[str]:
    for part in path:
        annotation = model.model_fields[part].annotation if part in model.model_fields else None
        if not (isinstance(annotation, type) and issubclass(annotation, Settings)):
            return []
        model = annotation
    return list(model.model_fields)


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        UsageError: not readable, not UTF-8 (with or without byte order mark) or not TOML; the place is named.
    """
    try:
        return tomllib.loads(read_bytes(path).decode("utf-8-sig"))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 text (byte {error.start})", "Save it as UTF-8.") from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"{path} is not TOML: {error}") from error


def dump_config(config: RunConfig) -> str:
    """Write a configuration as TOML, every key, unset ones left out.

    Raises:
        UsageError: the name of a file or folder in it is not UTF-8.
    """
    text = tomli_w.dumps(config.model_dump(mode="json", exclude_none=True))
    for line in text.splitlines():
        check_text(line)
    return text
