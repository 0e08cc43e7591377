"""Published figures from the headers of the presets, to stand beside measured ones."""

from __future__ import annotations

from dataclasses import dataclass

from ltk.errors import DataError
from ltk.presets import Preset, list_presets

_FIELDS = 5
_CONFIDENCE = {"V": "read in the original", "S": "second-hand", "U": "remembered, not checked"}


@dataclass(frozen=True, slots=True)
class PublishedFigure:
    """One published result.

    Attributes:
        top1: percent.
        name: of the method, as published.
        source: where it was read.
        confidence: "V" (read in the original), "S" (second-hand) or "U" (remembered, shown with a question mark).
        network: what it was measured with.
        preset: whose header it stands in.
    """

    top1: float
    name: str
    source: str
    confidence: str
    network: str
    preset: str

    @property
    def shown(self) -> str:
        """The figure; with a question mark when nobody could check it."""
        return f"{self.top1:.2f}" + ("?" if self.confidence == "U" else "")


def read_published(dataset: str, imb: float | None) -> list[PublishedFigure]:
    """Return the published figures of a data set at an imbalance, best first.

    Args:
        dataset: as in the configuration, such as "cifar100".
        imb: imbalance factor; None or 1 for the data as they are.

    Raises:
        DataError: a header line that does not have the five fields.
    """
    found: dict[tuple[object, ...], PublishedFigure] = {}
    for preset in (*list_presets(), *list_presets(stage_two=True)):
        if _is_about(preset, dataset, imb):
            for row in preset.published():
                figure = _parse(row, preset)
                found.setdefault((figure.top1, figure.name, figure.network), figure)
    return sorted(found.values(), key=lambda figure: -figure.top1)


def _is_about(preset: Preset, dataset: str, imb: float | None) -> bool:
    data = preset.read().get("data", {})
    return data.get("dataset") == dataset and float(data.get("imb") or 1) == float(imb or 1)


def _parse(row: list[str], preset: Preset) -> PublishedFigure:
    if len(row) != _FIELDS or row[3] not in _CONFIDENCE:
        raise DataError(
            f"{preset.path}: published line {' | '.join(row)!r}", "Expected: TOP1 | NAME | SOURCE | V, S or U | NETWORK"
        )
    top1, name, source, confidence, network = row
    return PublishedFigure(float(top1), name, source, confidence, network, preset.name)
