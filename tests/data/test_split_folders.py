"""Folders that are named like splits: used, named, or refused, never taken for classes."""

from __future__ import annotations

from pathlib import Path

import pytest

from ltk.data.sources import open_source
from ltk.errors import DataError

from .conftest import WriteImages


def divide(write_images: WriteImages, *parts: str, root: Path | None = None) -> Path:
    names = [f"{part}/{name}/{i}.png" for part in parts for name in ("cat", "dog") for i in range(4)]
    return write_images(names, root) if root else write_images(names)


@pytest.mark.parametrize(
    ("parts", "renames"),
    [
        (("Train", "Val", "Test"), "Rename Test to test, Train to train, Val to val."),
        (("training", "validation", "testing"), "Rename testing to test, training to train, validation to val."),
        (("TRAIN", "dev", "TEST"), "Rename TEST to test, TRAIN to train, dev to val."),
        (("trn", "tst"), "Rename trn to train, tst to test."),
        (("test", "val"), "Call the one to train on train."),
    ],
)
def test_splits_in_another_spelling_are_no_classes(
    parts: tuple[str, ...], renames: str, write_images: WriteImages
) -> None:
    with pytest.raises(DataError, match="named like splits and not like classes") as caught:
        open_source("folder", root=divide(write_images, *parts))
    assert caught.value.hint == renames


def test_classes_may_be_called_like_splits(write_images: WriteImages) -> None:
    """A folder of images alone is a class, and so is the only one of such a name."""
    root = write_images(f"{name}/{i}.png" for name in ("test", "dev", "car") for i in range(4))
    assert open_source("folder", root=root).class_names == ("car", "dev", "test")
    root = write_images((f"{name}/{i}.png" for name in ("Train/steam", "car/red") for i in range(4)), root / "deep")
    assert open_source("folder", root=root).class_names == ("Train", "car")


@pytest.mark.parametrize(
    ("others", "note"),
    [
        (("valid",), "1 folder beside train/ and left out: valid (did you mean val?)"),
        (("val", "Eval", "old"), "2 folders beside train/ and left out: Eval, old"),
    ],
)
def test_folders_beside_the_splits_are_named(others: tuple[str, ...], note: str, write_images: WriteImages) -> None:
    root = divide(write_images, "train", "test", *others)
    (root / ".hidden").mkdir()
    (root / "__MACOSX").mkdir()
    assert open_source("folder", root=root).notes == (note,)


def test_train_alone_names_what_is_beside_it(write_images: WriteImages) -> None:
    root = divide(write_images, "train")
    with pytest.raises(DataError, match=r"neither test/ nor val/$"):
        open_source("folder", root=root)
    divide(write_images, "eval", "Test", root=root)
    with pytest.raises(DataError, match=r"beside it: Test \(did you mean test\?\), eval \(did you mean val\?\)$"):
        open_source("folder", root=root)


def test_what_systems_leave_is_no_class(write_images: WriteImages) -> None:
    root = write_images(f"{name}/{i}.png" for name in ("a", "b", "__MACOSX/a", "a/@eaDir") for i in range(4))
    source = open_source("folder", root=root)
    assert source.class_names == ("a", "b")
    assert sum(len(split) for split in source.splits.values()) == 8
