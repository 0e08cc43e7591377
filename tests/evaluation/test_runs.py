"""The small files of a run whose JSON is right and whose values are not: refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ltk.errors import DataError
from ltk.evaluation.logits import SavedLogits
from ltk.evaluation.runs import read_run


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("parent", "x"),
        ("method", None),
        ("prior", ["none"]),
        ("imb", "50"),
        ("seed", {}),
        ("epochs", "2"),
        ("model_sha256", 7),
        ("options", []),
        ("tuned", 3),
        ("unfinished", [1]),
        ("stage_one", ["ce"]),
        ("stage_one", {"method": "ce", "stage_one": []}),
    ],
)
def test_a_card_with_other_values_is_damaged(
    create_run: Callable[..., Path], saved: SavedLogits, key: str, value: object
) -> None:
    run = create_run("ce-001", saved)
    assert read_run(run).card["method"] == "ce"
    card = json.loads((run / "card.json").read_text())
    (run / "card.json").write_text(json.dumps(card | {key: value}))
    with pytest.raises(DataError, match=rf"card\.json is damaged: {key}"):
        read_run(run)


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"val": "0.5"}, "val"),
        ({"test": {"many": 0.5}}, "test.top1"),
        ({"test": {"top1": "0.5"}}, "test.top1"),
        ({"loss": None}, "loss"),
        ({"epoch": True}, "epoch"),
    ],
)
def test_a_journal_with_other_values_is_damaged(
    create_run: Callable[..., Path], saved: SavedLogits, change: dict[str, object], where: str
) -> None:
    run = create_run("ce-001", saved)
    assert len(read_run(run).records) == 3
    with (run / "metrics.jsonl").open("a") as file:
        file.write("\n" + json.dumps({"epoch": 3, "loss": 1.0} | change) + "\n")
    with pytest.raises(DataError, match=rf"metrics\.jsonl is damaged: 3\.{where}"):
        read_run(run)
