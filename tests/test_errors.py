"""A name that is not in a table is answered with the nearest ones."""

from __future__ import annotations

import pytest

from ltk.errors import unknown_name
from ltk.resolve import resolve_config


@pytest.mark.parametrize(("name", "meant"), [("GLMC", "glmc"), ("PaCo", "paco"), ("CIFAR10", "cifar10")])
def test_letter_case_does_not_matter_for_the_suggestion(name: str, meant: str) -> None:
    assert unknown_name("x", name, ["glmc", "gcl", "paco", "cifar10", "cifar100"]).hint.startswith(
        f"Did you mean '{meant}'?"
    )


def test_a_long_table_is_not_printed() -> None:
    with pytest.raises(Exception, match="unknown method or preset 'qqqq'") as caught:
        resolve_config("qqqq")
    hint = getattr(caught.value, "hint", "")
    assert "balanced-softmax" in hint
    assert "/" not in hint
    assert "ltk config --presets" in hint
    many = unknown_name("class", "qqqq", [f"class{k}" for k in range(1000)]).hint
    assert many == "There are 1,000, such as class0, class1, class10, class100, class101."
