"""Logits once per run and split; everything else is a function of them.

The names below are loaded when they are first used, so that the command line need not wait for them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ltk.evaluation.choose import AdjustmentRequest as AdjustmentRequest
    from ltk.evaluation.compare import compare_entries as compare_entries
    from ltk.evaluation.pipeline import EvaluatedRun as EvaluatedRun
    from ltk.evaluation.pipeline import Judge as Judge
    from ltk.evaluation.report import create_report as create_report

_HOMES = {
    "AdjustmentRequest": "choose",
    "EvaluatedRun": "pipeline",
    "Judge": "pipeline",
    "compare_entries": "compare",
    "create_report": "report",
}
__all__ = ["AdjustmentRequest", "EvaluatedRun", "Judge", "compare_entries", "create_report"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
