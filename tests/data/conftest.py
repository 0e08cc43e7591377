"""Tiny data sets on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

WriteImages = Callable[..., Path]


@pytest.fixture(autouse=True)
def _own_data_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the data root of whoever runs it."""
    monkeypatch.setenv("LTK_DATA", str(tmp_path / "data-root"))


@pytest.fixture
def write_images(tmp_path: Path) -> WriteImages:
    """``write_images(names, root, size)``: an image of its own at each relative path; returns the root."""

    def write(names: Iterable[str], root: Path = tmp_path / "images", size: int = 16) -> Path:
        generator = np.random.default_rng(0)
        for name in names:
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(generator.integers(0, 256, (size, size, 3), dtype=np.uint8)).save(path)
        return root

    return write
