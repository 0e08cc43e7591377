"""Presets: one TOML file per published result, found in the source tree or in the wheel.

The header of a preset is its contract: what it reproduces, what it costs, how to run it. Lines
``# published: 57.99 | GLMC updated | S001:14 | V | ResNet-32 (4x wide)`` give figure, row, source, confidence
(V verified, S second-hand, U unverified) and network.
"""

from __future__ import annotations

import importlib.resources
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ltk.config import RunConfig
from ltk.config_text import create_config, read_toml
from ltk.errors import UsageError, unknown_name

_STEM = re.compile(r"^(?P<dataset>[^_]+?)(-imb(?P<imb>[0-9.]+))?(_(?P<variant>.+))?$")
_SMALL = ("cifar10", "cifar100")
_LARGE = "imagenet-lt"
STAGE_TWO = "stage2-"


def presets_root() -> Path:
    """Return the folder of presets: the source tree's first, then the one installed with the package."""
    tree = Path(__file__).resolve().parents[1] / "presets"
    if tree.is_dir() and (tree.parent / "pyproject.toml").is_file():
        return tree
    return Path(str(importlib.resources.files("ltk") / "_presets"))


@dataclass(frozen=True)
class Preset:
    """One preset file.

    Attributes:
        name: "<recipe>/<data set>[-imb<N>][_<variant>]"; the recipe is a method, or a method with options (ldam-drw).
        path: the file.
    """

    name: str
    path: Path

    @property
    def recipe(self) -> str:
        """The folder."""
        return self.name.partition("/")[0]

    @property
    def dataset(self) -> str:
        """The data set, without imbalance factor and variant."""
        return self._parts["dataset"]

    @property
    def imb(self) -> float | None:
        """The imbalance factor in the name."""
        return float(self._parts["imb"]) if self._parts["imb"] else None

    @property
    def variant(self) -> str:
        """Another network or setting than the one taken by default; "" for the default."""
        return self._parts["variant"] or ""

    @property
    def _parts(self) -> re.Match[str]:
        match = _STEM.match(self.name.partition("/")[2])
        if match is None:
            raise UsageError(f"preset {self.name!r} is not named <recipe>/<data set>[-imb<N>][_<variant>]")
        return match

    def read(self) -> dict[str, Any]:
        """Return the sections of the file."""
        return read_toml(self.path)

    def load(self) -> RunConfig:
        """Return the configuration, checked."""
        return create_config(self.read() | {"preset": self.name}, str(self.path))

    def header(self) -> list[str]:
        """Return the comment lines at the top, their "# " taken off."""
        lines = []
        for line in self.path.read_text(encoding="utf-8").splitlines():
            if not line.startswith("#"):
                break
            lines.append(line.removeprefix("#").strip())
        return lines

    def published(self) -> list[list[str]]:
        """Return the published rows: figure, row, source, confidence, network."""
        rows = [line.removeprefix("published:") for line in self.header() if line.startswith("published:")]
        return [[cell.strip() for cell in row.split("|")] for row in rows]


def list_presets(*, stage_two: bool = False) -> list[Preset]:
    """Return the presets of whole trainings by name, or those of second stages, in folders ``stage2-<recipe>``."""
    files = sorted(presets_root().glob("*/*.toml"))
    found = [Preset(f"{path.parent.name}/{path.stem}", path) for path in files]
    return [preset for preset in found if preset.recipe.startswith(STAGE_TWO) == stage_two]


@dataclass(frozen=True)
class Choice:
    """The preset a run starts from.

    Attributes:
        preset: the file.
        exact: it is the published recipe of this method, data set and imbalance.
        note: what the user should know when it is not.
    """

    preset: Preset
    exact: bool
    note: str = ""


def list_second_stages() -> list[str]:
    """Return the recipes of ``ltk finetune-classifier``, by name."""
    return sorted({preset.recipe.removeprefix(STAGE_TWO) for preset in list_presets(stage_two=True)})


def choose_preset(method: str, dataset: str, imb: float | None, image_size: int | None = None) -> Choice:
    """Find the preset of a method for a data set, or the nearest one to derive from.

    Args:
        method: a recipe: a method, a method with options, or a second stage ("stage2-crt").
        dataset: the data set's name.
        imb: imbalance factor, if one is asked for.
        image_size: side of the images in pixels, when known.

    Raises:
        UsageError: the method has no preset at all.
    """
    known = list_presets(stage_two=method.startswith(STAGE_TWO))
    presets = [preset for preset in known if preset.recipe == method and not preset.variant]
    if not presets:
        raise unknown_name("method or preset", method, {preset.recipe for preset in known})
    same = [preset for preset in presets if preset.dataset == dataset]
    for preset in same:
        if preset.imb == imb or (imb is None and len(same) == 1):
            return Choice(preset, True)
    if imb is None and same:
        preset = min(same, key=lambda p: abs((p.imb or 0) - 100))
        return Choice(preset, True)
    nearest = min(same or presets, key=lambda preset: _distance(preset, imb, image_size))
    missing = f"{method} on {dataset}" + (f" at imbalance {imb:g}" if imb else "")
    return Choice(nearest, False, f"no published recipe for {missing}: derived from the preset {nearest.name}")


def _distance(preset: Preset, imb: float | None, image_size: int | None) -> tuple[float, float]:
    size = image_size or 32
    kind = 0 if preset.dataset == _LARGE and size > 64 else 0 if preset.dataset in _SMALL and 16 < size <= 64 else 1
    kind = 0 if preset.dataset == "digits" and size <= 16 else kind
    return kind, abs(math.log((preset.imb or 100) / (imb or 100)))
