"""Which data sets are under the data root; imports no torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from ltk.data.catalogue import FACTS
from ltk.data.cifar import LAYOUTS
from ltk.data.prepare import plan_licensed


@dataclass(frozen=True)
class Presence:
    """A row of ``ltk data list``.

    Attributes:
        name: of the data set.
        title: what it is.
        classes: K.
        images: per split.
        state: "built in", "yes", "no" or "in part".
        missing: what is not there.
        get: how to get it; empty when it is there.
        licence: terms of use.
        home: where it is described.
    """

    name: str
    title: str
    classes: int
    images: dict[str, int]
    state: str
    missing: list[str]
    get: str
    licence: str
    home: str

    def as_dict(self) -> dict[str, object]:
        """Return the fields by name."""
        return asdict(self)


def list_presence(root: Path) -> list[Presence]:
    """Look for every named data set under ``root``."""
    return [_look_for(name, root) for name in FACTS]


def _look_for(name: str, root: Path) -> Presence:
    facts = FACTS[name]
    if facts.built_in:
        state, missing = "built in", list[str]()
    else:
        needed, missing = _find_missing(name, root)
        state = "yes" if not missing else "no" if len(missing) == needed else "in part"
    get = f"ltk data prepare {name}" if missing else ""
    return Presence(name, facts.title, facts.num_classes, facts.images, state, missing, get, facts.licence, facts.home)


def _find_missing(name: str, root: Path) -> tuple[int, list[str]]:
    """Return how many things a data set needs and which of them are not there."""
    if name in LAYOUTS:
        layout = LAYOUTS[name]
        paths = [f"{layout.folder}/{file}" for file in layout.files]
        return len(paths), [path for path in paths if not (root / path).is_file()]
    steps = plan_licensed(name, root)
    return len(steps), [step.what for step in steps if not step.present]
