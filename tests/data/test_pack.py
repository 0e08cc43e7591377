from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ltk.data import pack_writer
from ltk.data.base import Source
from ltk.data.files import FileSplit
from ltk.data.pack import BLOCK, FORMAT, choose_shard_rows, find_pack, pack_folders, read_info, shard_path, verify_pack
from ltk.data.pack_writer import pack_source, write_pack
from ltk.data.sources import open_source
from ltk.errors import DataError, EnvironmentFault, UsageError

from .conftest import WriteImages

NAMES = [f"train/{name}/{i:03}.png" for name in "ab" for i in range(300)] + ["test/a/0.png", "test/b/0.png"]


@pytest.fixture
def root(write_images: WriteImages) -> Path:
    return write_images(NAMES, size=8)


def open_root(root: Path) -> Source:
    return open_source("folder", root=root)


def spoil(path: Path) -> None:
    """Replace the content of a file behind everybody's back."""
    before = path.stat()
    path.write_bytes(b"x" * before.st_size)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def read_all(source: Source, size: int = 8) -> list[torch.Tensor]:
    return [split.read(range(len(split)), size) for split in source.splits.values()]


def assert_from_files(source: Source) -> None:
    assert all(split.pack(8) is None for split in source.splits.values() if isinstance(split, FileSplit))


def test_packed_images_are_those_of_the_files(root: Path) -> None:
    before = read_all(open_root(root))
    path, info = pack_source(open_root(root), 8)
    assert path == root / ".ltk-packs/folder-8.json"
    assert info.shards(path) == {root / ".ltk-packs/folder-8.000.npy": (602, 3, 8, 8)}
    assert verify_pack(path) == []
    for name in NAMES:
        spoil(root / name)  # now they can come from the pack alone
    source = open_root(root)
    assert all(map(torch.equal, before, read_all(source)))
    train = source.splits["train"]
    assert torch.equal(train.read([599, 3], 8), before[0][[599, 3]])
    assert torch.equal(train.subset([7, 400]).read([1], 8), before[0][400:401])
    assert not list(root.glob(".ltk-packs/*.part"))


def test_a_large_pack_lies_in_several_files(root: Path) -> None:
    before = read_all(open_root(root))
    path = root / ".ltk-packs/folder-8.json"
    stops = iter((False, False, True))

    def stop(images: int) -> None:
        if next(stops):
            raise KeyboardInterrupt

    names = [name for split in open_root(root).splits.values() for name in split.names]
    with pytest.raises(KeyboardInterrupt):
        write_pack(root, names, 8, path, shard_rows=BLOCK, advance=stop)
    info = write_pack(root, names, 8, path, shard_rows=BLOCK)
    assert [shape[0] for shape in info.shards(path).values()] == [BLOCK, BLOCK, 602 - 2 * BLOCK]
    assert verify_pack(path) == []
    source = open_root(root)
    train = source.splits["train"]
    assert isinstance(train, FileSplit)
    assert train.pack(8) is not None
    assert all(map(torch.equal, before, read_all(source)))
    assert torch.equal(train.read([599, 3, 300, 4], 8), before[0][[599, 3, 300, 4]])


def test_a_shard_is_at_most_two_gibibytes() -> None:
    assert choose_shard_rows(256) == 42 * BLOCK
    assert choose_shard_rows(8) * 192 <= 2**31 < (choose_shard_rows(8) + BLOCK) * 192
    assert choose_shard_rows(4096) == BLOCK


def test_another_size_or_orientation_is_not_taken_from_the_pack(root: Path) -> None:
    pack_source(open_root(root), 8)
    names = NAMES[:3]
    assert find_pack(root, names, 8) is not None
    assert find_pack(root, names, 16) is None
    assert find_pack(root, names, 8, upright=True) is None
    assert find_pack(root, ["train/a/999.png"], 8) is None


def test_a_changed_file_makes_the_pack_stale(root: Path, write_images: WriteImages) -> None:
    pack_source(open_root(root), 8)
    write_images([NAMES[5]], root, size=9)
    train = open_root(root).splits["train"]
    assert isinstance(train, FileSplit)
    assert train.pack(8) is None
    assert train.read([5], 8).shape == (1, 3, 8, 8)


def test_a_file_of_the_same_size_that_was_changed_makes_the_pack_stale(root: Path) -> None:
    pack_source(open_root(root), 8)
    (root / NAMES[5]).touch()
    for packed in (False, True):
        train = open_root(root).splits["train"]
        assert isinstance(train, FileSplit)
        assert (train.pack(8) is not None) == packed
        pack_source(open_root(root), 8)


def test_images_that_changed_places_make_the_pack_stale(root: Path) -> None:
    """As ``mv`` and ``rsync -a`` do it: the times go along, and the sizes are equal."""
    pack_source(open_root(root), 8)
    first, second = root / "test/a/0.png", root / "test/b/0.png"
    second.write_bytes(first.read_bytes().ljust(second.stat().st_size, b"x"))
    sizes = {path.stat().st_size for path in (first, second)}
    pack_source(open_root(root), 8)
    assert find_pack(root, NAMES, 8) is not None
    first.rename(root / "aside.png")
    second.rename(first)
    (root / "aside.png").rename(second)
    assert len(sizes) == 1
    assert find_pack(root, NAMES, 8) is None


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("names", False),
        ("names", [["a"]]),
        ("names", ["a"] * 602),
        ("file_sizes", []),
        ("file_sizes", "nan"),
        ("file_times", [""] * 602),
        ("shard_rows", float("nan")),
        ("shard_rows", BLOCK + 1),
        ("size", True),
        ("blocks", ["0" * 64]),
        ("more", 1),
    ],
)
def test_a_description_with_other_values_is_refused(root: Path, key: str, value: object) -> None:
    path, _ = pack_source(open_root(root), 8)
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(
        DataError, match=f"is not the description of a pack: {key}|is not the description.*one name|sums"
    ):
        find_pack(root, NAMES, 8)


def test_a_description_under_the_name_of_another_size_is_passed_over(root: Path) -> None:
    path, _ = pack_source(open_root(root), 8)
    path.rename(path.with_name("folder-16.json"))
    assert find_pack(root, NAMES, 16) is None


@pytest.mark.parametrize(
    "change",
    [
        lambda data: b"",
        lambda data: data.replace(b"{'descr", b"\n  {'des\n"),
        lambda data: data.replace(b"{'descr", b"('descr"),
        lambda data: data.replace(b"'|u1'", b"'|i1'"),
        lambda data: data.replace(b"'|u1'", b"'|O' "),
        lambda data: data[:300],
    ],
)
def test_a_damaged_shard_is_said_to_be_one(root: Path, change: Callable[[bytes], bytes]) -> None:
    path, _ = pack_source(open_root(root), 8)
    shard = shard_path(path, 0)
    shard.write_bytes(change(shard.read_bytes()))
    with pytest.raises(DataError, match=r"folder-8\.000\.npy (cannot be read|has shape)"):
        find_pack(root, NAMES, 8)


def test_packing_goes_on_where_it_stopped(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = read_all(open_root(root))
    done: list[int] = []

    def stop(images: int) -> None:
        done.append(images)
        if len(done) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pack_source(open_root(root), 8, advance=stop)
    assert_from_files(open_root(root))
    folder = root / ".ltk-packs"
    assert sorted(path.name for path in folder.iterdir()) == ["folder-8.000.npy.part", "folder-8.blocks"]
    with (folder / "folder-8.blocks").open("a") as journal:
        journal.write("torn")
    for name in NAMES[:512]:
        spoil(root / name)  # blocks 0 and 1 must not be read again
    pack_source(open_root(root), 8)
    assert all(map(torch.equal, expected, read_all(open_root(root))))
    assert [path.name for path in sorted(folder.iterdir())] == ["folder-8.000.npy", "folder-8.json"]


def test_what_an_earlier_version_packed_is_not_used(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its pixels were resized otherwise: neither a finished pack nor the blocks of a stopped one are taken over."""

    def stop(images: int) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as earlier:
        earlier.setattr(pack_writer, "FORMAT", "ltk.pack/3")
        path, info = pack_source(open_root(root), 8)
        path.write_text(path.read_text().replace(FORMAT, "ltk.pack/3"))
        with pytest.raises(DataError, match="is not the description of a pack"):
            find_pack(root, info.names, 8)
        path.unlink()
        with pytest.raises(KeyboardInterrupt):
            pack_source(open_root(root), 8, advance=stop)
    assert (root / ".ltk-packs/folder-8.blocks").read_text()
    for name in NAMES[:BLOCK]:
        spoil(root / name)
    with pytest.raises(DataError, match=f"{BLOCK} images cannot be read"):
        pack_source(open_root(root), 8)


def test_a_damaged_partial_block_is_made_again(root: Path) -> None:
    expected = read_all(open_root(root))

    def stop(images: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pack_source(open_root(root), 8, advance=stop)
    partial = root / ".ltk-packs/folder-8.000.npy.part"
    data = bytearray(partial.read_bytes())
    data[500] ^= 255
    partial.write_bytes(bytes(data))
    pack_source(open_root(root), 8)
    assert all(map(torch.equal, expected, read_all(open_root(root))))


def test_unreadable_images_are_named_and_the_rest_is_kept(root: Path, write_images: WriteImages) -> None:
    good = (root / NAMES[300]).read_bytes()
    for i in (3, 300):
        (root / NAMES[i]).write_bytes(b"<html>")
    with pytest.raises(DataError, match="2 images cannot be read") as caught:
        pack_source(open_root(root), 8)
    assert NAMES[300] in caught.value.message
    assert_from_files(open_root(root))
    for i in (3, 300):
        (root / NAMES[i]).write_bytes(good)
    done: list[int] = []
    pack_source(open_root(root), 8, advance=done.append)
    assert sum(done) == 602


def test_flipped_bits_are_found(root: Path) -> None:
    path, _ = pack_source(open_root(root), 8)
    shard = shard_path(path, 0)
    data = bytearray(shard.read_bytes())
    data[-5] ^= 4
    shard.write_bytes(bytes(data))
    assert verify_pack(path) == [2]
    shard.write_bytes(bytes(data[:-100]))
    with pytest.raises(DataError, match="cannot be read"):
        verify_pack(path)
    path.write_text("{}")
    with pytest.raises(DataError, match="not the description of a pack"):
        read_info(path)


def test_a_disk_that_is_full_leaves_no_pack(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pack_writer, "_write_shards", fail)
    with pytest.raises(EnvironmentFault, match="disk full") as caught:
        pack_source(open_root(root), 8)
    assert caught.value.exit_code == 6
    assert_from_files(open_root(root))


def test_packs_of_read_only_folders_lie_under_the_data_root(root: Path) -> None:
    beside, elsewhere = pack_folders(root)
    assert beside == root / ".ltk-packs"
    write_pack(root, NAMES, 8, elsewhere / "folder-8.json")
    assert find_pack(root, NAMES, 8) is not None
    assert not beside.exists()


def test_the_description_lists_the_images(root: Path) -> None:
    path, info = pack_source(open_root(root), 8)
    fields = json.loads(path.read_text())
    assert fields["names"] == NAMES[:600] + NAMES[600:]
    assert fields["file_sizes"][1] == (root / NAMES[1]).stat().st_size
    assert fields["sha256"] == info.sha256


def test_sources_in_memory_need_no_pack() -> None:
    with pytest.raises(UsageError, match="nothing to pack"):
        pack_source(open_source("digits"), 8)
