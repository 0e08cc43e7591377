"""Methods outside ltk whose class is misspelt."""

from __future__ import annotations

from pathlib import Path

import pytest

from ltk.errors import UsageError
from ltk.methods import get_method_class


@pytest.fixture(autouse=True)
def _modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "from ltk.methods.base import Method\nfrom ltk.methods.baselines import CrossEntropy\nX = 1\n"
    (tmp_path / "ltk_test_mine.py").write_text(text + "class Mine(CrossEntropy): ...\n")
    (tmp_path / "ltk_test_empty.py").write_text("X = 1\n")
    monkeypatch.syspath_prepend(tmp_path)


def test_the_methods_of_the_module_are_named() -> None:
    with pytest.raises(UsageError, match="unknown method in ltk_test_mine 'Mne'") as caught:
        get_method_class("ltk_test_mine:Mne")
    assert caught.value.hint == "Did you mean 'Mine'? Known: CrossEntropy, Mine."
    assert get_method_class("ltk_test_mine:Mine").__name__ == "Mine"


@pytest.mark.parametrize("name", ["ltk_test_mine:X", "ltk_test_empty:Y"])
def test_what_is_no_method_is_said(name: str) -> None:
    with pytest.raises(UsageError, match="is no method"):
        get_method_class(name)


def test_only_a_module_that_is_not_found_is_a_matter_of_the_path() -> None:
    with pytest.raises(UsageError, match="cannot be imported") as caught:
        get_method_class("ltk_test_absent:Mine")
    assert "PYTHONPATH" in caught.value.hint
