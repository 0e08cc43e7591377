"""Tiny copies of each official layout, every spelling of the lists on every layout on disk."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from ltk.data import catalogue, official
from ltk.data.catalogue import Facts, train_counts
from ltk.data.files import FileSplit
from ltk.data.listfile import parse_list
from ltk.data.official import describe_list, find_classes, read_official
from ltk.data.official_lists import OFFICIAL
from ltk.data.sources import open_source
from ltk.data.splits import create_manifest
from ltk.errors import DataError

from .conftest import WriteImages

CLASSES = ("airfield", "apartment_building/outdoor", "arena/hockey")
COUNTS = (3, 2, 1)
SPELLINGS = ("original", "hyphen", "nested")


def spell_train(spelling: str, name: str, file: str) -> str:
    if spelling == "original":
        return f"data_256/{name[0]}/{name}/{file}"
    return f"train/{name.replace('/', '-') if spelling == 'hyphen' else name}/{file}"


def spell_test(spelling: str, name: str, file: str, *, on_disk: bool) -> str:
    if spelling == "original":
        return f"val_256/{file}"
    # The lists in circulation call the test folders alike in the hyphen and the nested spelling.
    joined = name if on_disk and spelling == "nested" else name.replace("/", "-")
    return f"val/{joined}/{file}"


def places(spelling: str, *, on_disk: bool = False) -> dict[str, list[tuple[str, int]]]:
    lists: dict[str, list[tuple[str, int]]] = {"train": [], "val": [], "test": []}
    for label, (name, count) in enumerate(zip(CLASSES, COUNTS, strict=True)):
        lists["train"] += [(spell_train(spelling, name, f"{i:08}.png"), label) for i in range(count)]
        lists["val"] += [(spell_train(spelling, name, f"{i + 50:08}.png"), label) for i in range(2)]
        file = f"Places365_val_{label:08}.png"
        lists["test"].append((spell_test(spelling, name, file, on_disk=on_disk), label))
    return lists


def make_tiny(name: str, counts: tuple[int, ...], images: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    facts = Facts(title="tiny", num_classes=len(counts), images=images)
    monkeypatch.setitem(catalogue.FACTS, name, facts)
    monkeypatch.setattr(official, "train_counts", lambda name: np.array(counts))


@pytest.fixture
def _tiny_places(monkeypatch: pytest.MonkeyPatch) -> None:
    make_tiny("places-lt", COUNTS, {"train": 6, "val": 6, "test": 3}, monkeypatch)


def write_lists(name: str, root: Path, lists: dict[str, list[tuple[str, int]]], ending: str = "\n") -> None:
    (root / "lists").mkdir(parents=True, exist_ok=True)
    for split, rows in lists.items():
        text = ending.join(f"{path} {label}" for path, label in rows)
        (root / "lists" / OFFICIAL[name].files[split]).write_bytes(text.encode())


@pytest.mark.usefixtures("_tiny_places")
@pytest.mark.parametrize(("disk", "spelling"), list(itertools.product(SPELLINGS, SPELLINGS)))
def test_every_spelling_fits_every_layout(disk: str, spelling: str, write_images: WriteImages, tmp_path: Path) -> None:
    on_disk = places(disk, on_disk=True)
    write_images((path for rows in on_disk.values() for path, _ in rows), tmp_path / "places-lt")
    write_lists("places-lt", tmp_path, places(spelling), ending="\r\n")
    source = open_source("places-lt", root=tmp_path)
    assert source.class_names == CLASSES
    assert [len(split) for split in source.splits.values()] == [6, 6, 3]
    for split, rows in on_disk.items():
        images = source.splits[split]
        assert isinstance(images, FileSplit)
        assert images.labels_N.tolist() == [label for _, label in rows]
        assert images.paths == [path for path, _ in rows]
        assert images.read([0, 1, 2], 16).shape == (3, 3, 16, 16)
    assert create_manifest(source).fingerprint.startswith("cedde142cfa0da02")


@pytest.mark.usefixtures("_tiny_places")
def test_what_is_missing_is_named(write_images: WriteImages, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no data_256/ or train/ or val_256/ or val/ there"):
        open_source("places-lt", root=tmp_path)
    write_images([path for rows in places("nested", on_disk=True).values() for path, _ in rows], tmp_path)
    with pytest.raises(DataError, match=r"no list Places_LT_train\.txt \(6 lines\)") as caught:
        open_source("places-lt", root=tmp_path)
    assert "ltk data prepare places-lt" in caught.value.hint
    write_lists("places-lt", tmp_path, places("original"))
    assert open_source("places-lt", root=tmp_path).num_classes == 3
    (tmp_path / "train/arena/hockey/00000000.png").unlink()
    with pytest.raises(DataError, match="5 of 6 listed train files found"):
        open_source("places-lt", root=tmp_path)


@pytest.mark.usefixtures("_tiny_places")
def test_lists_of_another_length_or_other_counts_are_refused(tmp_path: Path) -> None:
    lists = places("nested")
    write_lists("places-lt", tmp_path, {**lists, "train": lists["train"][:-1]})
    path = tmp_path / "lists/Places_LT_train.txt"
    with pytest.raises(DataError, match=r"has 5 images, the train list of places-lt has 6") as caught:
        read_official("places-lt", "train", path)
    assert caught.value.hint.endswith("use --dataset list.")
    wrong = [(name, 0 if label == 2 else label) for name, label in lists["train"]]
    write_lists("places-lt", tmp_path, {**lists, "train": wrong})
    with pytest.raises(DataError, match=r"2 class counts are not the published ones \(class 0: 4, published 3"):
        read_official("places-lt", "train", path)
    wrong[0] = (wrong[0][0], 3)
    write_lists("places-lt", tmp_path, {**lists, "train": wrong})
    with pytest.raises(DataError, match="label 3 is not below 3"):
        read_official("places-lt", "train", path)


@pytest.mark.parametrize("flat", [False, True])
def test_imagenet_lt(flat: bool, write_images: WriteImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_tiny("imagenet-lt", (2, 1), {"train": 3, "val": 2, "test": 2}, monkeypatch)
    lists = {
        "train": [("train/n01/n01_1.png", 0), ("train/n01/n01_2.png", 0), ("train/n02/n02_1.png", 1)],
        "val": [("train/n01/n01_3.png", 0), ("train/n02/n02_3.png", 1)],
        "test": [("val/n01/v_1.png", 0), ("val/n02/v_2.png", 1)],
    }
    write_lists("imagenet-lt", tmp_path, lists)
    names = [path for rows in lists.values() for path, _ in rows]
    write_images([n.replace("val/n01/", "val/").replace("val/n02/", "val/") if flat else n for n in names], tmp_path)
    source = open_source("imagenet-lt", root=tmp_path)
    assert source.class_names == ("n01", "n02")
    assert source.splits["test"].read([0, 1], 16).shape == (2, 3, 16, 16)
    assert list(source.splits["test"].names) == ["val/n01/v_1.png", "val/n02/v_2.png"]
    assert (source.native_size, source.stored_size) == (224, 256)


@pytest.mark.parametrize("name", ["imagenet", "imagenet-lt"])
def test_folders_may_be_links_to_where_imagenet_lies(
    name: str, write_images: WriteImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = {"train": 3, "test": 2} | ({} if name == "imagenet" else {"val": 2})
    make_tiny(name, (2, 1), images, monkeypatch)
    train = [("train/n01/1.png", 0), ("train/n01/2.png", 0), ("train/n02/1.png", 1)]
    test = [("val/n01/1.png", 0), ("val/n02/2.png", 1)]
    home = write_images([path for path, _ in train + test], tmp_path / "elsewhere")
    root = tmp_path / "root"
    (root / "imagenet").mkdir(parents=True)
    for part in ("train", "val"):
        (root / "imagenet" / part).symlink_to(home / part)
    if name == "imagenet-lt":
        write_lists(name, root, {"train": train, "val": train[1:], "test": test})
    assert len(open_source(name, root=root).splits["train"]) == 3


def test_inaturalist(write_images: WriteImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_tiny("inat2018", (1, 2), {"train": 3, "test": 2}, monkeypatch)
    lists = {
        "train": [
            (f"train_val2018/{path}.png", label) for path, label in (("Aves/7/a", 0), ("P/1/b", 1), ("P/1/c", 1))
        ],
        "test": [("train_val2018/P/1/d.png", 1), ("train_val2018/Aves/7/e.png", 0)],
    }
    write_lists("inat2018", tmp_path, lists, ending="\r\n")
    write_images([path for rows in lists.values() for path, _ in rows], tmp_path / "inat2018")
    source = open_source("inat2018", root=tmp_path)
    assert source.splits.keys() == {"train", "test"}
    assert source.class_names == ("Aves/7", "P/1")
    assert source.splits["test"].labels_N.tolist() == [1, 0]


@pytest.mark.parametrize(("name", "total"), [("imagenet-lt", 115_846), ("places-lt", 62_500), ("inat2018", 437_513)])
def test_full_sized_lists_are_checked_against_the_published_counts(name: str, total: int, tmp_path: Path) -> None:
    counts = train_counts(name)
    assert counts.sum() == total == catalogue.get_facts(name).images["train"]
    labels = np.repeat(np.arange(len(counts)), counts)
    path = tmp_path / "list.txt"
    path.write_text("".join(f"train/c{label}/{i}.jpg {label}\n" for i, label in enumerate(labels.tolist())))
    content = read_official(name, "train", path)
    assert len(content.names) == total
    text = path.read_text()
    path.write_text(text.replace("train/c1/", "train/c1/", 1).replace(f" {labels[-1]}\n", " 0\n", 1))
    with pytest.raises(DataError, match="2 class counts are not the published ones"):
        read_official(name, "train", path)


def test_checksums_of_known_copies_are_recognised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "list.txt"
    path.write_text("a 0\n")
    assert describe_list("places-lt", path).endswith("not among the known copies")
    monkeypatch.setitem(OFFICIAL["places-lt"].md5, "d1bd7e3bf1bd1af4f6b1e84a5cd4a7f1", "train, tiny")
    monkeypatch.setitem(OFFICIAL["places-lt"].md5, describe_list("places-lt", path)[4:36], "train, tiny")
    assert describe_list("places-lt", path).endswith(": train, tiny")


def test_a_class_that_paths_do_not_say_comes_from_its_label(tmp_path: Path) -> None:
    lists = {}
    for split, rows in places("original").items():
        path = tmp_path / split
        path.write_text("".join(f"{name} {label}\n" for name, label in rows))
        lists[split] = parse_list(path)
    assert find_classes("places-lt", lists)["test"].names == [
        f"val/{name}/Places365_val_{label:08}.png" for label, name in enumerate(CLASSES)
    ]
