"""A finished run as an evaluation sees it: its card, its configuration, its course."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ltk.config_text import read_toml
from ltk.errors import DataError
from ltk.files import read_json, read_records


@dataclass(frozen=True, slots=True)
class RunInfo:
    """What a run directory says about itself.

    Attributes:
        path: the directory.
        card: the protocol card; empty while the run is not finished.
        config: the resolved configuration.
        records: one mapping per epoch.
    """

    path: Path
    card: Mapping[str, Any]
    config: Mapping[str, Any]
    records: tuple[Mapping[str, Any], ...]

    @property
    def name(self) -> str:
        """The last two parts of the path, such as "digits-imb50/ce-001"."""
        return "/".join(self.path.resolve().parts[-2:])

    @property
    def best_on_test(self) -> tuple[float, int] | None:
        """Highest test accuracy (a fraction) of any epoch and that epoch (from 1): an oracle."""
        tested = [(r["test"]["top1"], -r["epoch"]) for r in self.records if isinstance(r.get("test"), Mapping)]
        if not tested:
            return None
        top1, epoch = max(tested)
        return float(top1), 1 - int(epoch)


def read_run(path: Path) -> RunInfo:
    """Read a run directory.

    Raises:
        DataError: it is none.
    """
    if not (path / "config.toml").is_file():
        raise DataError(f"{path} is not a run directory: it has no config.toml", "Give a folder that ltk train wrote.")
    card = path / "card.json"
    content = read_json(card) if card.exists() else {}
    return RunInfo(path, content, read_toml(path / "config.toml"), tuple(read_records(path / "metrics.jsonl")))
