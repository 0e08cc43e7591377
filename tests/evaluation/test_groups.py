from __future__ import annotations

from pathlib import Path

import pytest

from ltk.errors import DataError, UsageError
from ltk.evaluation.groups import create_groups

COUNTS = (500, 101, 100, 20, 19)
NAMES = ("a", "b", "c", "d", "e")


@pytest.mark.parametrize("rule", [(100, 20), "100,20", "100, 20"])
def test_limits(rule: tuple[int, int] | str) -> None:
    groups = create_groups(COUNTS, rule)
    assert groups.group_K.tolist() == [0, 0, 1, 1, 2]
    assert groups.names == ("many", "medium", "few")
    assert groups.rarest == "few"
    assert "100" in groups.rule
    assert groups.mask("medium").tolist() == [False, False, True, True, False]
    assert groups.mask("all").all()


def test_the_rarest_group_has_classes() -> None:
    assert create_groups([500, 101, 100], (100, 20)).rarest == "medium"


def test_tertile() -> None:
    groups = create_groups([5, 1, 9, 7, 2, 3], "tertile")
    assert groups.group_K.tolist() == [1, 2, 0, 0, 2, 1]


def test_groups_of_a_file_are_ordered_by_size(tmp_path: Path) -> None:
    path = tmp_path / "groups.csv"
    path.write_text("e,rare\nd,rare\n\na,big\nb,big\nc, big\n")
    groups = create_groups(COUNTS, str(path), NAMES)
    assert groups.names == ("big", "rare")
    assert groups.group_K.tolist() == [0, 0, 0, 1, 1]
    assert groups.rarest == "rare"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,x\nb,x\nc,x\n", "no group for d, e"),
        ("a,x\nb,x\nc,x\nd,x\ne,x\nf,x\n", "unknown class 'f'"),
        ("a,x,1\n", r":1: 3 fields"),
        ("a,x\nb,x\nc,x\nd,x\ne,x\na,y\n", r":6: class 'a' stands in line 1 already"),
        ("a,x\nb,all\nc,x\nd,x\ne,x\n", r":2: a group cannot be called 'all'"),
        ("a,x\nb,x\nc,balanced\nd,x\ne,x\n", r":3: a group cannot be called 'balanced'"),
        ("a,x\nb,x\nc,seeds\nd,x\ne,x\n", r":3: a group cannot be called 'seeds'"),
        ("a,x\nb,x\nc,\nd,x\ne,x\n", r":3: a group cannot be called ''"),
        ('a,x\nb,x\nc,"x,y"\nd,x\ne,x\n', r":3: a group cannot be called 'x,y'"),
    ],
)
def test_a_file_that_does_not_fit(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "groups.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        create_groups(COUNTS, str(path), NAMES)


@pytest.mark.parametrize("rule", ["20,100", "many", "100", "1,2,3"])
def test_rules_that_are_none(rule: str) -> None:
    with pytest.raises(UsageError):
        create_groups(COUNTS, rule)
