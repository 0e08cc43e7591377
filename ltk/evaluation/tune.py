"""Choosing the strength of a correction on a split, and the curve that shows the choice."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ltk.evaluation.logits import SavedLogits
from ltk.evaluation.metrics import balanced_accuracy, class_totals, predict_classes
from ltk.evaluation.posthoc import Adjustment
from ltk.files import write_text

TAU_GRID = tuple(round(0.1 * i, 1) for i in range(31))


@dataclass(frozen=True, slots=True)
class TuningCurve:
    """How balanced accuracy depends on a knob.

    Attributes:
        adjust: which correction ("la", "tau-norm", "pn").
        split: the images it was measured on; "test" makes the choice an oracle.
        values: settings of the knob.
        balanced: balanced accuracy at each, a fraction.
        chosen: the setting with the highest, the smallest one among equals.
    """

    adjust: str
    split: str
    values: tuple[float, ...]
    balanced: tuple[float, ...]
    chosen: float

    def write(self, folder: Path) -> None:
        """Store the curve as ``tuning-<adjust>-<split>.json``."""
        write_text(folder / f"tuning-{self.adjust}-{self.split}.json", json.dumps(asdict(self), indent=1) + "\n")


def read_curves(folder: Path) -> list[TuningCurve]:
    """Return the curves stored in a folder, by name."""
    texts = [path.read_text(encoding="utf-8") for path in sorted(folder.glob("tuning-*.json"))]
    return [_from_json(json.loads(text)) for text in texts]


def _from_json(entry: dict[str, Any]) -> TuningCurve:
    return TuningCurve(**entry | {"values": tuple(entry["values"]), "balanced": tuple(entry["balanced"])})


def tune(
    saved: SavedLogits,
    build: Callable[[float], Adjustment],
    *,
    adjust: str,
    split: str,
    values: Sequence[float] = TAU_GRID,
) -> TuningCurve:
    """Measure balanced accuracy at each setting of a knob and choose the best.

    Args:
        saved: logits and labels of the split to choose on.
        build: the correction at a setting.
        adjust: name of the correction.
        split: name of the split.
        values: settings to try.
    """
    scores = tuple(_balanced(saved, build(value)) for value in values)
    return TuningCurve(adjust, split, tuple(values), scores, values[int(np.argmax(scores))])


def _balanced(saved: SavedLogits, adjustment: Adjustment) -> float:
    parts = [predict_classes(adjustment.scores(saved.logits_NK[rows])) for rows in saved.chunks()]
    hits_N = np.concatenate(parts) == saved.target_N
    return balanced_accuracy(*class_totals(hits_N, saved.target_N, saved.num_classes)) or 0.0
