from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ltk.data.listfile import check_labels, derive_class_names, parse_list, parse_table
from ltk.errors import DataError, UnsafeError, UsageError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "list.txt"


@pytest.mark.parametrize(
    "text",
    [
        b"a/1.jpg 0\nb/2 3.jpg 1\n",
        b"a/1.jpg 0\nb/2 3.jpg 1",
        b"a/1.jpg 0\r\nb/2 3.jpg 1\r\n",
        b"\xef\xbb\xbfa/1.jpg 0\nb/2 3.jpg 1\n",
        b"\n\na/1.jpg 0  \n   \n  b/2 3.jpg\t1\n\n",
    ],
)
def test_harmless_differences_are_accepted(file: Path, text: bytes) -> None:
    file.write_bytes(text)
    content = parse_list(file)
    assert content.names == ["a/1.jpg", "b/2 3.jpg"]
    assert content.labels_N.tolist() == [0, 1]
    assert content.labels_N.dtype == np.int64


@pytest.mark.parametrize(
    "line",
    ["a.jpg", "a.jpg,3", "a.jpg -1", "a.jpg 3.0", "a.jpg 1_0", "a.jpg ٣", "a.jpg " + "1" * 5000, "# comment", "7"],
)
def test_lines_without_a_label_are_named(file: Path, line: str) -> None:
    file.write_text(f"ok.jpg 0\n{line}\nok.jpg 1\n", encoding="utf-8")
    with pytest.raises(DataError) as caught:
        parse_list(file)
    assert f"{file}:2: no label" in caught.value.message
    assert len(caught.value.message) < 600


def test_faults_are_gathered_and_escaped(file: Path) -> None:
    file.write_text("".join(f"bad\x1b{i}\n" for i in range(9)))
    with pytest.raises(DataError) as caught:
        parse_list(file)
    assert r":1: no label 0, 1, ... at the end: bad\x1b0" in caught.value.message
    assert caught.value.message.endswith("... and 4 more")


def test_labels_are_checked_against_the_number_of_classes(file: Path) -> None:
    file.write_text("a.jpg 0\nb.jpg 10\n")
    with pytest.raises(DataError, match="label 10 is not below 10"):
        parse_list(file, 10)
    content = parse_list(file)
    with pytest.raises(DataError, match="9 labels below 11 have no image: 1, 2, 3"):
        check_labels(content.labels_N, file)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (b" \n\n", "is empty"),
        (b"\xff\xfe\x00", "not UTF-8"),
        (b"a\x00b 1\n", "binary"),
        (None, "No such file"),
    ],
)
def test_other_files_are_refused(file: Path, data: bytes | None, words: str) -> None:
    if data is not None:
        file.write_bytes(data)
    with pytest.raises(DataError, match=words):
        parse_list(file)


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../x.jpg", "a/../../x.jpg", "C:\\x.jpg", "\\\\host\\x", "a\\..\\x.jpg"]
)
def test_paths_that_lead_out_are_refused(file: Path, name: str) -> None:
    file.write_text(f"ok.jpg 0\n{name} 1\n")
    with pytest.raises(UnsafeError, match="1 paths lead out"):
        parse_list(file)
    assert parse_list(file, allow_outside=True).names[1] == name


def test_dots_inside_names_are_no_way_out(file: Path) -> None:
    file.write_text("a..b/x...jpg 0\n")
    assert parse_list(file).names == ["a..b/x...jpg"]


@settings(max_examples=100)
@given(
    rows=st.lists(
        st.tuples(
            st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=30).filter(
                lambda s: ".." not in s and not s.startswith(("/", "\\")) and ":" not in s
            ),
            st.integers(0, 9_999_999),
        ),
        min_size=1,
    ),
    ending=st.sampled_from(["\n", "\r\n"]),
)
def test_what_is_written_is_read_back(
    rows: list[tuple[str, int]], ending: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("lists") / "list.txt"
    file.write_bytes(ending.join(f"{name} {label}" for name, label in rows).encode())
    content = parse_list(file)
    assert list(zip(content.names, content.labels_N.tolist(), strict=True)) == rows


@settings(max_examples=100)
@given(data=st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.mktemp("lists") / "list.txt"
    file.write_bytes(data)
    for parse in (parse_list, parse_table):
        with suppress(DataError, UnsafeError):
            parse(file)


def test_class_names_come_from_the_folders() -> None:
    labels = np.array([0, 0, 1])
    assert derive_class_names(["t/a/1", "t/a/2", "t/b/3"], labels) == ("a", "b")
    assert derive_class_names(["a/x/1", "a/x/2", "b/x/3"], labels) == ("a/x", "b/x")
    assert derive_class_names(["t/1", "t/2", "t/3"], labels) == ("0", "1")
    assert derive_class_names(["t/a/1", "t/b/2", "t/b/3"], labels) == ("0", "1")


def test_tables(file: Path) -> None:
    file.write_text('Path, Label,lot,split\n"a, b.png",cat,L1,train\nc.png,dog,L2,TEST\n', encoding="utf-8")
    table = parse_table(file, group_col="lot")
    assert table.names == ["a, b.png", "c.png"]
    assert (table.class_names, table.labels_N.tolist()) == (("cat", "dog"), [0, 1])
    assert (table.lots, table.splits) == (["L1", "L2"], ["train", "test"])


def test_numbered_classes_keep_the_order_of_numbers(file: Path) -> None:
    file.write_text("path,label\na,10\nb,9\nc,2\n")
    table = parse_table(file)
    assert (table.class_names, table.labels_N.tolist()) == (("2", "9", "10"), [2, 1, 0])
    assert table.lots is None
    assert table.splits is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("file,class\na,b\n", "no columns 'path' and 'label'"),
        ("path,label\n", "has no rows"),
        ("path,label\na\n", ":2: a path and a label are needed"),
        ("path,label\na,b,c\n", ":2: a path and a label are needed"),
        ("path,label,split\na,b,dev\n", ":2: split 'dev' is not train, val or test"),
        ('path,label\n"a,b\n', "unexpected end of data"),
    ],
)
def test_other_tables_are_refused(file: Path, text: str, words: str) -> None:
    file.write_text(text)
    with pytest.raises(DataError, match=words):
        parse_table(file)


@pytest.mark.parametrize(
    ("header", "hint"),
    [
        ("file,class", "The first line must be: path,label[,group,split]"),
        ("path;label", "The first line must be: path,label[,group,split], with commas and not ';' between"),
        ("path\tlabel", "The first line must be: path,label[,group,split], with commas and not '\\t' between"),
    ],
)
def test_the_first_line_of_other_tables_is_shown(header: str, hint: str, file: Path) -> None:
    file.write_text(f"{header}\na,b\n")
    with pytest.raises(DataError) as caught:
        parse_table(file)
    shown = header.replace("\t", "\\t")
    assert caught.value.message == f"{file} has no columns 'path' and 'label', its first line is: {shown}"
    assert caught.value.hint == hint


def test_a_missing_group_column_is_named(file: Path) -> None:
    file.write_text("path,label,lot\na,b,1\n")
    with pytest.raises(UsageError, match="no column 'animal'"):
        parse_table(file, group_col="animal")


def test_tables_stay_below_the_root_too(file: Path) -> None:
    file.write_text("path,label\n/etc/passwd,x\n")
    with pytest.raises(UnsafeError):
        parse_table(file)


def test_blank_groups_are_called_by_the_path(file: Path) -> None:
    file.write_text("path,label,group\na.png,x,1\nb.png,x, \nc.png,y,\n")
    assert parse_table(file).lots == ["1", "b.png", "c.png"]


@pytest.mark.parametrize(
    ("titles", "column"),
    [
        ("path,label,label", "label"),
        ("Path,label,path", "path"),
        ("path,label,split,Split ", "split"),
        ("path,label,group,group", "group"),
        ("path,label,Lot,lot", "lot"),
    ],
)
def test_a_column_that_is_read_stands_once(file: Path, titles: str, column: str) -> None:
    values = ",".join("a.png" if title.lower() == "path" else "train" for title in titles.split(","))
    file.write_text(f"{titles}\n{values}\n")
    with pytest.raises(DataError, match=f"column '{column}' is there 2 times"):
        parse_table(file, group_col="lot" if column == "lot" else "group")


def test_a_column_that_is_not_read_may_stand_twice(file: Path) -> None:
    file.write_text("path,label,note,note\na.png,0,x,y\n")
    assert parse_table(file).names == ["a.png"]
