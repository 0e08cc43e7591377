"""Who is told how training goes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from ltk.engine.build import Built


class Reporter(Protocol):
    """Told how training goes; the command line draws it."""

    def start(self, built: Built, folder: Path, epoch: int) -> None:
        """Training begins at ``epoch``."""

    def step(self, epoch: int, done: int, steps: int, images: int) -> None:
        """``done`` of ``steps`` steps of an epoch are done; the last one had ``images`` images."""

    def epoch(self, record: Mapping[str, Any], times: Mapping[str, Any]) -> None:
        """An epoch is over."""

    def note(self, text: str) -> None:
        """Something the user asked to be told."""

    def warn(self, text: str) -> None:
        """Something the user should know."""


class SilentReporter:
    """Says nothing."""

    def start(self, built: Built, folder: Path, epoch: int) -> None:
        """Say nothing."""

    def step(self, epoch: int, done: int, steps: int, images: int) -> None:
        """Say nothing."""

    def epoch(self, record: Mapping[str, Any], times: Mapping[str, Any]) -> None:
        """Say nothing."""

    def note(self, text: str) -> None:
        """Say nothing."""

    def warn(self, text: str) -> None:
        """Say nothing."""
