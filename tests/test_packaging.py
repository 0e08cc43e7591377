"""The wheel carries presets and completions, and an installed copy finds them."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from ltk.presets import list_presets, presets_root

ROOT = Path(__file__).parents[1]
COMPLETIONS = (
    "share/bash-completion/completions/ltk",
    "share/zsh/site-functions/_ltk",
    "share/fish/vendor_completions.d/ltk.fish",
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    options = ["--quiet", "--no-deps", "--no-build-isolation", "-w", str(folder)]
    command = [sys.executable, "-m", "pip", "wheel", *options, str(ROOT)]
    subprocess.run(command, check=True, timeout=120)
    (path,) = folder.glob("*.whl")
    return path


def test_wheel_carries_everything(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    for preset in list_presets():
        assert f"ltk/_presets/{preset.name}.toml" in names
    assert [name for name in COMPLETIONS if not any(found.endswith(name) for found in names)] == []
    assert "ltk/py.typed" in names
    assert "ltk/data/digits.npz" in names


def test_installed_copy_lists_the_presets(wheel: Path, tmp_path: Path) -> None:
    options = ["--quiet", "--no-deps", "--target", str(tmp_path / "site")]
    install = [sys.executable, "-m", "pip", "install", *options, str(wheel)]
    subprocess.run(install, check=True, timeout=120)
    code = "import ltk.presets as p, ltk; print(ltk.__file__); print(*(x.name for x in p.list_presets()))"
    environment = {"PYTHONPATH": str(tmp_path / "site"), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    where, names = done.stdout.splitlines()
    assert where.startswith(str(tmp_path))
    assert names.split() == [preset.name for preset in list_presets()]


def test_the_source_tree_is_found_first() -> None:
    assert presets_root() == ROOT / "presets"
