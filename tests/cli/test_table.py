"""Tables fit the terminal: numbers are never cut, and what has no room stands below."""

from __future__ import annotations

import re

import pytest

from ltk.cli._console import print_table

COLUMNS = ("recipe", "all", "many", "few", "balanced", "seeds", "network", "width", "params")
NUMBERS = ("93.3 ± 1.3", "100.0 ± 0.0", "88.8 ± 1.3", "93.2 ± 1.4", "3")
ROWS = [
    ("ce", *NUMBERS, "cifar_resnet8", "16", "0.08M"),
    ("balanced-softmax", *NUMBERS, "cifar_resnet8", "16", "0.08M"),
    ("glmc + maxnorm", *NUMBERS, "cifar_resnet8", "16", "0.10M"),
]


def show(capsys: pytest.CaptureFixture[str]) -> list[str]:
    print_table("comparison", COLUMNS, ROWS)
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("width", [40, 60, 80, 100])
def test_numbers_stay_whole(width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    lines = show(capsys)
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    for number in NUMBERS[:-1]:
        assert text.count(number) in (1, len(ROWS))  # once where it is shared and has no room
    assert text.count("cifar_resnet8") in (1, len(ROWS))
    assert text.count("0.10M") == 1


def test_what_has_no_room_stands_below_once_where_it_is_shared(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "70")
    lines = show(capsys)
    assert "every row: network cifar_resnet8 · width 16" in lines
    assert "glmc + maxnorm: params 0.10M" in lines
    assert "seeds" in lines[1]


def test_names_are_wrapped_at_hyphens_and_spaces(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "70")
    first = [re.split(r"\s{2,}", line)[0] for line in show(capsys)]
    assert first[4:6] == ["balanced-", "softmax"]


def test_a_pipe_gets_whole_rows(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    print_table("", ("name", "value"), [("long " * 100, "1")], left=(0,))
    assert any("long " * 100 in line for line in capsys.readouterr().out.splitlines())


@pytest.mark.parametrize("width", ["0", "1", "20"])
def test_no_width_is_too_small(width: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", width)
    show(capsys)


def test_a_wide_terminal_gets_a_frame(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "150")
    assert "│ balanced-softmax │ 93.3 ± 1.3 │" in "\n".join(show(capsys))
