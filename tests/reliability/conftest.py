"""What the reliability tests share: ``ltk`` as real processes, started from one that has imported torch already."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))  # makes ``tests.reliability`` importable however pytest was started

from tests.reliability.processes import Launcher


@pytest.fixture(scope="session")
def launcher() -> Iterator[Launcher]:
    """``launcher.run("train", "ce")``: one command line in a process of its own."""
    with Launcher() as launcher:
        yield launcher
