"""The journal's other readers."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ltk.engine.journal import Journal


def test_runs_of_one_name_are_several_runs_of_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And one that is resumed is the same."""
    seen: list[dict[str, Any]] = []

    def init(**options: Any) -> SimpleNamespace:
        seen.append(options)
        return SimpleNamespace(log=lambda *arguments, **more: None)

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init))
    for folder in ("digits/ce-001", "cifar10/ce-001", "digits/ce-001"):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        Journal(tmp_path / folder, ("wandb",))
    first, second, again = seen
    assert (first["name"], second["name"]) == ("digits/ce-001", "cifar10/ce-001")
    assert first["id"] == again["id"] != second["id"]
