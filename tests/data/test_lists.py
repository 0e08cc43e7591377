from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ltk.data.sources import open_source
from ltk.errors import DataError, UsageError

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
