"""Batches are pure functions of (seed, stream, epoch, position)."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from PIL import Image
from torch import Tensor

from ltk.data import banks
from ltk.data.banks import Bank, DiskBank, MemoryBank, free_memory, open_bank
from ltk.data.base import ArraySplit, IntArray
from ltk.data.files import FileSplit
from ltk.data.loaders import Loader, StreamSource
from ltk.data.samplers import create_sampler
from ltk.data.transforms import create_view
from ltk.errors import DataError
from ltk.types import Batch

IMAGES = 50


def create_split(images: int = IMAGES) -> ArraySplit:
    pixels = np.random.RandomState(0).randint(0, 256, (images, 3, 8, 8)).astype(np.uint8)
    return ArraySplit(pixels, np.arange(images) % 5, "x")


def create_loader(
    batch_size: int = 8,
    *,
    drop_last: bool = False,
    seed: int = 0,
    rank: int = 0,
    world: int = 1,
    images: int = IMAGES,
    workers: int = 0,
) -> Loader:
    split = create_split(images)
    view = create_view("crop-flip", size=8, mean=(0.5,) * 3, std=(0.5,) * 3)
    streams = {
        "main": StreamSource(create_sampler("uniform", split.labels_N), [view, view]),
        "other": StreamSource(create_sampler("power", split.labels_N, q=1.0), [view]),
    }
    cpu = torch.device("cpu")
    bank: Bank = DiskBank(split, 8, cpu, workers) if workers else MemoryBank(split, 8, cpu)
    return Loader(bank, streams, batch_size, drop_last=drop_last, seed=seed, rank=rank, world=world)


def collect(loader: Loader, epoch: int, start: int = 0, stream: str = "main") -> list[Batch]:
    return [batches[stream] for batches in loader.epoch(epoch, start)]


def assert_same(first: list[Batch], second: list[Batch]) -> None:
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a.index_B, b.index_B)
        assert torch.equal(a.key_B, b.key_B)
        assert all(torch.equal(x, y) for x, y in zip(a.views, b.views, strict=True))


def test_an_epoch_visits_every_image_once() -> None:
    batches = collect(create_loader(), 0)
    assert sorted(torch.cat([batch.index_B for batch in batches]).tolist()) == list(range(IMAGES))
    assert [len(batch.target_B) for batch in batches] == [8] * 6 + [2]
    assert all(torch.equal(batch.target_B, batch.index_B % 5) for batch in batches)


def test_epochs_and_seeds_differ_and_repeat() -> None:
    assert_same(collect(create_loader(), 3), collect(create_loader(), 3))
    order = collect(create_loader(), 3)[0].index_B
    assert not torch.equal(order, collect(create_loader(), 4)[0].index_B)
    assert not torch.equal(order, collect(create_loader(seed=1), 3)[0].index_B)


@pytest.mark.parametrize("stream", ["main", "other"])
def test_an_epoch_can_be_entered_anywhere(stream: str) -> None:
    whole = collect(create_loader(), 2, stream=stream)
    assert_same(whole[4:], collect(create_loader(), 2, start=4, stream=stream))


def test_the_views_of_a_stream_differ_and_streams_differ() -> None:
    (batch, *_), (other, *_) = collect(create_loader(), 0), collect(create_loader(), 0, stream="other")
    assert not torch.equal(batch.views[0], batch.views[1])
    assert not torch.equal(batch.key_B, other.key_B)


@pytest.mark.parametrize(
    ("images", "batch_size", "drop_last", "steps"), [(50, 8, True, 6), (50, 10, True, 5), (49, 8, False, 6)]
)
def test_last_batch(images: int, batch_size: int, drop_last: bool, steps: int) -> None:
    """The third case: a last batch of one image is left out, batch normalisation cannot take it."""
    loader = create_loader(batch_size, drop_last=drop_last, images=images)
    batches = collect(loader, 0)
    assert loader.steps == len(batches) == steps
    assert all(len(batch.target_B) == batch_size for batch in batches)


@pytest.mark.parametrize(("world", "images"), [(2, 52), (4, 48)])
def test_processes_together_see_what_one_sees(world: int, images: int) -> None:
    whole = collect(create_loader(images=images), 1)
    parts = [collect(create_loader(rank=rank, world=world, images=images), 1) for rank in range(world)]
    assert {len(part) for part in parts} == {len(whole)}
    for step, batch in enumerate(whole):
        joined = torch.cat([part[step].index_B for part in parts])
        assert sorted(joined.tolist()) == sorted(batch.index_B.tolist())
        views = {int(i): x for part in parts for i, x in zip(part[step].index_B, part[step].views[0], strict=True)}
        assert all(torch.equal(views[int(i)], x) for i, x in zip(batch.index_B, batch.views[0], strict=True))


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("stream", ["main", "other"])
def test_images_from_the_disk_are_those_from_memory(workers: int, stream: str) -> None:
    """Neither where images wait nor how many threads read them changes a batch."""
    assert_same(collect(create_loader(), 2, stream=stream), collect(create_loader(workers=workers), 2, stream=stream))


def reading_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("ltk-read")]


def test_readers_end_with_the_epoch_and_with_a_broken_off_one() -> None:
    loader = create_loader(workers=3)
    collect(loader, 0)
    assert reading_threads() == []
    batches = loader.epoch(1)
    next(batches)
    assert reading_threads()
    batches.close()
    assert reading_threads() == []


def test_an_image_that_cannot_be_read_ends_the_epoch_by_name() -> None:
    class Broken(ArraySplit):
        def read(self, indices: Sequence[int] | IntArray, size: int) -> Tensor:
            raise DataError("x/7 cannot be read")

    images = np.zeros((IMAGES, 3, 8, 8), np.uint8)
    bank = DiskBank(Broken(images, np.zeros(IMAGES), "x"), 8, torch.device("cpu"), 2)
    with pytest.raises(DataError, match="x/7"):
        list(bank.stream([torch.arange(4)]))


def test_a_split_too_large_for_memory_stays_on_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu, split = torch.device("cpu"), create_split()
    assert isinstance(open_bank(split, 8, 3, cpu), MemoryBank)
    monkeypatch.setattr("ltk.data.banks.free_memory", lambda device: 2 * IMAGES * 3 * 64)
    assert isinstance(open_bank(split, 8, 3, cpu), DiskBank)


def test_free_memory_is_a_number_of_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU the half of this process's share, on a GPU what is free there."""
    assert 10**7 < free_memory(torch.device("cpu")) < 10**14
    monkeypatch.setattr(banks, "host_memory", lambda: 1000)
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda device: (700 + device.index, 9000))
    assert free_memory(torch.device("cpu")) == 500
    assert free_memory(torch.device("cuda:1")) == 701


def test_images_are_read_into_memory_part_by_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that those that fit a GPU need not fit the memory of the machine."""

    class Counted(ArraySplit):
        def read(self, indices: Sequence[int] | IntArray, size: int) -> Tensor:
            parts.append(len(indices))
            return super().read(indices, size)

    parts: list[int] = []
    monkeypatch.setattr(banks, "_READ_AT_ONCE", 20)
    split = create_split()
    bank = MemoryBank(Counted(split._images_NCHW, split.labels_N, "x"), 8, torch.device("cpu"))
    assert parts == [20, 20, 10]
    assert torch.equal(bank.images_NCHW, split.read(range(IMAGES), 8))


def test_readers_share_the_cores_with_other_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(banks, "free_memory", lambda device: 0)
    monkeypatch.setattr(banks, "count_cores", lambda: 3)
    for workers, threads in ((0, 3), (5, 5)):
        bank = open_bank(create_split(), 8, 3, torch.device("cpu"), workers)
        assert isinstance(bank, DiskBank)
        images = bank.stream(torch.arange(IMAGES).split(10))
        next(images)
        assert len(reading_threads()) == threads
        list(images)


def test_memory_stays_flat_over_twenty_epochs_from_the_disk(tmp_path: Path) -> None:
    labels = np.arange(60) % 3
    for i, label in enumerate(labels):
        pixels = np.random.RandomState(i).randint(0, 256, (96, 96, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}-{label}.jpg")
    names = [f"{i}-{label}.jpg" for i, label in enumerate(labels)]
    bank = DiskBank(FileSplit(tmp_path, names, labels), 64, torch.device("cpu"), workers=2)
    requests = [torch.arange(60).roll(7 * i) for i in range(4)]
    resident = []
    for _ in range(20):
        assert sum(len(images) for images in bank.stream(requests)) == 240
        resident.append(psutil.Process().memory_info().rss)
    assert resident[-1] - resident[4] < 20 * 2**20
    assert reading_threads() == []
