"""Who may import whom: arrows only downward (CONTRIBUTING.md); proved live by a planted violation."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from ltk.methods import METHODS

PACKAGE = Path(__file__).parents[1] / "ltk"
BASE = {"errors", "types", "draws", "numerics", "settings", "distributed", "machine"}
MAY_IMPORT = {
    "errors": set(),
    "types": set(),
    "draws": set(),
    "numerics": set(),
    "settings": set(),
    "distributed": {"errors"},
    "launch": {"errors"},
    "machine": {"errors", "settings", "launch"},
    "files": {"errors"},
    "data": BASE | {"data", "files"},
    "models": BASE | {"models"},
    "methods": BASE | {"models", "methods"},
    "config": {"errors", "settings", "methods"},
    "config_text": {"config", "errors", "files", "settings"},
    "presets": {"config", "config_text", "errors"},
    "derived": {"config"},
    "resolve": {"config", "config_text", "derived", "presets", "errors", "methods", "data", "settings"},
    "run_files": {"config", "config_text", "errors"},
    "description": BASE | {"methods", "models"},
    "checkpoint": BASE | {"methods", "files", "description", "run_files"},
    "evaluation": BASE
    | {"files", "methods", "models", "data", "config", "config_text", "checkpoint"}
    | {"description", "evaluation", "presets", "run_files"},
    "convert": BASE
    | {"files", "methods", "models", "data", "config", "config_text", "checkpoint"}
    | {"description", "convert"},
    "engine": BASE
    | {"files", "methods", "models", "data", "config", "config_text", "checkpoint"}
    | {"description", "evaluation", "engine", "derived", "resolve", "presets", "launch", "run_files"},
}
METHOD_FILES = {path.partition(":")[0].rpartition(".")[2] for path in METHODS.values()} | {"gcl"}


def imports(source: str) -> set[str]:
    """Return the ltk modules a source text imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.split(".")[0] == "ltk" and name != "ltk"}


def violations(path: Path, source: str) -> list[str]:
    """Return the imports of one file that its layer does not allow."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    layer = parts[0]
    if layer in ("cli", "__init__", "__main__"):
        return []
    bad = []
    for name in imports(source):
        target = name.split(".")[1]
        if target == "__version__":
            continue
        if target not in MAY_IMPORT[layer] and target != layer:
            bad.append(name)
        if layer == target == "methods" and name.split(".")[2] in METHOD_FILES - {parts[1]}:
            bad.append(name)
    return bad


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_downward(path: Path) -> None:
    assert violations(path, path.read_text()) == []


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("methods/gcl.py", "from ltk.methods.glmc import GLMC"),
        ("methods/gcl.py", "from ltk.engine.fit import fit"),
        ("data/splits.py", "import ltk.methods.base"),
        ("models/heads.py", "def f():\n    from ltk.data.splits import Manifest"),
        ("evaluation/metrics.py", "from ltk.engine import fit"),
    ],
)
def test_a_planted_violation_is_found(file: str, line: str) -> None:
    assert violations(PACKAGE / file, line)
