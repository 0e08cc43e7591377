from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ltk.data.base import ArraySplit, Source
from ltk.data.sources import open_source
from ltk.data.splits import Manifest, create_manifest, note_held_out
from ltk.errors import DataError, UsageError


@pytest.fixture(scope="module")
def digits() -> Source:
    return open_source("digits")


def create_source(labels: list[int], prefix: str = "toy/train") -> Source:
    def split(own: list[int], name: str) -> ArraySplit:
        return ArraySplit(np.zeros((len(own), 1, 4, 4), dtype=np.uint8), own, name)

    splits = {"train": split(labels, prefix), "test": split([0, 1], "toy/test")}
    return Source("toy", ("a", "b"), splits, (0.5,), (0.5,), native_size=4, stored_size=4)


def test_digits_at_imbalance_50(digits: Source) -> None:
    manifest = create_manifest(digits, imb=50)
    assert manifest.counts == (124, 80, 51, 33, 21, 14, 9, 5, 3, 2)
    assert {name: len(split) for name, split in manifest.open(digits).items()} == {"train": 342, "test": 500}
    assert manifest.fingerprint.startswith("845109abb84aafc3")


def test_cuts_of_one_seed_are_nested(digits: Source) -> None:
    kept = [set(create_manifest(digits, imb=imb).indices["train"].tolist()) for imb in (50, 20, 5)]
    assert kept[0] < kept[1] < kept[2]


def test_written_manifest_is_read_back(digits: Source, tmp_path: Path) -> None:
    manifest = create_manifest(digits, imb=20, imb_type="step", subset="glmc", seed=7, val=0.1)
    manifest.write(tmp_path / "split.json")
    again = Manifest.read(tmp_path / "split.json")
    assert again.fingerprint == manifest.fingerprint
    assert (again.imb, again.imb_type, again.subset, again.seed, again.val) == (20, "step", "glmc", 7, 0.1)
    before, after = manifest.open(digits), again.open(digits)
    for name in ("train", "val", "test"):
        assert after[name].labels_N.tolist() == before[name].labels_N.tolist()
        assert list(after[name].names) == list(before[name].names)


def test_validation_images_come_from_the_cut(digits: Source) -> None:
    whole, parted = create_manifest(digits, imb=20), create_manifest(digits, imb=20, val=5)
    train, val = set(parted.indices["train"].tolist()), set(parted.indices["val"].tolist())
    assert train | val == set(whole.indices["train"].tolist())
    assert not train & val
    held = np.bincount(parted.open(digits)["val"].labels_N, minlength=10)
    assert held.tolist() == [5 if n >= 10 else n // 2 for n in whole.counts]
    assert parted.counts == tuple((np.array(whole.counts) - held).tolist())


def test_the_fingerprint_sees_images_labels_and_splits() -> None:
    prints = {
        create_manifest(create_source([0, 0, 1, 1])).fingerprint,
        create_manifest(create_source([0, 0, 1, 1], prefix="toy/other")).fingerprint,
        create_manifest(create_source([0, 1, 1, 1])).fingerprint,
        create_manifest(create_source([0, 0, 1, 1]), imb=2).fingerprint,
        create_manifest(create_source([0, 0, 1, 1]), imb=2, seed=3).fingerprint,
        create_manifest(create_source([0, 0, 1, 1]), val=1).fingerprint,
    }
    assert len(prints) == 6


def test_a_manifest_refuses_other_images() -> None:
    manifest = create_manifest(create_source([0, 0, 1, 1]), imb=2)
    for other in (create_source([0, 1, 0, 1]), create_source([0]), create_source([0, 0, 1, 1], "renamed")):
        with pytest.raises(DataError, match="not those of the manifest"):
            manifest.open(other)


def test_splits_read_what_the_source_reads(digits: Source) -> None:
    manifest = create_manifest(digits, imb=50)
    split = manifest.open(digits)["train"]
    at = manifest.indices["train"][[5, 300]]
    assert torch.equal(split.read([5, 300], 8), digits.splits["train"].read(at, 8))


def test_head_sets_the_largest_class(digits: Source) -> None:
    assert create_manifest(digits, imb=10, head=60).counts[0] == 60
    with pytest.raises(UsageError, match="more images than there are of 6 classes"):
        create_manifest(digits, imb=10, head=500)


def test_no_cut_takes_everything(digits: Source, tmp_path: Path) -> None:
    for manifest in (create_manifest(digits), create_manifest(digits, imb=50, imb_type="none")):
        assert sum(manifest.counts) == 1297
        assert manifest.imb is None
    manifest.write(tmp_path / "split.json")
    assert json.loads((tmp_path / "split.json").read_text())["indices"] == {"train": 1297, "test": 500}


def test_own_validation_split_excludes_hold_out() -> None:
    source = create_source([0, 0, 1, 1])
    source = Source(
        **{**source.__dict__, "splits": {**source.splits, "val": source.splits["test"]}},
    )
    with pytest.raises(UsageError, match="its own validation split"):
        create_manifest(source, val=0.1)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"format": "other/1"}', '{"format": "ltk.split/1"}'])
def test_other_files_are_no_manifests(text: str, tmp_path: Path) -> None:
    (tmp_path / "split.json").write_text(text)
    with pytest.raises(DataError, match=r"split\.json is (damaged|not a split manifest)"):
        Manifest.read(tmp_path / "split.json")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("origin", "train"),
        ("origin", {"train": "train", "test": ["test"]}),
        ("fingerprint", 7),
        ("indices", {"train": -0.0, "test": 500}),
        ("indices", {"train": [-1], "test": 500}),
        ("indices", {"train": True, "test": 500}),
        ("counts", "124"),
        ("class_names", [None]),
        ("more", 1),
    ],
)
def test_a_manifest_with_other_values_is_refused(digits: Source, tmp_path: Path, key: str, value: object) -> None:
    path = tmp_path / "split.json"
    create_manifest(digits).write(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(DataError, match=rf"split\.json is not a split manifest: {key}"):
        Manifest.read(path)


def test_lots_stay_on_one_side_of_the_hold_out(digits: Source) -> None:
    source = create_source([0] * 20 + [1] * 10)
    source.splits["train"].lots = [f"lot {i // 3}" for i in range(30)]
    manifest = create_manifest(source, val=0.2)
    parts = manifest.open(source)
    assert not set(parts["train"].lots or ()) & set(parts["val"].lots or ())
    assert len(parts["val"]) >= 4


def test_no_image_is_trained_and_validated_on_when_the_cut_repeats_some(digits: Source) -> None:
    whole = create_manifest(digits, imb=5, subset="glmc-replacement")
    parted = create_manifest(digits, imb=5, subset="glmc-replacement", val=0.2)
    train, val = parted.indices["train"].tolist(), parted.indices["val"].tolist()
    assert len(set(train)) < len(train)
    assert not set(train) & set(val)
    assert len(set(val)) == len(val)
    assert set(train) | set(val) == set(whole.indices["train"].tolist())
    assert parted.open(digits)["val"].read([0], 8).shape[0] == 1


def test_a_hold_out_keeps_its_images_and_their_order(digits: Source) -> None:
    assert create_manifest(digits, imb=20, val=5).fingerprint.startswith("74b56d250e6a6f4c")


@pytest.mark.parametrize(
    ("options", "words", "hint"),
    [
        ({"subset": "foo"}, "unknown subset rule 'foo'", "glmc-replacement"),
        ({"imb_type": "foo"}, "unknown imbalance type 'foo'", "exp"),
        ({"seed": -1}, "seed -1 is not a whole number from 0 to 4294967295", ""),
        ({"seed": 2**32, "imb": 10}, "seed 4294967296 is not", ""),
    ],
)
def test_unknown_rules_and_seeds_are_refused_with_and_without_a_cut(
    options: dict[str, Any], words: str, hint: str, digits: Source
) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        create_manifest(digits, **options)
    assert hint in caught.value.hint


def test_an_empty_validation_split_is_refused() -> None:
    source = create_source([0] * 8 + [1] * 8)
    source.splits["train"].lots = ["one"] * 16
    with pytest.raises(DataError, match="no image can be drawn for val: of 1 group"):
        create_manifest(source, val=0.2)


@pytest.mark.parametrize(
    ("val", "notes"),
    [
        (2, ["val: 1 of 2 classes cannot spare 2 images", "val has no image of 1 class: b"]),
        (0.2, ["val has no image of 1 class: b"]),
    ],
)
def test_classes_without_validation_images_are_noted(val: float, notes: list[str]) -> None:
    source = create_source([0] * 9 + [1])
    found = note_held_out(create_manifest(source, val=val), source)
    assert [note[: len(start)] for note, start in zip(found, notes, strict=True)] == notes
    assert note_held_out(create_manifest(source), source) == ()
