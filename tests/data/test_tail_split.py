from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltk.data.tail_split import match_lots, name_small_classes, split_tail_safe
from ltk.errors import UsageError

COUNTS = [500, 100, 20, 4, 1]
LABELS = np.repeat(np.arange(5), COUNTS)


def counts_of(parts: dict[str, np.ndarray], labels: np.ndarray = LABELS) -> dict[str, list[int]]:
    return {name: np.bincount(labels[own], minlength=5).tolist() for name, own in parts.items()}


def test_rare_classes_are_tested_and_trained_on() -> None:
    parts = split_tail_safe(LABELS, {"test": 0.2, "val": 0.1}, num_classes=5, min_per_class=3)
    assert counts_of(parts) == {
        "train": [350, 70, 13, 2, 1],
        "test": [100, 20, 4, 1, 0],
        "val": [50, 10, 3, 1, 0],
    }
    assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(len(LABELS)))


def test_a_number_of_images_is_taken_where_training_keeps_as_many() -> None:
    parts = split_tail_safe(LABELS, {"test": 10}, num_classes=5)
    assert counts_of(parts)["test"] == [10, 10, 10, 2, 0]


def test_the_seed_decides_which_images() -> None:
    first, again, other = (split_tail_safe(LABELS, {"test": 0.2}, num_classes=5, seed=s)["test"] for s in (0, 0, 1))
    assert first.tolist() == again.tolist() != other.tolist()


@given(
    counts=st.lists(st.integers(0, 40), min_size=1, max_size=8),
    share=st.floats(0.01, 0.6),
    least=st.integers(1, 5),
    seed=st.integers(0, 9),
)
def test_every_class_keeps_its_share_of_safety(counts: list[int], share: float, least: int, seed: int) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    parts = split_tail_safe(labels, {"test": share}, num_classes=len(counts), min_per_class=least, seed=seed)
    train, test = (np.bincount(labels[parts[name]], minlength=len(counts)) for name in ("train", "test"))
    assert (train + test == counts).all()
    for n, trained, tested in zip(counts, train, test, strict=True):
        if n >= 2 * least:
            assert min(trained, tested) >= least
        else:
            assert trained - tested in (0, 1)


@given(
    content=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 15)), min_size=1, max_size=120),
    seed=st.integers(0, 9),
)
def test_lots_are_never_torn_and_training_never_loses_a_class(content: list[tuple[int, int]], seed: int) -> None:
    labels = np.array([label for label, _ in content])
    lots = [f"lot {lot}" for _, lot in content]
    parts = split_tail_safe(labels, {"test": 0.3, "val": 0.1}, num_classes=5, seed=seed, lots=lots)
    assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(len(labels)))
    sides = [{lots[i] for i in own} for own in parts.values()]
    assert sum(map(len, sides)) == len(set(lots))
    assert set(labels[parts["train"]]) == set(labels)


def test_lots_reach_the_share_where_they_are_small() -> None:
    lots = [f"lot {i // 5}" for i in range(len(LABELS))]
    tested = counts_of(split_tail_safe(LABELS, {"test": 0.2}, num_classes=5, lots=lots))["test"]
    assert tested[0] == pytest.approx(100, abs=5)
    assert tested[1] == pytest.approx(20, abs=5)


def test_small_classes_are_named() -> None:
    parts = split_tail_safe(LABELS, {"test": 0.2}, num_classes=5, min_per_class=3)
    notes = name_small_classes(LABELS, parts, 3, ["a", "b", "c", "rare", "single"])
    assert notes == (
        "train has fewer than 3 images of 2 classes: rare (2), single (1)",
        "test has fewer than 3 images of 2 classes: rare (2), single (0)",
    )


@pytest.mark.parametrize("held_out", [{"test": 0}, {"test": -0.1}, {"test": 1.5}, {"test": 0.6, "val": 0.5}])
def test_useless_shares_are_refused(held_out: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        split_tail_safe(LABELS, held_out, num_classes=5)


def test_lots_are_found_in_paths() -> None:
    assert match_lots(["a/lot7_1.png", "b/lot12_2.png"], r"lot(\d+)_") == ["7", "12"]
    for pattern, words in (("lot(", "not a pattern"), ("lot", "no parenthesis"), (r"(x\d)", "2 paths, first: a/lot7")):
        with pytest.raises(UsageError, match=words):
            match_lots(["a/lot7_1.png", "b/lot12_2.png"], pattern)


def test_an_image_without_the_optional_group_is_a_lot_of_its_own() -> None:
    assert match_lots(["lot7_1.png", "2.png", "3.png"], r"(?:lot(\d+)_)?\d") == ["7", "2.png", "3.png"]


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_seeds_out_of_range_are_refused(seed: int) -> None:
    with pytest.raises(UsageError, match=f"seed {seed} is not a whole number from 0 to 4294967295"):
        split_tail_safe(LABELS, {"test": 0.2}, num_classes=5, seed=seed)
