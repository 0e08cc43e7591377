from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ltk.data.sources import open_source
from ltk.data.splits import Manifest, create_manifest
from ltk.errors import DataError, UnsafeError, UsageError

from .conftest import WriteImages


def names(classes: dict[str, int], prefix: str = "") -> list[str]:
    return [f"{prefix}{name}/{i:03}.png" for name, n in classes.items() for i in range(n)]


def test_train_and_test_folders(write_images: WriteImages) -> None:
    root = write_images(names({"b": 3, "a": 5}, "train/") + names({"a": 2, "b": 2}, "test/"))
    source = open_source("folder", root=root)
    assert source.class_names == ("a", "b")
    assert {name: split.labels_N.tolist() for name, split in source.splits.items()} == {
        "train": [0] * 5 + [1] * 3,
        "test": [0, 0, 1, 1],
    }
    assert source.splits["train"].names[0] == "train/a/000.png"
    assert (source.native_size, source.stored_size, source.channels) == (16, 16, 3)
    with Image.open(root / "train/b/002.png") as image:
        expected = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    assert torch.equal(source.splits["train"].read([7], 16)[0], expected)


def test_a_lone_val_folder_is_the_test_set(write_images: WriteImages) -> None:
    root = write_images(names({"a": 2, "b": 2}, "train/") + names({"a": 1, "b": 1}, "val/"))
    assert open_source("folder", root=root).splits.keys() == {"train", "test"}
    write_images(names({"a": 1, "b": 1}, "test/"), root)
    assert open_source("folder", root=root).splits.keys() == {"train", "test", "val"}


def test_one_folder_is_split_and_its_rare_classes_named(write_images: WriteImages) -> None:
    root = write_images(names({"head": 40, "rare": 4, "single": 1}))
    source = open_source("folder", root=root, test=0.25)
    counts = {name: np.bincount(split.labels_N, minlength=3).tolist() for name, split in source.splits.items()}
    assert counts == {"train": [30, 2, 1], "test": [10, 2, 0]}
    assert source.notes == (
        "train has fewer than 3 images of 2 classes: rare (2), single (1)",
        "test has fewer than 3 images of 2 classes: rare (2), single (0)",
    )
    again = open_source(str(root), test=0.25)
    assert create_manifest(again).fingerprint == create_manifest(source).fingerprint


def test_lots_found_in_the_path_stay_together(write_images: WriteImages) -> None:
    root = write_images(f"{name}/lot{i // 4}_{i}.png" for name in "ab" for i in range(40))
    source = open_source("folder", root=root, group_regex=r"(lot\d+)_")
    sides = [set(split.lots or ()) for split in source.splits.values()]
    assert not sides[0] & sides[1]
    assert 0.1 < len(source.splits["test"]) / 80 < 0.35


def test_images_lie_at_any_depth_under_unicode_names(write_images: WriteImages) -> None:
    root = write_images(
        ["train/été/x/1.png", "train/été/2.PNG", "train/鳥 类/y/z/3.png", "test/été/4.png", "test/鳥 类/5.png"]
    )
    (root / "train/été/notes.txt").write_text("not an image")
    (root / "train/.hidden").mkdir()
    source = open_source("folder", root=root)
    assert source.class_names == ("été", "鳥 类")
    assert list(source.splits["train"].names) == ["train/été/2.PNG", "train/été/x/1.png", "train/鳥 类/y/z/3.png"]


def test_large_or_unlike_images_are_stored_at_256(write_images: WriteImages) -> None:
    root = write_images(names({"a": 3, "b": 3}), size=150)
    assert open_source("folder", root=root).stored_size == 256
    root = write_images(names({"a": 3, "b": 3}), root.parent / "unlike", size=32)
    write_images(["a/x.png"], root, size=40)
    source = open_source("folder", root=root, test=1)
    assert (source.native_size, source.stored_size) == (224, 256)


def test_all_unreadable_images_are_reported_at_once(write_images: WriteImages) -> None:
    root = write_images(names({"a": 4, "b": 4}, "train/") + names({"a": 1, "b": 1}, "test/"))
    for name in ("a/001", "b/000", "b/003"):
        (root / f"train/{name}.png").write_bytes(b"<html>")
    split = open_source("folder", root=root).splits["train"]
    with pytest.raises(DataError) as caught:
        split.read(range(8), 16)
    assert caught.value.message.startswith("3 images cannot be read")
    assert caught.value.message.count("it is a web page") == 3
    assert split.read([0, 2, 3], 16).shape == (3, 3, 16, 16)


def test_missing_folders_show_what_there_is(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(DataError) as caught:
        open_source("folder", root=tmp_path / "photo" / "train")
    assert "no folder" in caught.value.message
    assert "photos" in caught.value.hint
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="is a file, not a folder"):
        open_source("folder", root=tmp_path / "file")
    with pytest.raises(DataError, match="no folders with images"):
        open_source("folder", root=tmp_path / "photos")
    with pytest.raises(UsageError, match="needs the folder"):
        open_source("folder")


def test_classes_must_agree(write_images: WriteImages) -> None:
    root = write_images(names({"a": 2, "b": 2}, "train/") + names({"a": 1}, "test/"))
    assert open_source("folder", root=root).notes == ("test has no image of 1 class: b",)
    write_images(["test/c/1.png"], root)
    with pytest.raises(DataError, match=r"test has 1 class not in .*train: c"):
        open_source("folder", root=root)


def test_empty_classes_and_missing_test_are_named(write_images: WriteImages) -> None:
    root = write_images(names({"a": 2, "b": 2}, "train/"))
    with pytest.raises(DataError, match="neither test/ nor val/"):
        open_source("folder", root=root)
    (root / "train/empty").mkdir()
    (root / "test").mkdir()
    with pytest.raises(DataError, match=r"no images in 1 class folder of .*: empty"):
        open_source("folder", root=root)


def test_names_that_differ_only_in_encoding_are_refused(write_images: WriteImages) -> None:
    root = write_images(["caf\u00e9/1.png", "cafe\u0301/2.png"])
    with pytest.raises(DataError, match="differ only in letter case"):
        open_source("folder", root=root)


def test_links_out_of_the_root_are_refused(write_images: WriteImages, tmp_path: Path) -> None:
    root = write_images(names({"a": 4, "b": 4}))
    outside = write_images(["x.png"], tmp_path / "outside")
    (root / "a/link.png").symlink_to(outside / "x.png")
    with pytest.raises(UnsafeError, match=r"a/link\.png is a link that leads out"):
        open_source("folder", root=root)
    source = open_source("folder", root=root, allow_outside=True, test=1)
    assert sum(len(split) for split in source.splits.values()) == 9
    (root / "a/link.png").unlink()
    (root / "a/inside.png").symlink_to(root / "b/000.png")
    open_source("folder", root=root)


def test_pipes_and_loops_do_not_hang(write_images: WriteImages) -> None:
    root = write_images(names({"a": 4, "b": 4}, "train/") + names({"a": 1, "b": 1}, "test/"))
    os.mkfifo(root / "train/a/pipe.jpg")
    (root / "train/b/loop.jpg").symlink_to("loop.jpg")
    with pytest.raises(DataError, match="2 images cannot be read"):
        open_source("folder", root=root).splits["train"].read(range(10), 16)
    (root / "train/a/again").symlink_to(root / "train")
    with pytest.raises(DataError, match="a link to a folder it lies in"):
        open_source("folder", root=root)
    (root / "train/a/again").unlink()
    (root / "train/a/over").symlink_to("../b")
    (root / "train/b/back").symlink_to("../a")
    with pytest.raises(DataError, match="train/a/over/back is a link to a folder it lies in"):
        open_source("folder", root=root)


def test_file_names_that_are_not_text_are_kept(write_images: WriteImages, tmp_path: Path) -> None:
    root = write_images(names({"a": 4, "b": 4}))
    os.rename(root / "a/000.png", os.fsencode(root / "a") + b"/\xff.png")  # noqa: PTH104 - not a str
    source = open_source("folder", root=root, test=1)
    manifest = create_manifest(source)
    manifest.write(tmp_path / "split.json")
    assert Manifest.read(tmp_path / "split.json").open(source)["train"].read(range(6), 16).shape == (6, 3, 16, 16)


def test_unknown_options_are_answered(write_images: WriteImages) -> None:
    root = write_images(names({"a": 2, "b": 2}))
    with pytest.raises(UsageError, match="option of data set folder"):
        open_source("folder", root=root, tset=0.5)
    with pytest.raises(UsageError, match="unknown data set 'cifar1000'") as caught:
        open_source("cifar1000")
    assert "'cifar100'" in caught.value.hint


LOTS = [f"lot{i // 4}_{i}.png" for i in range(20)]


def write_divided(write_images: WriteImages) -> Path:
    """Folders train/ and test/, lots of four images, of which lot 4 is on both sides."""
    own = {"train": LOTS, "test": LOTS[16:]}
    return write_images(f"{part}/{name}/{file}" for part, files in own.items() for name in "ab" for file in files)


def test_lots_are_heeded_where_the_user_divided_the_images(write_images: WriteImages) -> None:
    root = write_divided(write_images)
    source = open_source("folder", root=root, group_regex=r"(.*)_")
    assert source.notes == ("2 groups are in both train and test: a/lot4, b/lot4",)
    parts = create_manifest(source, val=0.3).open(source)
    assert len(parts["val"]) == 16
    assert not set(parts["train"].lots or ()) & set(parts["val"].lots or ())
    assert open_source("folder", root=root).splits["train"].lots is None


@pytest.mark.parametrize(
    ("pattern", "words"),
    [("lot(", "not a pattern"), (r"(x\d)", r"no group in 40 paths of train/, first: a/lot0_0\.png")],
)
def test_patterns_that_fit_nothing_are_refused_there_too(pattern: str, words: str, write_images: WriteImages) -> None:
    with pytest.raises(UsageError, match=words):
        open_source("folder", root=write_divided(write_images), group_regex=pattern)


@pytest.mark.parametrize("option", [{"test": 0.5}, {"seed": 0}, {"min_per_class": 1}])
@pytest.mark.parametrize("part", ["test", "val"])
def test_nothing_is_drawn_where_there_is_a_test_folder(
    option: dict[str, Any], part: str, write_images: WriteImages
) -> None:
    root = write_images(names({"a": 2, "b": 2}, "train/") + names({"a": 1, "b": 1}, f"{part}/"))
    flag = f"--{next(iter(option)).replace('_', '-')}"
    with pytest.raises(UsageError, match=rf"has a test split of its own, {part}/: {flag} would change nothing"):
        open_source("folder", root=root, **option)


def test_an_empty_test_split_is_refused(write_images: WriteImages) -> None:
    root = write_images(names({"ant": 8, "bee": 8}))
    with pytest.raises(DataError, match="no image can be drawn for test: of 2 groups, none is small") as caught:
        open_source("folder", root=root, group_regex="(ant|bee)")
    assert "--group-regex" in caught.value.hint
    with pytest.raises(DataError, match="no class has a second image"):
        open_source("folder", root=write_images(names({"a": 1, "b": 1}), root.parent / "single"))


def test_folders_that_are_links_out_of_the_root_are_refused(write_images: WriteImages, tmp_path: Path) -> None:
    outside = write_images(names({"a": 4, "b": 4}), tmp_path / "outside")
    root = write_images(names({"b": 4}))
    (root / "a").symlink_to(outside / "a")
    with pytest.raises(UnsafeError, match="a is a link that leads out of"):
        open_source("folder", root=root)
    assert open_source("folder", root=root, allow_outside=True).class_names == ("a", "b")
    (root / "a").unlink()
    (root / "a").symlink_to("b")
    assert open_source("folder", root=root).class_names == ("a", "b")
    divided = write_images(names({"a": 4, "b": 4}, "train/"), tmp_path / "divided")
    (divided / "test").symlink_to(outside)
    with pytest.raises(UnsafeError, match="test is a link that leads out of"):
        open_source("folder", root=divided)
    assert len(open_source("folder", root=divided, allow_outside=True).splits["test"]) == 8


def test_a_root_that_is_a_link_is_fine(write_images: WriteImages, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(write_images(names({"a": 4, "b": 4})))
    assert open_source("folder", root=tmp_path / "link").class_names == ("a", "b")


def test_what_is_left_out_is_counted(write_images: WriteImages) -> None:
    root = write_images(names({"a": 4, "b": 4}, "train/") + names({"a": 1, "b": 1}, "test/"))
    write_images(["train/x.png", "train/y.png"], root)
    for name in ("a/1.HEIC", "a/2.heic", "b/c/1.mov", "b/notes.txt", "b/.hidden.mov", "b/README", "b/Thumbs.db"):
        (root / "train" / name).parent.mkdir(exist_ok=True)
        (root / "train" / name).touch()
    (root / "train/list.txt").touch()
    assert open_source("folder", root=root).notes == (
        "train: 2 images beside the class folders, in no class and left out: x.png, y.png",
        "train: 3 files of kinds that ltk does not read, left out: 2 .heic, 1 .mov",
    )


def test_folders_without_a_known_kind_say_what_they_hold(tmp_path: Path) -> None:
    (tmp_path / "photos/a").mkdir(parents=True)
    (tmp_path / "photos/a/1.heic").touch()
    with pytest.raises(DataError, match="no folders with images") as caught:
        open_source("folder", root=tmp_path / "photos")
    assert "1 .heic" in caught.value.hint


def test_jfif_is_jpeg(write_images: WriteImages) -> None:
    root = write_images(names({"a": 4, "b": 4}))
    Image.new("RGB", (16, 16)).save(root / "a/x.JFIF", "JPEG")
    source = open_source("folder", root=root, test=1)
    assert "a/x.JFIF" in [name for split in source.splits.values() for name in split.names]
    assert source.splits["train"].read(range(7), 16).shape == (7, 3, 16, 16)


def test_classes_whose_names_are_not_text_are_refused(write_images: WriteImages) -> None:
    root = write_images(names({"a": 4, "caf": 4}))
    os.rename(root / "caf", os.fsencode(root) + b"/caf\xe9")  # noqa: PTH104 - not a str
    with pytest.raises(DataError, match=r"1 class folder with names that are not UTF-8: caf\\xe9") as caught:
        open_source("folder", root=root)
    assert "Rename" in caught.value.hint
