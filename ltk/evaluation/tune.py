"""Choosing the strength of a correction on a split, and the curve that shows the choice."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter, ValidationError

from ltk.errors import DataError
from ltk.evaluation.logits import SavedLogits
from ltk.evaluation.metrics import balanced_accuracy, class_totals, predict_classes
from ltk.evaluation.posthoc import Adjustment
from ltk.files import read_json, write_text

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
        checkpoint: whose logits they are, last or best.
    """

    adjust: str
    split: str
    values: tuple[float, ...]
    balanced: tuple[float, ...]
    chosen: float
    checkpoint: str = "last"

    def __post_init__(self) -> None:
        if len(self.values) != len(self.balanced) or self.chosen not in self.values:
            raise ValueError("a curve has a score for each value, and one of them is chosen")

    def write(self, folder: Path) -> None:
        """Store the curve as ``tuning-<adjust>-<split>.json``, that of the best checkpoint with ``-best`` behind."""
        which = "" if self.checkpoint == "last" else f"-{self.checkpoint}"
        path = folder / f"tuning-{self.adjust}-{self.split}{which}.json"
        write_text(path, json.dumps(asdict(self), indent=1) + "\n")


def read_curves(folder: Path, checkpoint: str = "last") -> list[TuningCurve]:
    """Return the curves of a checkpoint that are stored in a folder, by name.

    Raises:
        DataError: one of the files is damaged.
    """
    curves = [_read_curve(path) for path in sorted(folder.glob("tuning-*.json"))]
    return [curve for curve in curves if curve.checkpoint == checkpoint]


def _read_curve(path: Path) -> TuningCurve:
    try:
        return TypeAdapter(TuningCurve).validate_python(read_json(path))
    except (DataError, ValidationError) as error:
        raise DataError(f"{path} is damaged: it holds no tuning curve", "Delete it; --tune writes it again.") from error


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
    return TuningCurve(adjust, split, tuple(values), scores, values[int(np.argmax(scores))], saved.checkpoint)


def _balanced(saved: SavedLogits, adjustment: Adjustment) -> float:
    parts = [predict_classes(adjustment.scores(saved.logits_NK[rows])) for rows in saved.chunks()]
    hits_N = np.concatenate(parts) == saved.target_N
    return balanced_accuracy(*class_totals(hits_N, saved.target_N, saved.num_classes)) or 0.0
