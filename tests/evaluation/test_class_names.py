"""When two lists of names are of the same classes."""

from __future__ import annotations

import pytest

from ltk.evaluation.class_names import find_other_class


@pytest.mark.parametrize(
    ("ours", "theirs", "found"),
    [
        (["ash", "beech"], ["ash", "beech"], None),
        (["ash", "beech"], ["ash", "cedar"], 1),
        (["beech", "ash"], ["ash", "beech"], 0),
        (None, ["ash", "beech"], None),
        (["0", "1"], ["ash", "beech"], None),
        (["ash", "beech"], ["0", "1"], None),
        (["1", "0"], ["ash", "beech"], 0),
    ],
)
def test_mere_numbers_say_nothing(ours: list[str] | None, theirs: list[str], found: int | None) -> None:
    assert find_other_class(ours, theirs) == found
