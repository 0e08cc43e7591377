"""The files of a run directory: what they are called, and the configuration among them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ltk.config import RunConfig
from ltk.config_text import create_config, read_toml
from ltk.errors import DataError

CONFIG = "config.toml"
SPLIT = "split.json"
CARD = "card.json"
PARENT = "parent.json"
ENVIRONMENT = "environment.json"
METRICS, TIMES = "metrics.jsonl", "times.jsonl"
BAD_BATCH = "bad_batch.txt"
MODEL = "model.safetensors"
CHECKPOINT_FOLDER, LOGITS = "checkpoints", "logits"
LAST, PREVIOUS, BEST = "last.safetensors", "previous.safetensors", "best.safetensors"


def read_run_config(run: Path) -> RunConfig:
    """Return the configuration of a run.

    Raises:
        DataError: not a run directory.
    """
    return create_config(read_run_tree(run), str(run / CONFIG))


def read_run_tree(run: Path) -> dict[str, Any]:
    """Return the configuration of a run as it is written down, unchecked.

    Raises:
        DataError: not a run directory.
    """
    if not (run / CONFIG).is_file():
        raise DataError(f"{run} is not a run directory: it has no {CONFIG}", "Give a folder that `ltk train` wrote.")
    return read_toml(run / CONFIG)
