"""What is chosen for each seed by one rule does not make recipes of the seeds."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ltk.engine.before_after import compare_stages
from ltk.engine.fit import fit
from ltk.engine.stage_two import StageTwoRequest, resolve_stage_two
from ltk.evaluation.choose import create_request
from ltk.evaluation.compare import Comparison, compare_entries
from ltk.evaluation.logits import SavedLogits
from ltk.evaluation.payload import describe_comparison
from ltk.evaluation.pipeline import AS_TRAINED, Judge
from ltk.evaluation.protocol import recipe_key
from ltk.resolve import resolve_config
from ltk.run_files import read_run_config

CreateSaved = Callable[..., SavedLogits]
CreateRun = Callable[..., Path]
CHEAP = {"run.device": "cpu", "run.precision": "fp32", "run.threads": 1}


@pytest.fixture
def seeds(create_run: CreateRun, create_saved: CreateSaved) -> list[Path]:
    """Three runs whose validation images ask for corrections of three strengths."""
    return [
        create_run(
            f"ce-{seed}",
            create_saved(bias=0.8, noise_seed=seed),
            create_saved(bias=bias, seed=5, noise_seed=seed),
            seed=seed,
        )
        for seed, bias in enumerate((0.3, 0.8, 1.3))
    ]


def compare(paths: list[Path], **options: Any) -> Comparison:
    results = [Judge().evaluate(path, create_request(**options)) for path in paths]
    return compare_entries([result.entry() for result in results], results[0].groups)


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"adjust": "la", "tune": True}, "logit adjustment tau tuned on val"),
        ({"adjust": "la", "oracle": True}, "logit adjustment tau tuned on test (oracle)"),
        ({"adjust": "pn-inductive", "tune": True}, "PN tau tuned on val, mass of the validation images"),
        ({"temperature": "val"}, "temperature fitted on val"),
        ({"adjust": "la", "tau": 1, "temperature": "val"}, "logit adjustment tau=1; temperature fitted on val"),
    ],
)
def test_seeds_are_pooled_by_the_rule_that_chose_their_values(
    seeds: list[Path], options: dict[str, Any], rule: str
) -> None:
    comparison = compare(seeds, **options)
    (recipe,) = comparison.recipes
    assert len(recipe.entries) == 3
    assert comparison.verdicts == ()
    assert recipe.card["adjustment"] == rule
    values = [entry.chosen for entry in recipe.entries]
    assert len(set(values)) > 1  # each seed keeps its own
    (note,) = [note for note in comparison.notes if note.startswith("chosen for each run of ce: ")]
    assert all(text in note for (text,) in values)
    assert describe_comparison(comparison)["recipes"][0]["chosen"] == [list(value) for value in values]


def test_a_value_that_was_given_is_a_rule(seeds: list[Path]) -> None:
    entries = [Judge().evaluate(path, create_request(adjust="la", tau=1.0 + i)).entry() for i, path in enumerate(seeds)]
    comparison = compare_entries(entries, entries[0].groups)
    assert [len(recipe.entries) for recipe in comparison.recipes] == [1, 1, 1]
    assert not any("chosen" in note for note in comparison.notes)


def test_a_tuned_run_alone_shows_its_value(seeds: list[Path]) -> None:
    result = Judge().evaluate(seeds[0], create_request(adjust="la", tune=True))
    assert result.curve is not None
    assert result.marks == (f"logit adjustment tau={result.curve.chosen:g}",)


def test_the_same_run_is_no_second_seed(create_run: CreateRun, saved: SavedLogits) -> None:
    run = create_run("converted", saved, seed=None)
    (recipe,) = compare([run, run]).recipes
    assert (len(recipe.entries), len(recipe.repeated)) == (1, 1)


def train(folder: Path, seed: int) -> Path:
    options = {**CHEAP, "optim.epochs": 4, "run.seed": seed, "model.width": 4, "data.val": 1}
    return fit(resolve_config("ce", dataset="digits", options=options).config, out=folder / f"ce-{seed}").folder


def normalise(parent: Path, folder: Path, **options: float) -> Path:
    request = StageTwoRequest(parent, "tau-norm", options={**CHEAP, **options})
    return fit(resolve_stage_two(request).config, out=folder / f"{parent.name}-tau-norm").folder


def test_second_stages_are_pooled_by_how_their_tau_was_chosen(tmp_path: Path) -> None:
    parents = [train(tmp_path, seed) for seed in (0, 1)]
    tuned = [normalise(parent, tmp_path / "tuned") for parent in parents]
    cards = [json.loads((run / "card.json").read_text()) for run in tuned]
    assert [read_run_config(run).parent.tuned for run in tuned] == [("tau",), ("tau",)]
    assert [card["tuned"] for card in cards] == [{"tau": "val"}] * 2
    cards[1]["options"]["tau"] = cards[0]["options"]["tau"] + 0.5  # whatever this machine chose
    (tuned[1] / "card.json").write_text(json.dumps(cards[1]))
    (recipe,) = compare(tuned).recipes
    assert [entry.chosen for entry in recipe.entries] == [(f"tau={card['options']['tau']}",) for card in cards]
    given = json.loads((normalise(parents[1], tmp_path / "given", **{"method.tau": 0.7}) / "card.json").read_text())
    assert "tuned" not in given
    assert recipe_key(given) != recipe_key(cards[1])
    third = [{"stage_one": card, "method": "third"} for card in cards]
    assert recipe_key(third[0]) == recipe_key({**third[1], "stage_one": {**cards[1], "seed": 0}})
    assert Judge().evaluate(tuned[0], AS_TRAINED).entry().chosen == recipe.entries[0].chosen


def test_a_second_stage_may_have_the_name_of_its_parent(tmp_path: Path) -> None:
    parent = train(tmp_path / "runs" / "digits", 0)
    request = StageTwoRequest(parent, "tau-norm", options=CHEAP)
    child = fit(resolve_stage_two(request).config, out=tmp_path / "other" / "digits" / parent.name).folder
    comparison = compare_stages(child)
    assert comparison is not None
    assert (comparison.baseline, [recipe.name for recipe in comparison.recipes]) == ("ce", ["ce", "ce + tau-norm"])
