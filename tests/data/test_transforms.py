"""Views: the recipes by name, purity, shapes, errors; what each draws and computes is tested beside this file."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms import functional as TF

from ltk import draws
from ltk.data import transforms
from ltk.data.transforms import RECIPES, create_eval_view, create_view, recipe_options
from ltk.data.views import batching, geometry, resampling
from ltk.errors import DataError, UsageError

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
RANDOM_RECIPES = sorted(set(RECIPES) - {"none"})


def make_images(count: int, side: int, channels: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand(count, channels, 5, 5, generator=generator)
    noise = torch.rand(count, channels, side, side, generator=generator)
    smooth = F.interpolate(coarse, (side, side), mode="bicubic").clamp(0, 1)
    return (230 * smooth + 25 * noise).to(torch.uint8)


def make_keys(count: int, seed: int = 0) -> Tensor:
    return draws.fold(draws.make_key(seed), torch.arange(count))


@pytest.fixture
def static_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (batching, resampling, transforms):
        monkeypatch.setattr(module, "has_static_shapes", lambda device: True)


@pytest.mark.parametrize("recipe", RECIPES)
def test_view_is_float32_of_the_asked_size_and_leaves_its_input_alone(recipe: str) -> None:
    images, keys = make_images(6, 40), make_keys(6)
    before = images.clone()
    x = create_view(recipe, size=32, mean=MEAN, std=STD)(images, keys)
    assert x.shape == (6, 3, 32, 32)
    assert x.dtype == torch.float32
    assert torch.equal(images, before)


@pytest.mark.parametrize("recipe", RECIPES)
def test_view_is_a_function_of_image_and_key_alone(recipe: str) -> None:
    images, keys = make_images(24, 32), make_keys(24)
    view = create_view(recipe, size=32, mean=MEAN, std=STD)
    x = view(images, keys)
    assert torch.equal(x, view(images, keys))
    order = torch.randperm(24, generator=torch.Generator().manual_seed(0))
    assert torch.equal(x[order], view(images[order], keys[order]))
    assert torch.equal(x[:1], view(images[:1], keys[:1]))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(x, view(images, keys))


@pytest.mark.parametrize("recipe", RECIPES)
def test_static_shapes_give_the_same_pixels(recipe: str, request: pytest.FixtureRequest) -> None:
    images, keys = make_images(24, 36), make_keys(24)
    view = create_view(recipe, size=32, mean=MEAN, std=STD)
    x = view(images, keys)
    request.getfixturevalue("static_shapes")
    assert torch.equal(x, view(images, keys))


@pytest.mark.parametrize("recipe", ["crop-flip-autoaugment-cutout", "simclr"])
@pytest.mark.usefixtures("static_shapes")
def test_static_shapes_trace_into_one_graph(recipe: str) -> None:
    images, keys = make_images(4, 32), make_keys(4)
    view = create_view(recipe, size=32, mean=MEAN, std=STD)
    eager = view(images, keys)
    assert torch.equal(eager, torch.compile(view, backend="aot_eager", fullgraph=True)(images, keys))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("recipe", RECIPES)
def test_gpu_gives_the_cpu_pixels_without_synchronising(recipe: str) -> None:
    images, keys = make_images(24, 36), make_keys(24)
    view = create_view(recipe, size=32, mean=MEAN, std=STD)
    on_gpu, gpu_keys = images.cuda(), keys.cuda()
    view(on_gpu, gpu_keys)
    torch.cuda.set_sync_debug_mode("error")
    try:
        drawn, x = view.draw(on_gpu, gpu_keys), view(on_gpu, gpu_keys)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    difference = (drawn.cpu().int() - view.draw(images, keys).int()).abs()
    assert (difference > 0).float().mean() < 1e-3
    assert torch.equal(x.cpu(), transforms.normalise(drawn.cpu(), MEAN, STD))


@pytest.mark.parametrize("recipe", RANDOM_RECIPES)
def test_images_of_a_batch_are_changed_differently(recipe: str) -> None:
    images = make_images(1, 40).expand(64, -1, -1, -1)
    x = create_view(recipe, size=32, mean=MEAN, std=STD)(images, make_keys(64))
    distinct = len({row.numpy().tobytes() for row in x})
    assert distinct >= {"flip": 2, "shift": 20}.get(recipe, 30)


def test_crop_flip_equals_torchvision_image_by_image() -> None:
    images, keys = make_images(40, 32), make_keys(40)
    x = create_view("crop-flip", size=32, mean=MEAN, std=STD)(images, keys)
    step_keys = draws.fold(keys, 0)
    offsets = draws.randint(step_keys, torch.tensor([9, 9, 2]), 3).tolist()
    for image, result, (top, left, coin) in zip(images, x, offsets, strict=True):
        pil = TF.crop(TF.pad(TF.to_pil_image(image), [4]), top, left, 32, 32)
        pil = TF.hflip(pil) if coin else pil
        assert torch.equal(result, TF.normalize(TF.to_tensor(pil), MEAN, STD))


def test_crop_flip_windows_reach_every_corner() -> None:
    images = make_images(4, 40)
    top, left = torch.tensor([0, 8, 0, 8]), torch.tensor([0, 0, 8, 8])
    crops = geometry.crop_flip(images, top, left, torch.tensor([False, True, False, True]), 32)
    for image, crop, i, j, mirrored in zip(images, crops, top, left, (0, 1, 0, 1), strict=True):
        window = image[:, i : i + 32, j : j + 32]
        assert torch.equal(crop, window.flip(2) if mirrored else window)


def test_reflect_padding_mirrors_without_repeating_the_edge() -> None:
    images = make_images(2, 16)
    expected = torch.stack([TF.pad(image, [4], padding_mode="reflect") for image in images])
    assert torch.equal(geometry.pad(images, 4, "reflect"), expected)


def test_eval_view_is_the_central_square_normalised() -> None:
    images = make_images(5, 41)
    x = create_eval_view(32, MEAN, STD)(images)
    expected = torch.stack([TF.normalize(TF.center_crop(i, [32, 32]).float() / 255, MEAN, STD) for i in images])
    assert torch.equal(x, expected)
    assert torch.equal(create_view("none", size=32, mean=MEAN, std=STD)(images, make_keys(5)), x)


def test_one_channel_images_work_in_every_recipe() -> None:
    images, keys = make_images(8, 12, channels=1), make_keys(8)
    for recipe in RECIPES:
        assert create_view(recipe, size=12, mean=[0.5], std=[0.25])(images, keys).shape == (8, 1, 12, 12)


def test_large_batches_are_worked_through_in_pieces_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    images, keys = make_images(9, 32), make_keys(9)
    view = create_view("simclr", size=32, mean=MEAN, std=STD)
    whole = view(images, keys)
    monkeypatch.setattr(transforms, "_CACHED_VALUES", 4 * images[0].numel())
    assert torch.equal(whole, view(images, keys))


@pytest.mark.parametrize(
    ("recipe", "options", "message"),
    [
        ("crop-flipp", {}, "crop-flip"),
        ("simclr", {"blur": 0.2}, "blur_p"),
        ("simclr", {"blur_p": 1.5}, "less than or equal to 1"),
        ("crop-flip-autoaugment-cutout", {"autoaugment": "google"}, "torchvision"),
        ("randcls", {"randaugment_n": "two"}, "randaugment_n"),
    ],
)
def test_bad_recipes_and_options_are_named(recipe: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        create_view(recipe, size=32, mean=MEAN, std=STD, **options)
    assert message in caught.value.message + caught.value.hint


def test_stored_images_smaller_than_the_view_are_refused() -> None:
    with pytest.raises(DataError, match="16x16"):
        create_view("none", size=32, mean=MEAN, std=STD)(make_images(1, 16), make_keys(1))


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_option_changes_the_view(recipe: str) -> None:
    other: dict[str, object] = {
        "padding": 2, "autoaugment": "torchvision", "fill": 0, "cutout": 8, "scale_min": 0.9, "jitter": 0.1, "hue": 0.4,
        "jitter_p": 0.1, "gray_p": 1.0, "blur_p": 0.0, "randaugment_n": 1, "randaugment_m": 3,
    }  # fmt: skip
    images, keys = make_images(64, 32), make_keys(64)
    usual = create_view(recipe, size=32, mean=MEAN, std=STD).draw(images, keys)
    for name in recipe_options(recipe):
        changed = create_view(recipe, size=32, mean=MEAN, std=STD, **{name: other[name]}).draw(images, keys)
        assert not torch.equal(usual, changed), name


_RRC, _AA, _RA = "ResizedCrop", "autoaugment_cifar10", "randaugment"


@pytest.mark.parametrize(
    ("recipe", "names"),
    [
        ("crop-flip", ["random_crop"]),
        ("crop-flip-autoaugment-cutout", ["random_crop", _AA, "cutout"]),
        ("simclr", [_RRC, "flip", "colour_jitter", "random_grayscale", "random_blur"]),
        ("rrc-flip-jitter", [_RRC, "flip", "colour_jitter"]),
        ("glmc-imagenet", [_RRC, "colour_jitter", "random_grayscale", "random_blur", "flip"]),
        ("sim", [_RRC, "colour_jitter", "random_grayscale", "random_blur", "flip"]),
        ("randcls", [_RRC, "flip", "colour_jitter", _RA]),
        ("randclsstack", [_RRC, "flip", "colour_jitter", "random_grayscale", "random_blur", _RA]),
        ("gala-imagenet", [_RRC, "flip", "colour_jitter", _RA]),
    ],
)
def test_steps_come_in_the_order_of_the_papers(recipe: str, names: list[str]) -> None:
    steps = create_view(recipe, size=32, mean=MEAN, std=STD).steps
    assert [getattr(step, "__qualname__", type(step).__qualname__).partition(".")[0] for step in steps] == names


def test_default_options_are_those_of_the_papers() -> None:
    large = {"scale_min": 0.08, "jitter": 0.4}
    gray_blur = {"gray_p": 0.2, "blur_p": 0.5}
    layers = {"randaugment_n": 2, "randaugment_m": 10.0}
    assert recipe_options("crop-flip-autoaugment-cutout") == {
        "padding": 4, "autoaugment": "deepvoltaire", "fill": 128, "cutout": 16,
    }  # fmt: skip
    assert recipe_options("simclr") == {"scale_min": 0.2, "jitter": 0.4, "hue": 0.1, "jitter_p": 0.8, **gray_blur}
    assert recipe_options("glmc-imagenet") == {**large, **gray_blur}
    assert recipe_options("randcls") == {**large, **layers}
    assert recipe_options("randclsstack") == {**large, **gray_blur, **layers}
    assert recipe_options("gala-imagenet") == {"padding": 4, **large, **layers}
