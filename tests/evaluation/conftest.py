"""Synthetic logits and run directories."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ltk.evaluation.logits import SavedLogits, save_logits

CARD: dict[str, Any] = {
    "method": "ce",
    "dataset": "toy",
    "imb": 20.0,
    "backbone": "cifar_resnet8",
    "width": 16,
    "parameters": 75_002,
    "epochs": 60,
    "views": ["shift"],
    "init": "random",
    "prior": "none",
    "seed": 0,
    "selection": "last epoch",
    "best_checkpoint": "best epoch on test (oracle)",
    "transductive": False,
}


def create_saved(
    *,
    counts: tuple[int, ...] = (200, 60, 50, 10),
    per_class: int = 40,
    skill: float = 1.5,
    bias: float = 0.5,
    seed: int = 0,
    noise_seed: int = 1,
    **fields: Any,
) -> SavedLogits:
    """Return logits of a mediocre classifier that favours frequent classes.

    Args:
        counts: training images per class.
        per_class: test images per class.
        skill: how far the right class stands out.
        bias: how much of the log-count is added to each logit.
        seed: of what all models share (how hard each image is).
        noise_seed: of what is the model's own.
        **fields: others of SavedLogits.
    """
    classes = len(counts)
    target_N = np.repeat(np.arange(classes), per_class)
    hard_NK = np.random.default_rng(seed).normal(size=(len(target_N), classes))
    own_NK = np.random.default_rng(noise_seed).normal(size=(len(target_N), classes))
    logits_NK = hard_NK + 0.5 * own_NK + bias * np.log(counts) + skill * np.eye(classes)[target_N]
    return SavedLogits(
        logits_NK=logits_NK.astype(np.float32),
        target_N=target_N.astype(np.int64),
        index_N=np.arange(len(target_N)),
        class_names=tuple(f"class {k}" for k in range(classes)),
        class_counts=counts,
        **{"fingerprint": "f" * 64, "groups": (100, 20), **fields},
    )


CreateSaved = Callable[..., SavedLogits]
CreateRun = Callable[..., Path]


@pytest.fixture(scope="session")
def saved() -> SavedLogits:
    """Logits of a biased classifier on 160 balanced test images of four classes."""
    return create_saved()


@pytest.fixture(scope="session", name="create_saved")
def create_saved_fixture() -> CreateSaved:
    return create_saved


@pytest.fixture
def create_run(tmp_path: Path) -> CreateRun:
    """``create_run(name, saved, val=None, **card)``: a run directory with saved logits and no checkpoint."""

    def create(name: str, test: SavedLogits, val: SavedLogits | None = None, **card: Any) -> Path:
        folder = tmp_path / "runs" / "toy-imb20" / name
        (folder / "logits").mkdir(parents=True)
        (folder / "config.toml").write_text('preset = ""\n[data]\ndataset = "digits"\n')
        (folder / "card.json").write_text(json.dumps(CARD | card))
        records = [
            {"epoch": e, "loss": 2.0 / (e + 1), "test": {"top1": top1, "many": 0.9, "medium": 0.5, "few": None}}
            for e, top1 in enumerate((0.2, 0.7, 0.6))
        ]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records) + '{"epoch": 3, "lo')
        save_logits(test, folder / "logits" / "test.safetensors")
        if val is not None:
            save_logits(val, folder / "logits" / "val.safetensors")
        return folder

    return create
