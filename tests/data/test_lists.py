from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ltk.data.sources import open_source
from ltk.errors import DataError, UnsafeError, UsageError

from .conftest import WriteImages


@pytest.fixture
def root(write_images: WriteImages) -> Path:
    return write_images(f"{name}/{i}.png" for name in ("ant", "bee") for i in range(10))


def write_list(path: Path, names: list[str]) -> Path:
    path.write_text("".join(f"{name} {int(name.startswith('bee'))}\r\n" for name in names))
    return path


def test_own_lists(root: Path, tmp_path: Path) -> None:
    train = write_list(tmp_path / "train.txt", [f"ant/{i}.png" for i in range(8)] + ["bee/0.png", "bee/1.png"])
    test = write_list(tmp_path / "test.txt", ["ant/8.png", "ant/9.png"])
    source = open_source("list", root=root, train_list=train, test_list=test)
    assert source.class_names == ("ant", "bee")
    assert source.splits["train"].labels_N.tolist() == [0] * 8 + [1] * 2
    assert source.notes == ("test has no image of 1 class: bee",)
    assert source.splits["test"].read([1, 0], 16).shape == (2, 3, 16, 16)


def test_missing_files_are_counted_and_named(root: Path, tmp_path: Path) -> None:
    train = write_list(tmp_path / "train.txt", ["ant/0.png", "ant/77.png", "bee/0.png", "bee/88.png"])
    options: dict[str, Any] = {"root": root, "train_list": train, "test_list": train}
    with pytest.raises(DataError) as caught:
        open_source("list", **options)
    assert "2 of 4 listed train files found" in caught.value.message
    assert "ant/77.png" in caught.value.message
    assert "--skip-missing" in caught.value.hint
    source = open_source("list", **options, skip_missing=True)
    assert source.splits["train"].labels_N.tolist() == [0, 1]
    assert source.notes[0] == "2 of 4 train images are missing and left out"


def test_a_wrong_root_finds_nothing(root: Path, tmp_path: Path) -> None:
    train = write_list(tmp_path / "train.txt", ["ant/0.png", "bee/0.png"])
    for skip in (False, True):
        with pytest.raises(DataError, match="0 of 2 listed train files found") as caught:
            open_source("list", root=root / "ant", train_list=train, test_list=train, skip_missing=skip)
        assert "right root" in caught.value.hint


def test_skipping_may_not_empty_a_class(root: Path, tmp_path: Path) -> None:
    train = write_list(tmp_path / "train.txt", ["ant/0.png", "bee/88.png"])
    with pytest.raises(DataError, match="no training image of 1 class: bee"):
        open_source("list", root=root, train_list=train, test_list=train, skip_missing=True)


def test_lists_are_asked_for(root: Path) -> None:
    with pytest.raises(UsageError, match="needs --train-list and --test-list"):
        open_source("list", root=root)
    with pytest.raises(UsageError, match="needs --csv"):
        open_source("csv", root=root)


def write_table(path: Path, header: str, rows: list[str]) -> Path:
    path.write_text("\n".join([header, *rows]), encoding="utf-8")
    return path


def test_a_table_is_split_by_lots(root: Path, tmp_path: Path) -> None:
    rows = [f"{name}/{i}.png,{name},L{i // 2}" for name in ("ant", "bee") for i in range(10)]
    table = write_table(tmp_path / "t.csv", "path,label,lot", rows)
    source = open_source("csv", root=root, csv=table, group_col="lot", min_per_class=1)
    train, test = source.splits["train"], source.splits["test"]
    assert not set(train.lots or ()) & set(test.lots or ())
    assert np.bincount(test.labels_N).min() >= 1
    assert (source.class_names, len(train) + len(test)) == (("ant", "bee"), 20)


def test_a_table_with_splits_reports_torn_lots(root: Path, tmp_path: Path) -> None:
    rows = [f"{n}/{i}.png,{n},L{i % 2},{'test' if i > 7 else 'train'}" for n in ("ant", "bee") for i in range(10)]
    table = write_table(tmp_path / "t.csv", "path,label,group,split", rows)
    source = open_source("csv", root=root, csv=table)
    assert (len(source.splits["train"]), len(source.splits["test"])) == (16, 4)
    assert source.notes == ("2 groups are in both train and test: L0, L1",)


def test_a_table_without_test_rows_is_refused(root: Path, tmp_path: Path) -> None:
    table = write_table(tmp_path / "t.csv", "path,label,split", ["ant/0.png,ant,train"])
    with pytest.raises(DataError, match="no test rows"):
        open_source("csv", root=root, csv=table)


INSECTS = [f"{name}/{i}.png" for name in ("ant", "bee") for i in range(10)]


def test_a_blank_group_is_one_of_its_own(root: Path, tmp_path: Path) -> None:
    rows = [f"{n},{n[:3]},{'L1' if n < 'ant/5' else ''}" for n in INSECTS]
    source = open_source("csv", root=root, csv=write_table(tmp_path / "t.csv", "path,label,group", rows))
    assert np.bincount(source.splits["test"].labels_N).tolist() == [3, 3]
    lots = [lot for split in source.splits.values() for lot in split.lots or ()]
    assert sorted(lots) == sorted(["L1"] * 5 + [n for n in INSECTS if n >= "ant/5"])


def test_groups_all_blank_are_none(root: Path, tmp_path: Path) -> None:
    table = write_table(tmp_path / "t.csv", "path,label,group", [f"{n},{n[:3]}," for n in INSECTS])
    assert len(open_source("csv", root=root, csv=table).splits["test"]) == 6


def test_a_table_that_leaves_nothing_to_test_on_is_refused(root: Path, tmp_path: Path) -> None:
    table = write_table(tmp_path / "t.csv", "path,label", [f"{n},{n[:3]}" for n in INSECTS])
    with pytest.raises(DataError, match="no image can be drawn for test: of 2 groups") as caught:
        open_source("csv", root=root, csv=table, group_regex="(ant|bee)")
    assert "--group-regex" in caught.value.hint


def test_a_table_takes_the_options_its_errors_name(root: Path, tmp_path: Path) -> None:
    table = write_table(tmp_path / "t.csv", "path,label", [f"{n},{n[:3]}" for n in [*INSECTS, "ant/77.png"]])
    with pytest.raises(DataError, match="20 of 21 listed files found") as caught:
        open_source("csv", root=root, csv=table)
    assert "--skip-missing" in caught.value.hint
    first, other = (open_source("csv", root=root, csv=table, skip_missing=True, seed=s) for s in (0, 1))
    assert first.notes == ("1 of 21 images are missing and left out",)
    assert sum(len(split) for split in first.splits.values()) == 20
    assert first.splits["test"].names != other.splits["test"].names
    table = write_table(tmp_path / "t.csv", "path,label", [f"../images/{n},{n[:3]}" for n in INSECTS])
    with pytest.raises(UnsafeError, match="lead out"):
        open_source("csv", root=root, csv=table)
    assert open_source("csv", root=root, csv=table, allow_outside=True).num_classes == 2


def test_skipping_may_not_empty_a_class_of_a_table(root: Path, tmp_path: Path) -> None:
    table = write_table(tmp_path / "t.csv", "path,label", [f"{n},{n[:3]}" for n in [*INSECTS, "moth/1.png"]])
    with pytest.raises(DataError, match="no training image of 1 class: mot"):
        open_source("csv", root=root, csv=table, skip_missing=True)


def test_nothing_is_drawn_where_there_is_a_split_column(root: Path, tmp_path: Path) -> None:
    rows = [f"{n},{n[:3]},{'test' if n[4] == '9' else 'train'}" for n in INSECTS]
    table = write_table(tmp_path / "t.csv", "path,label,split", rows)
    with pytest.raises(UsageError, match="has a column of splits: --test and --seed would change nothing"):
        open_source("csv", root=root, csv=table, test=0.5, seed=1)


@pytest.fixture
def outside(write_images: WriteImages, tmp_path: Path) -> Path:
    return write_images(["wasp/0.png", "wasp/1.png"], tmp_path / "outside")


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_links_out_of_the_root_are_refused_in_lists(kind: str, root: Path, outside: Path, tmp_path: Path) -> None:
    if kind == "file":
        (root / "bee/x.png").symlink_to(outside / "wasp/0.png")
    else:
        (root / "bee/x").symlink_to(outside / "wasp")
    name = "bee/x.png" if kind == "file" else "bee/x/0.png"
    train = write_list(tmp_path / "train.txt", ["ant/0.png", name])
    test = write_list(tmp_path / "test.txt", ["ant/1.png", "bee/1.png"])
    table = write_table(tmp_path / "t.csv", "path,label", [f"{n},{n[:3]}" for n in [*INSECTS, name]])
    calls: list[dict[str, Any]] = [
        {"name": "list", "train_list": train, "test_list": test},
        {"name": "csv", "csv": table},
    ]
    for options in calls:
        with pytest.raises(UnsafeError, match=r"behind 1 link out of .*: bee/x") as caught:
            open_source(root=root, **options)
        assert "--allow-outside" in caught.value.hint
        assert open_source(root=root, allow_outside=True, **options).num_classes == 2


def test_absolute_paths_are_read_where_they_lie(root: Path, outside: Path, tmp_path: Path) -> None:
    train = write_list(tmp_path / "train.txt", ["ant/0.png", str(outside / "wasp/0.png"), "bee/0.png"])
    test = write_list(tmp_path / "test.txt", ["ant/1.png", "bee/1.png"])
    with pytest.raises(UnsafeError):
        open_source("list", root=root, train_list=train, test_list=test)
    source = open_source("list", root=root, train_list=train, test_list=test, allow_outside=True)
    assert source.splits["train"].read([1], 8).shape == (1, 3, 8, 8)


def test_links_that_stay_inside_are_fine_in_lists(root: Path, tmp_path: Path) -> None:
    (root / "bee/x.png").symlink_to("../ant/0.png")
    (root / "bee/more").symlink_to(root / "ant")
    (tmp_path / "link").symlink_to(root)
    lists = write_list(tmp_path / "train.txt", ["ant/0.png", "bee/x.png", "bee/more/1.png"])
    test = write_list(tmp_path / "test.txt", ["ant/2.png", "bee/1.png"])
    source = open_source("list", root=tmp_path / "link", train_list=lists, test_list=test)
    assert (len(source.splits["train"]), source.notes) == (3, ())


def test_links_that_lead_nowhere_are_missing(root: Path, tmp_path: Path) -> None:
    (root / "bee/x.png").symlink_to("nowhere.png")
    (root / "bee/y.png").symlink_to("y.png")
    lists = write_list(tmp_path / "train.txt", ["ant/0.png", "bee/x.png", "bee/y.png", "bee/0.png"])
    with pytest.raises(DataError, match="2 of 4 listed train files found"):
        open_source("list", root=root, train_list=lists, test_list=lists)


def test_paths_in_two_splits_are_noted(root: Path, tmp_path: Path) -> None:
    lists = write_list(tmp_path / "train.txt", INSECTS)
    val = write_list(tmp_path / "val.txt", ["ant/3.png", "bee/4.png"])
    source = open_source("list", root=root, train_list=lists, test_list=lists, val_list=val)
    named = "ant/0.png, ant/1.png, ant/2.png, ant/3.png, ant/4.png, ..."
    assert source.notes == (
        f"20 paths in both train and test: {named}",
        "2 paths in both train and val: ant/3.png, bee/4.png",
        "2 paths in both test and val: ant/3.png, bee/4.png",
    )
    rows = [f"{n},{n[:3]},{'test' if n[4] == '9' else 'train'}" for n in INSECTS]
    table = write_table(tmp_path / "t.csv", "path,label,split", [*rows, "ant/0.png,ant,test"])
    assert open_source("csv", root=root, csv=table).notes == ("1 path in both train and test: ant/0.png",)


def test_one_path_may_be_written_in_several_ways(root: Path, tmp_path: Path) -> None:
    train = write_list(tmp_path / "train.txt", ["ant/0.png", "ant//1.png", "ant/1.png", "bee/0.png"])
    test = write_list(tmp_path / "test.txt", ["./ant/0.png", "bee/./4.png"])
    test.write_text(test.read_text() + "bee/../bee/0.png 0\n")
    assert open_source("list", root=root, train_list=train, test_list=test, allow_outside=True).notes == (
        "2 paths in both train and test: ant/0.png, bee/0.png",
        "1 path twice in train: ant/1.png",
        "1 path with two labels: bee/0.png",
    )


def test_paths_with_two_labels_are_noted(root: Path, tmp_path: Path) -> None:
    train = write_list(tmp_path / "train.txt", INSECTS)
    train.write_text(train.read_text() + "ant/5.png 1\n")
    test = tmp_path / "test.txt"
    test.write_text("ant/0.png 1\n")
    source = open_source("list", root=root, train_list=train, test_list=test)
    assert source.notes == (
        "1 path in both train and test: ant/0.png",
        "1 path twice in train: ant/5.png",
        "2 paths with two labels: ant/0.png, ant/5.png",
        "test has no image of 1 class: 0",
    )
    table = write_table(tmp_path / "t.csv", "path,label", [*(f"{n},{n[:3]}" for n in INSECTS), "ant/0.png,bee"])
    assert "1 path with two labels: ant/0.png" in open_source("csv", root=root, csv=table).notes


def test_labels_that_look_alike_are_named(root: Path, tmp_path: Path) -> None:
    rows = "".join(f"ant/{i}.png,cat\nbee/{i}.png,CAT\n" for i in range(10))
    (tmp_path / "t.csv").write_text(f"path,label\n{rows}")
    source = open_source("csv", root=root, csv=tmp_path / "t.csv")
    assert source.class_names == ("CAT", "cat")
    words = "which differ only in letter case or in how accents are encoded"
    assert f"two classes are called 'CAT' and 'cat', {words}" in source.notes
