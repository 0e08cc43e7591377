"""Lists, tables and configurations of any text: read as they were meant, or refused with a place; no path leads out.

The suite tries some hundreds of each; ``LTK_CASES=100000`` is the long form.
"""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from ltk.config_text import create_config, read_toml
from ltk.data.listfile import parse_list, parse_table
from ltk.errors import DataError, UnsafeError, UsageError

CASES = int(os.environ.get("LTK_CASES", "250"))
thoroughly = settings(
    max_examples=CASES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None
)
# What has fooled parsers: line ends of all kinds, byte order marks, NUL, digits of other scripts, signs, ways out.
PIECES = st.sampled_from([
    "a/b.jpg", "Ä森.png", " ", "  ", "\t", "\n", "\r\n", "\r", "\x0b", "\u2028", "\x85", "\ufeff", "\0",
    "\x1b[31m", "#", ",", '"', "'", "..", "../x", "/", "/etc/passwd", "\\", "C:\\x", "~", ".", "0", "1", "17",
    "9999999", "10000000", "-1", "+1", "1_0", "1.0", "1e3", "٣", "²", "𝟙", "nan", "path,label\n",
    "path,label,group,split\n", "train", "val", "test", "9" * 400,
])  # fmt: skip
TEXTS = st.lists(PIECES | st.text(max_size=5), max_size=12).map("".join)
NAMES = st.text(st.characters(exclude_categories=["C", "Zl", "Zp"]), min_size=1, max_size=20)
TOML = st.sampled_from([
    "[optim]\n", "lr", "=", " = ", "0.1", "nan", "inf", "-1", "true", '"x"', "[", "]", "{", "}",
    "[[method]]\n", "\n", "#", "'''", "epochs", "[method]\nname", '"ce"', "preset", "1e400", "1_0",
    "2020-01-01", "\ufeff", "\\u0000", ".", "data.imb", "[" * 3000,
])  # fmt: skip


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("texts") / "file.txt"


@thoroughly
@given(text=TEXTS)
def test_any_list_is_read_or_refused_with_its_line(file: Path, text: str) -> None:
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    for parse in (parse_list, parse_table):
        names, fault = [], ""
        try:
            names = list(parse(file).names)
        except (DataError, UnsafeError) as error:
            fault = error.message
        assert not fault or str(file) in fault
        assert not fault or re.search(rf"{file}:\d+| is | has no |column|lead out", fault)
        for name in names:
            assert not name.startswith(("/", "\\"))
            assert ".." not in PurePosixPath(name.replace("\\", "/")).parts
            assert "\0" not in name


@thoroughly
@given(rows=st.lists(st.tuples(NAMES, st.integers(0, 9_999_999)), min_size=1, max_size=6))
def test_what_is_written_is_read_back(file: Path, rows: list[tuple[str, int]]) -> None:
    assume(all(name == name.strip() and "\ufeff" not in name for name, _ in rows))
    file.write_text("\n".join(f"{name} {label}" for name, label in rows), encoding="utf-8")
    try:
        content = parse_list(file)
    except UnsafeError:
        assert any(".." in name or name.startswith(("/", "\\", "~")) or ":" in name for name, _ in rows)
        return
    except DataError:
        assert any(name.startswith("#") for name, _ in rows)
        return
    assert list(zip(content.names, content.labels_N.tolist(), strict=True)) == rows


@thoroughly
@given(text=st.lists(TOML | st.text(max_size=3), max_size=14).map("".join))
def test_any_configuration_is_read_or_refused(file: Path, text: str) -> None:
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    fault = str(file)
    try:
        create_config(read_toml(file), str(file))
    except UsageError as error:
        fault = error.message
    assert str(file) in fault
