"""A second stage beside the run it started from, on the same test images."""

from __future__ import annotations

from pathlib import Path

from ltk.evaluation.compare import Comparison, compare_entries
from ltk.evaluation.pipeline import Judge
from ltk.run_files import read_run_config


def compare_stages(folder: Path) -> Comparison | None:
    """Judge a second stage and the run it started from; None where that is gone.

    Args:
        folder: the run directory of the second stage.

    Raises:
        DataError: a checkpoint or the images cannot be read.
    """
    config = read_run_config(folder)
    parent, device = config.parent.path, config.run.device
    if parent is None or not parent.is_dir():
        return None
    before = Judge(checkpoint=config.parent.checkpoint, device=device).evaluate(parent).entry()
    after = Judge(device=device).evaluate(folder)
    unknown = before.card.get("epochs") is None  # a model file does not say under which rules it came about
    return compare_entries([before, after.entry()], after.groups, str(parent), same_run=unknown)
