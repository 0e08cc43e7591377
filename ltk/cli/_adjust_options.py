"""Options that choose a correction of the logits: shared by eval, export and predict."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ltk.cli._options import choice_option
from ltk.files import CHECKPOINTS, check_checkpoint

_PANEL = "Correction without retraining"

Adjust = Annotated[
    str,
    choice_option(
        "--adjust", "ltk.evaluation.choose:AdjustmentRequest", "none, la, tau-norm, pn, pn-inductive.", _PANEL
    ),
]
Tau = Annotated[float | None, typer.Option("--tau", help="Its strength (1).", rich_help_panel=_PANEL)]
Tune = Annotated[bool, typer.Option("--tune", help="Choose tau on the validation images.", rich_help_panel=_PANEL)]
Prior = Annotated[
    str,
    typer.Option(
        "--prior",
        help="Class shares in use: uniform, train, estimate, or a file (as the method left them).",
        rich_help_panel=_PANEL,
    ),
]
Cost = Annotated[
    Path | None,
    typer.Option("--cost", help="File of true,answer,cost lines (all errors alike).", rich_help_panel=_PANEL),
]
Temperature = Annotated[
    str | None, typer.Option("--temperature", help="A number, or val to fit it (1).", rich_help_panel=_PANEL)
]
Checkpoint = Annotated[
    str,
    typer.Option(
        "--checkpoint", help="last or best.", callback=check_checkpoint, autocompletion=lambda: list(CHECKPOINTS)
    ),
]
