"""Methods outside ltk are looked at before anything is trained."""

from __future__ import annotations

from pathlib import Path

import pytest

from ltk.errors import UsageError
from ltk.methods import get_method_class
from ltk.methods.base import LinearMethod

MODULE = """
from ltk.methods.base import LinearMethod, Method
from ltk.settings import Settings

class NoPredict(Method):
    def forward(self, batches, progress): ...

class Nothing(Method):
    pass

class Short(LinearMethod):
    def __init__(self, backbone): ...
    def forward(self, batches, progress): ...

class Deaf(LinearMethod):
    class Options(Settings):
        strength: float = 1.0
    def forward(self, batches, progress): ...

class Whole(Deaf):
    def __init__(self, backbone, class_counts, *, strength): ...
"""


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("NoPredict", "does not define predict"),
        ("Nothing", "does not define forward and predict"),
        ("Method", "does not define forward and predict"),
        ("LinearMethod", "does not define forward"),
        ("Short", "constructor .* too many positional arguments"),
        ("Deaf", "constructor .* unexpected keyword argument 'strength'"),
    ],
)
def test_what_is_missing_is_named(name: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "half_methods.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UsageError, match=words):
        get_method_class(f"half_methods:{name}")
    assert issubclass(get_method_class("half_methods:Whole"), LinearMethod)
