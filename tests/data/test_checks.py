from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ltk.data import checks
from ltk.data.catalogue import train_counts
from ltk.data.checks import verify_source
from ltk.data.duplicates import Finding, find_near
from ltk.data.pack import shard_path
from ltk.data.pack_writer import pack_source
from ltk.data.sources import open_source
from ltk.errors import UsageError

from .conftest import WriteImages

needs_imagehash = pytest.mark.skipif(importlib.util.find_spec("imagehash") is None, reason="extra data-checks")


@pytest.fixture
def root(write_images: WriteImages) -> Path:
    return write_images(
        [f"train/{name}/{i}.png" for name, n in (("a", 6), ("b", 4), ("rare", 1)) for i in range(n)]
        + [f"test/{name}/{i}.png" for name in ("a", "b", "rare") for i in range(2)],
        size=32,
    )


def verify(root: Path, **options: object) -> dict[str, Finding]:
    findings = verify_source(open_source("folder", root=root), None, **options)  # type: ignore[arg-type]
    return {finding.text: finding for finding in findings}


def test_sound_images_pass_and_tiny_classes_are_named(root: Path) -> None:
    found = verify(root, deep=True)
    assert [finding.level for finding in found.values()].count("warning") == 1
    assert found["one or two training images of 1 class"].items == ("rare (1)",)
    assert found["train: every image can be read"].level == "ok"
    assert found["0 images in two splits (equal pixels)"].level == "ok"


def test_unreadable_images_are_errors(root: Path) -> None:
    (root / "train/b/2.png").write_bytes(b"")
    (root / "test/a/0.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    found = verify(root)
    assert found["train: 1 image cannot be read"].items == ("train/b/2.png: empty file",)
    assert found["test: 1 image cannot be read"].level == "error"


def test_the_same_image_on_both_sides_or_under_two_labels_is_found(root: Path) -> None:
    with Image.open(root / "train/a/3.png") as image:
        image.save(root / "test/b/copy.bmp")  # other bytes, equal pixels
    (root / "train/b/9.png").write_bytes((root / "train/b/1.png").read_bytes())
    found = verify(root, deep=True)
    across = found["1 image in two splits (equal pixels)"]
    assert (across.level, across.items) == ("warning", ("train/a/3.png = test/b/copy.bmp",))
    assert found["1 image with two labels (equal pixels)"].items == across.items
    assert verify(root, deep=True, strict=True)["1 image in two splits (equal pixels)"].level == "error"


@needs_imagehash
def test_near_duplicates_are_found(root: Path) -> None:
    smooth = np.random.default_rng(1).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    image = Image.fromarray(smooth).resize((32, 32), Image.Resampling.BICUBIC)
    image.save(root / "train/a/smooth.png")
    image.save(root / "test/a/smooth.jpg", quality=60)
    found = verify(root, near=4)["1 pair of near duplicates between train and test"]
    assert found.level == "warning"
    assert found.items[0].startswith("test/a/smooth.jpg ~ train/a/smooth.png (")


def test_hashes_within_a_distance_are_paired() -> None:
    generator = np.random.default_rng(0)
    left, right = (generator.integers(0, 1 << 63, n, dtype=np.uint64) for n in (40, 50))
    right[7] = left[3] ^ np.uint64(0b1011 << 40)
    right[9] = left[5]
    pairs = [
        (i, j, bin(int(a) ^ int(b)).count("1"))
        for i, a in enumerate(left)
        for j, b in enumerate(right)
        if bin(int(a) ^ int(b)).count("1") <= 20
    ]
    assert find_near(left, right, 20) == pairs
    assert find_near(left, right, 3) == [(3, 7, 3), (5, 9, 0)]


def test_a_missing_library_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "imagehash", None)
    with pytest.raises(UsageError, match="ImageHash") as caught:
        verify(root, near=4)
    assert "ltk[data-checks]" in caught.value.hint


def test_packs_are_checked(root: Path) -> None:
    path, _ = pack_source(open_source("folder", root=root), 32)
    assert verify(root)["pack folder-32: checksums agree"].level == "ok"
    shard = shard_path(path, 0)
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(bytes(data))
    assert verify(root)["pack folder-32 is damaged in 1 block; delete it and pack again"].level == "error"


def test_files_that_decode_to_other_pixels_than_when_packed_are_found(root: Path) -> None:
    path = root / "train/a/2.bmp"
    with Image.open(root / "train/a/2.png") as image:
        image.save(path)
    pack_source(open_source("folder", root=root), 32)
    data, before = bytearray(path.read_bytes()), path.stat()
    data[-7] ^= 1
    path.write_bytes(bytes(data))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # what rots does so behind the clock's back
    assert verify(root)["1 image with other pixels than when packed"].items == ("train/a/2.bmp",)


def test_conversions_are_no_surprise(root: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    colour = Image.new("RGB", (32, 32), "teal")
    colour.save(root / "train/a/turned.jpg", exif=exif)
    colour.convert("CMYK").save(root / "train/a/print.jpg")
    colour.convert("P").save(root / "train/b/palette.png")
    colour.convert("LA").save(root / "train/b/see-through.png")
    Image.fromarray(np.zeros((32, 32), dtype=np.uint16)).save(root / "test/b/deep.png")
    colour.save(root / "test/a/moving.gif", save_all=True, append_images=[Image.new("RGB", (32, 32), "red")])
    found = verify(root)
    rotated = found["1 image with an EXIF orientation, which is ignored (--upright heeds it)"]
    assert (rotated.level, rotated.items) == ("warning", ("train/a/turned.jpg",))
    assert found["1 image animated, of which the first frame is taken"].items == ("test/a/moving.gif",)
    assert found["1 image of 16 bit, scaled to 8"].items == ("test/b/deep.png",)
    assert found["1 image in CMYK, converted"].items == ("train/a/print.jpg",)
    assert set(found["2 images with a palette, converted"].items) == {"train/b/palette.png", "test/a/moving.gif"}
    assert found["1 image with transparency, which is dropped"].items == ("train/b/see-through.png",)
    upright = verify_source(open_source("folder", root=root, upright=True), None)
    assert not any("EXIF" in finding.text for finding in upright)


def test_named_sets_are_compared_with_what_was_published(monkeypatch: pytest.MonkeyPatch) -> None:
    source = open_source("digits")
    texts = {finding.text: finding.level for finding in verify_source(source, None)}
    assert texts["train: 1,297 images as published"] == texts["class counts agree"] == "ok"
    monkeypatch.setattr(checks, "train_counts", lambda name: np.roll(train_counts(name), 1))
    texts = {finding.text: finding.level for finding in verify_source(source, None)}
    assert texts["training counts of 10 classes differ from the published ones"] == "error"
