"""Every tensor of the source and what became of it, and every tensor of the target and where it came from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from torch import Tensor

Fate = Literal["mapped", "kept aside", "ignored"]


@dataclass(frozen=True)
class Row:
    """The fate of one source tensor.

    Attributes:
        source: its path in the file.
        target: ltk's name; empty when it is ignored.
        shape: of the source.
        dtype: of the source.
        fate: mapped (inference needs it), kept aside (training state), or ignored.
        note: how it was changed, or why it was ignored.
    """

    source: str
    target: str
    shape: tuple[int, ...]
    dtype: str
    fate: Fate
    note: str = ""


def row_of(source: str, tensor: Tensor, target: str, fate: Fate, note: str = "") -> Row:
    """Return the row of a tensor."""
    return Row(source, target, tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."), fate, note)


@dataclass
class Account:
    """The whole balance.

    Attributes:
        rows: one per source tensor.
        tensors: what is written, by ltk's names.
        filled: target tensors that the source lacks and that have one possible value.
        random: target tensors that nothing filled.
    """

    rows: list[Row] = field(default_factory=list)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    filled: list[str] = field(default_factory=list)
    random: list[str] = field(default_factory=list)

    def counts(self) -> dict[str, int]:
        """Return how many source tensors met each fate, and how many target tensors have no source."""
        fates = Counter(row.fate for row in self.rows)
        return {"source": len(self.rows), **{fate: fates[fate] for fate in ("mapped", "kept aside", "ignored")}} | {
            "target": len(self.tensors), "filled": len(self.filled), "random": len(self.random),
        }  # fmt: skip

    def reasons(self) -> list[tuple[str, int, str]]:
        """Return the reasons for ignoring, with the number of tensors and an example."""
        ignored: dict[str, list[str]] = {}
        for row in self.rows:
            if row.fate == "ignored":
                ignored.setdefault(row.note, []).append(row.source)
        return [(reason, len(sources), sources[0]) for reason, sources in ignored.items()]

    def as_json(self) -> dict[str, Any]:
        """Return rows and counts as JSON values."""
        return {"counts": self.counts(), "rows": [asdict(row) for row in self.rows], "filled": self.filled} | {
            "random": self.random
        }


def ties(tensors: Iterable[tuple[str, Tensor]]) -> list[list[str]]:
    """Return groups of names that were one tensor in the file."""
    names: dict[int, list[str]] = {}
    for name, tensor in tensors:
        names.setdefault(id(tensor), []).append(name)
    return [group for group in names.values() if len(group) > 1]
