from __future__ import annotations

from pathlib import Path

import pytest

from ltk.errors import DataError
from ltk.evaluation.inputs import read_prior


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,1\nb,2\n\na,3\n", r"shares.csv:4: class 'a' stands in line 1 already"),
        ("a,1\n", "no share for b"),
        ("a,1\nb,1\nc,1\n", "unknown class 'c'"),
        ("a,1\nb,-1\n", r"shares.csv:2: '-1' is not a number of at least 0"),
    ],
)
def test_a_prior_that_does_not_fit(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "shares.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_prior(path, ("a", "b"))
