from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ltk.errors import DataError, UsageError
from ltk.evaluation.compare import compare_entries
from ltk.evaluation.groups import Groups, create_groups
from ltk.evaluation.logits import SavedLogits
from ltk.evaluation.outcomes import assess
from ltk.evaluation.payload import describe_comparison
from ltk.evaluation.posthoc import Adjustment, adjust_logits, no_adjustment, with_costs
from ltk.evaluation.protocol import protocol_differences
from ltk.evaluation.recipes import Entry, create_entry, describe_checkpoint

CreateSaved = Callable[..., SavedLogits]
CARD: dict[str, Any] = {"method": "ce", "width": 16, "epochs": 60, "views": ["shift"], "seed": 0, "transductive": False}


def enter(name: str, saved: SavedLogits, adjustment: Adjustment | None = None, **card: Any) -> Entry:
    return create_entry(name, CARD | card, saved, assess(saved), _groups(saved), adjustment)


def _groups(saved: SavedLogits) -> Groups:
    return create_groups(saved.class_counts, saved.groups)


@pytest.fixture
def entries(create_saved: CreateSaved) -> list[Entry]:
    ce = [enter(f"toy/ce-{i}", create_saved(bias=0.8, noise_seed=i), seed=i) for i in range(3)]
    better = [enter(f"toy/la-{i}", create_saved(bias=0.0, noise_seed=i), method="la", seed=i) for i in range(2)]
    return [*ce, *better]


def test_seeds_of_one_recipe_are_grouped(entries: list[Entry], saved: SavedLogits) -> None:
    comparison = compare_entries(entries, _groups(saved))
    assert [(recipe.name, len(recipe.entries)) for recipe in comparison.recipes] == [("ce", 3), ("la", 2)]
    values = [entry.summary["few"].top1 for entry in entries[:3]]
    found = comparison.recipes[0].accuracy("few")
    assert found == pytest.approx((np.mean(values), np.std(values, ddof=1)))  # type: ignore[arg-type]
    assert comparison.notes == ()
    assert comparison.differences == ()


def test_verdicts(entries: list[Entry], saved: SavedLogits) -> None:
    comparison = compare_entries(entries, _groups(saved))
    assert comparison.baseline == "ce"
    overall, rare = comparison.verdicts
    assert (overall.group, rare.group) == ("all", "few")
    assert rare.difference is not None
    assert rare.difference.verdict == "helps"
    assert rare.difference.images == 40
    assert str(rare).startswith("la helps on few, against ce: +")
    swapped = compare_entries(entries, _groups(saved), baseline="la")
    assert str(swapped.verdicts[1]).startswith("ce hurts on few, against la: -")
    same = compare_entries(
        [entries[0], replace(entries[0], card={**entries[0].card, "method": "twin"})], _groups(saved)
    )
    assert str(same.verdicts[0]).startswith("twin is not distinguishable from ce on all: +0.0 points (95%: ")
    assert same.notes == ("one seed (ce, twin): the chance of another training run is not in the intervals",)


def test_the_rarest_group_that_has_classes_is_judged(create_saved: CreateSaved) -> None:
    for counts, judged in (((200, 50), ["all", "medium"]), ((200, 150), ["all"])):
        saved = create_saved(counts=counts)
        comparison = compare_entries([enter("a", saved), enter("b", saved, method="x")], _groups(saved))
        assert [verdict.group for verdict in comparison.verdicts] == judged
        assert comparison.recipes[0].accuracy("few") is None
        assert comparison.recipes[0].interval(comparison.groups.mask("few")) is None


def test_a_group_without_test_images_has_no_verdict(saved: SavedLogits) -> None:
    tested_N = saved.target_N < 3
    part = replace(
        saved,
        logits_NK=saved.logits_NK[tested_N],
        target_N=saved.target_N[tested_N],
        index_N=saved.index_N[tested_N],
    )
    comparison = compare_entries([enter("a", part), enter("b", part, method="x")], _groups(part))
    rare = comparison.verdicts[-1]
    assert (rare.group, rare.difference) == ("few", None)
    assert str(rare) == "x against ce on few: no images"


def test_only_the_same_images_are_compared(saved: SavedLogits) -> None:
    other = replace(saved, fingerprint="e" * 64)
    relabelled = replace(saved, target_N=np.roll(saved.target_N, 1))
    for changed in (other, relabelled):
        with pytest.raises(DataError, match="different images"):
            compare_entries([enter("a", saved), enter("b", changed)], _groups(saved))


def test_the_order_of_the_images_does_not_matter(saved: SavedLogits) -> None:
    order = np.random.default_rng(0).permutation(160)
    shuffled = replace(
        saved, logits_NK=saved.logits_NK[order], target_N=saved.target_N[order], index_N=saved.index_N[order]
    )
    comparison = compare_entries([enter("a", saved), enter("b", shuffled, method="x")], _groups(saved))
    assert comparison.verdicts[0].difference is not None
    assert comparison.verdicts[0].difference.p_value == 1.0


def test_every_difference_of_the_cards_is_named(saved: SavedLogits) -> None:
    changes: dict[str, Any] = {
        "width": 64,
        "epochs": 200,
        "views": ["crop-flip", "randaugment"],
        "selection": "best epoch on test",
        "transductive": True,
        "init": "timm pretrained",
        "images_seen": 1_000_000,
        "parameters": 7_376_000,
        "streams": {"main": "uniform", "extra": "power"},
    }
    oracle = replace(adjust_logits(no_adjustment(saved.num_classes), saved.class_counts, 1.0), oracle=True)
    first, second = enter("a", saved), enter("b", saved, oracle, method="x", **changes)
    comparison = compare_entries([first, second], _groups(saved))
    assert {row.key for row in comparison.differences} == {*changes, "adjustment"}
    shown = {row.key: str(row) for row in comparison.differences}
    assert shown["width"] == "width: 16 (ce), 64 (x)"
    assert shown["parameters"] == "parameters: - (ce), 7,376,000 (x)"
    assert shown["views"] == "views: shift (ce), crop-flip randaugment (x)"
    assert shown["streams"] == "streams: - (ce), main=uniform extra=power (x)"
    assert shown["transductive"] == "transductive: no (ce), yes (x)"
    order = [row.key for row in comparison.differences]
    assert order.index("width") < order.index("epochs") < order.index("selection")
    assert "transductive figures use the whole unlabelled test set at once" in comparison.notes
    assert "oracle figures chose a value on the test images" in comparison.notes


def test_a_best_checkpoint_says_how_it_was_chosen(saved: SavedLogits) -> None:
    best = replace(saved, checkpoint="best")
    entry = enter("a", best, best_checkpoint="best epoch on test (oracle)")
    assert entry.card["checkpoint"] == "best epoch on test (oracle)"
    assert "oracle figures chose a value on the test images" in compare_entries([entry], _groups(saved)).notes


def test_the_name_of_a_file_is_no_mark(saved: SavedLogits) -> None:
    costs = with_costs(no_adjustment(saved.num_classes), 1 - np.eye(saved.num_classes), "transductive-oracle.csv")
    assert enter("a", saved, costs).marks == ()


def test_recipes_of_one_method_are_named_after_their_runs(saved: SavedLogits) -> None:
    comparison = compare_entries([enter("toy/ce-1", saved), enter("toy/ce-2", saved, width=64)], _groups(saved))
    assert [recipe.name for recipe in comparison.recipes] == ["toy/ce-1", "toy/ce-2"]
    assert comparison.baseline == "toy/ce-1"


def test_an_unknown_baseline(entries: list[Entry], saved: SavedLogits) -> None:
    with pytest.raises(UsageError, match="unknown baseline 'laa'") as caught:
        compare_entries(entries, _groups(saved), baseline="laa")
    assert "'la'" in caught.value.hint


def test_equal_cards_do_not_differ() -> None:
    assert protocol_differences({"a": CARD, "b": CARD | {"seed": 7, "method": "x"}}) == []


def test_a_seed_counts_once(create_saved: CreateSaved) -> None:
    runs = [create_saved(bias=0.8, noise_seed=i) for i in range(3)]
    entries = [
        enter(f"toy/ce-{i}", saved, seed=seed) for i, (saved, seed) in enumerate(zip(runs, (0, 0, 1), strict=True))
    ]
    (recipe,) = compare_entries(entries, _groups(runs[0])).recipes
    assert [entry.name for entry in recipe.entries] == ["toy/ce-0", "toy/ce-2"]
    comparison = compare_entries(entries, _groups(runs[0]), "toy/ce-1")
    assert comparison.notes == ("the same seed again, not counted: toy/ce-1 (ce)",)
    stages = [enter(f"toy/crt-{i}", saved, parent={"sha256": str(i)}) for i, saved in enumerate(runs)]
    assert len(compare_entries(stages, _groups(runs[0])).recipes[0].entries) == 3  # one seed on three networks


def test_old_cards_compare_with_those_that_hold_the_optimiser(saved: SavedLogits) -> None:
    comparison = compare_entries([enter("a", saved), enter("b", saved, lr=0.1, schedule="cosine")], _groups(saved))
    assert [str(row) for row in comparison.differences] == ["lr: - (a), 0.1 (b)", "schedule: - (a), cosine (b)"]


def test_groups_that_differ_have_no_verdict(create_saved: CreateSaved) -> None:
    first = create_saved()
    second = replace(create_saved(bias=0.0), class_counts=(200, 190, 180, 170))
    entries = [enter("a", first), enter("b", second, method="x")]
    one, other = (compare_entries(order, order[-1].groups, "ce") for order in (entries, entries[::-1]))
    assert [verdict.group for verdict in one.verdicts] == ["all"]
    assert set(map(str, one.verdicts)) == set(map(str, other.verdicts))
    assert any("other classes in their groups" in note for note in one.notes)
    assert describe_comparison(one)["recipes"][1]["intervals"]["few"] is None


def test_a_checkpoint_chosen_on_the_judged_images_is_an_oracle(saved: SavedLogits) -> None:
    for split, best, is_oracle in (
        ("test", "best epoch on test (oracle)", True),
        ("test", "best epoch on val", False),
        ("val", "best epoch on val", True),
        ("val", "best epoch on test (oracle)", False),
    ):
        chosen = describe_checkpoint("best", {"best_checkpoint": best}, split)
        assert chosen.endswith("(oracle)") == is_oracle
    assert describe_checkpoint("last", {"best_checkpoint": "best epoch on test (oracle)"}, "test") == "last"
