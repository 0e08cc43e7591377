"""Resized crops are cut out of whole images, as in the papers, and are the same however they are read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as TF
from PIL import Image
from torch import Tensor

from ltk import draws
from ltk.config import RunConfig
from ltk.data.banks import DiskBank, MemoryBank
from ltk.data.files import FileSplit
from ltk.data.loaders import Loader
from ltk.data.samplers import create_sampler
from ltk.data.transforms import View, create_view
from ltk.data.views import steps
from ltk.data.views.recipes import RECIPES
from ltk.engine.build import build, plan_data
from ltk.engine.dry_run import estimate
from ltk.engine.streams import cut_whole
from ltk.errors import DataError
from ltk.resolve import resolve_config
from ltk.types import Batch

SIZE, STORED = 24, 28
SHAPES = [(40, 70), (70, 40), (28, 28), (200, 30), (33, 35), (90, 91)]
CROPPED = [name for name in RECIPES if create_view(name, size=SIZE, mean=[0.5] * 3, std=[0.5] * 3).crop]


def make_images(shapes: list[tuple[int, int]] = SHAPES) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(256, (3, *shape), dtype=torch.uint8, generator=generator) for shape in shapes]


def make_keys(count: int = len(SHAPES)) -> Tensor:
    return draws.fold(draws.make_key(5), torch.arange(count))


def make_view(recipe: str) -> View:
    return create_view(recipe, size=SIZE, mean=[0.5] * 3, std=[0.5] * 3)


@pytest.fixture
def split(tmp_path: Path) -> FileSplit:
    names = [f"{i}.png" for i in range(len(SHAPES))]
    for name, image in zip(names, make_images(), strict=True):
        TF.to_pil_image(image).save(tmp_path / name)
    return FileSplit(tmp_path, names, np.arange(len(SHAPES)) % 3)


@pytest.fixture
def create_loader(split: FileSplit) -> Callable[..., Loader]:
    def create(workers: int = 2, rank: int = 0, world: int = 1) -> Loader:
        bank = DiskBank(split, STORED, torch.device("cpu"), workers)
        views = [make_view("gala-imagenet"), make_view("none"), make_view("rrc-flip")]
        source = cut_whole(create_sampler("uniform", split.labels_N), views)
        return Loader(bank, {"main": source}, 4, drop_last=False, seed=3, rank=rank, world=world)

    return create


def collect(loader: Loader, start: int = 0) -> list[Batch]:
    return [batches["main"] for batches in loader.epoch(1, start)]


def test_the_recipes_that_start_with_a_resized_crop() -> None:
    assert set(CROPPED) == set(RECIPES) - {"none", "flip", "shift", "crop-flip", "crop-flip-autoaugment-cutout"}


@pytest.mark.parametrize("recipe", CROPPED)
def test_crops_of_whole_images_are_those_of_batches_of_one(recipe: str) -> None:
    images, keys, view = make_images(), make_keys(), make_view(recipe)
    crops = view.cut_crop(images, keys)
    assert crops.shape == (len(SHAPES), 3, SIZE, SIZE)
    alone = torch.cat([view(image[None], key[None]) for image, key in zip(images, keys, strict=True)])
    assert torch.equal(view.after_crop()(crops, keys), alone)


@pytest.mark.parametrize("border", [0, 4])
def test_crops_are_torchvisions(border: int) -> None:
    view = make_view("gala-imagenet" if border else "rrc-flip")
    assert view.crop
    images, keys = make_images(), make_keys()
    padded = [TF.pad(image, [border], padding_mode="reflect") for image in images]
    captured: list[Tensor] = []

    def remember(*arguments: object) -> Tensor:
        captured.append(draw(*arguments))  # type: ignore[arg-type]
        return captured[-1]

    draw = steps.draw_resized_crop
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(steps, "draw_resized_crop", remember)
        crops = view.cut_crop(images, keys)
    for crop, image, (top, left, height, width) in zip(crops, padded, captured[0].tolist(), strict=True):
        pil = TF.resized_crop(TF.to_pil_image(image), top, left, height, width, [SIZE, SIZE])
        assert (crop.int() - TF.pil_to_tensor(pil).int()).abs().max() <= 1


def test_batches_are_cut_from_the_files(split: FileSplit, create_loader: Callable[..., Loader]) -> None:
    (first, second) = collect(create_loader())
    assert len(first.views) == 3
    whole = split.read_whole(first.index_B.tolist())
    keys = draws.fold(draws.fold(draws.make_key(3), 0), 1, 1, torch.arange(4))
    view = make_view("rrc-flip")
    expected = [view(i[None], k[None]) for i, k in zip(whole, draws.fold(keys, 2), strict=True)]
    assert torch.equal(first.views[2], torch.cat(expected))
    stored = split.read(first.index_B.tolist(), STORED)
    assert torch.equal(first.views[1], make_view("none")(stored, keys))
    assert second.views[0].shape == (2, 3, SIZE, SIZE)


def test_workers_processes_and_resumes_cut_the_same(create_loader: Callable[..., Loader]) -> None:
    one = collect(create_loader(workers=1))
    for other in (collect(create_loader(workers=3)), [one[0], *collect(create_loader(), start=1)]):
        for a, b in zip(one, other, strict=True):
            assert all(torch.equal(x, y) for x, y in zip(a.views, b.views, strict=True))
    halves = [collect(create_loader(rank=rank, world=2)) for rank in range(2)]
    assert torch.equal(torch.cat([half[0].views[0] for half in halves]), one[0].views[0])


def test_a_stream_without_crops_beside_one_with_crops(split: FileSplit) -> None:
    sampler, plain = create_sampler("uniform", split.labels_N), make_view("none")
    streams = {"cut": cut_whole(sampler, [make_view("rrc-flip")]), "stored": cut_whole(sampler, [plain])}
    loader = Loader(DiskBank(split, STORED, torch.device("cpu"), 2), streams, 3, drop_last=False, seed=0)
    for batches in loader.epoch(0):
        batch = batches["stored"]
        stored = split.read(batch.index_B.tolist(), STORED)
        assert torch.equal(batch.views[0], plain(stored, batch.key_B))


def test_every_unreadable_file_of_a_batch_is_named(split: FileSplit, tmp_path: Path) -> None:
    for name in ("1.png", "3.png"):
        (tmp_path / name).write_bytes(b"no image")
    with pytest.raises(DataError, match=r"2 images cannot be read(.|\n)*1\.png(.|\n)*3\.png"):
        split.read_whole(range(6))


def make_photos(root: Path) -> Path:
    """Wide photographs, blue in the central square and red beside it."""
    pixels = np.zeros((150, 300, 3), np.uint8)
    pixels[..., 0] = 255
    pixels[:, 75:225] = (0, 0, 255)
    for part, images in (("train", 6), ("test", 2)):
        for name in ("ash", "oak"):
            (root / part / name).mkdir(parents=True)
            for i in range(images):
                Image.fromarray(pixels).save(root / part / name / f"{i}.png")
    return root


def configure(root: Path, *overrides: str) -> RunConfig:
    settings = ["data.image_size=64", "model.backbone=test_resnet", "views.recipes=['rrc-flip']", *overrides]
    return resolve_config("ce", dataset="folder", root=root, overrides=[*settings, "optim.batch_size=12"]).config


def redness(config: RunConfig) -> float:
    loader = build(plan_data(config)).loader
    x_BCHW = next(loader.epoch(0))["main"].views[0]
    return float((x_BCHW[:, 0] > x_BCHW[:, 2]).float().mean())


def test_a_run_sees_whole_photographs_unless_told_otherwise(tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos")
    assert redness(configure(photos)) > 0.2
    assert redness(configure(photos, "data.full_resolution=false")) == 0
    for overrides, kind in (
        (["data.full_resolution=false"], MemoryBank),
        (["views.recipes=['crop-flip']"], MemoryBank),
    ):
        assert type(build(plan_data(configure(photos, *overrides))).loader.bank) is kind


def test_images_that_are_stored_whole_stay_in_memory() -> None:
    config = resolve_config("ce", dataset="digits", overrides=["views.recipes=['simclr']"]).config
    assert isinstance(build(plan_data(config)).loader.bank, MemoryBank)


def test_a_dry_run_reads_as_training_does(tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos")
    cut = estimate(configure(photos), seconds=0.1).figures
    assert "cut out of the files" in cut["images in memory"]
    assert "per epoch" in cut["reading"]
    stored = estimate(configure(photos, "data.full_resolution=false"), seconds=0.1).figures
    assert "once" in stored["reading"]
