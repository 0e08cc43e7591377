from __future__ import annotations

import contextlib
import io
import os
import random
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import v2

from ltk.data import decode
from ltk.data.decode import UnreadableImageError, decode_image, fit_square, read_image, read_images
from ltk.errors import DataError

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8)


def encode(image: Image.Image, format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def pillow(data: bytes) -> torch.Tensor:
    return torch.from_numpy(np.array(Image.open(io.BytesIO(data)).convert("RGB"))).permute(2, 0, 1)


def colour() -> Image.Image:
    return Image.fromarray(PIXELS)


ZOO = {
    "jpeg": encode(colour(), "JPEG"),
    "progressive jpeg": encode(colour(), "JPEG", progressive=True),
    "grey jpeg": encode(colour().convert("L"), "JPEG"),
    "cmyk jpeg": encode(colour().convert("CMYK"), "JPEG"),
    "png": encode(colour(), "PNG"),
    "grey png": encode(colour().convert("L"), "PNG"),
    "rgba png": encode(colour().convert("RGBA"), "PNG"),
    "grey alpha png": encode(colour().convert("LA"), "PNG"),
    "palette png": encode(colour().convert("P"), "PNG"),
    "palette with transparency": encode(colour().convert("P"), "PNG", transparency=3),
    "two-level png": encode(colour().convert("1"), "PNG"),
    "gif": encode(colour(), "GIF"),
    "bmp": encode(colour(), "BMP"),
    "webp": encode(colour(), "WEBP"),
    "tiff": encode(colour(), "TIFF"),
    "lab tiff": encode(colour().convert("YCbCr"), "TIFF"),
    "ppm": encode(colour(), "PPM"),
}


@pytest.mark.parametrize("name", ZOO)
def test_formats_decode_as_pillow_does(name: str) -> None:
    image = decode_image(ZOO[name])
    assert image.shape == (3, 20, 24)
    assert image.dtype == torch.uint8
    difference = (image.int() - pillow(ZOO[name]).int()).abs()
    assert difference.max() <= (2 if "jpeg" in name else 0)


@pytest.mark.parametrize("name", ZOO)
def test_pillow_alone_gives_the_same_pixels(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fast = decode_image(ZOO[name])
    monkeypatch.setattr(decode, "_FAST", False)
    assert (decode_image(ZOO[name]).int() - fast.int()).abs().max() <= 2


def test_sixteen_bit_grey_is_scaled() -> None:
    ramp = np.linspace(0, 65535, 400).reshape(20, 20).astype(np.uint16)
    image = decode_image(encode(Image.fromarray(ramp), "PNG"))
    expected = np.round(ramp / 257)
    assert np.abs(image[0].numpy() - expected).max() <= 1
    assert image.float().mean() == pytest.approx(127.5, abs=1)


def test_the_first_frame_of_an_animation_is_taken() -> None:
    frames = [colour(), Image.new("RGB", (24, 20), "red")]
    for format in ("GIF", "WEBP", "PNG"):
        data = encode(frames[0], format, save_all=True, append_images=frames[1:], lossless=True)
        still = decode_image(encode(frames[0], format, lossless=True))
        assert (decode_image(data).int() - still.int()).abs().float().mean() < 3


def test_exif_orientation_is_ignored_unless_asked_for() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned a quarter
    data = encode(colour(), "JPEG", exif=exif)
    assert decode_image(data).shape == (3, 20, 24)
    turned = decode_image(data, upright=True)
    assert turned.shape == (3, 24, 20)
    assert (turned.int() - decode_image(data).int().rot90(-1, (1, 2))).abs().max() <= 2


def png_with_size(width: int, height: int) -> bytes:
    """A PNG that claims this size, and is too short for it."""
    data = bytearray(encode(colour(), "PNG"))
    data[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    return bytes(data)


def jpeg_with_size(width: int, height: int) -> bytes:
    data = ZOO["jpeg"]
    at = data.index(b"\xff\xc0")
    return data[: at + 5] + height.to_bytes(2, "big") + width.to_bytes(2, "big") + data[at + 9 :]


BROKEN = {
    "html": (b"<!DOCTYPE html><p>quota exceeded", "web page"),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\n", "git-lfs pointer"),
    "random": (bytes(range(1, 200)), "not an image"),
    "jpeg start": (b"\xff\xd8\xff\xe0", "JPEG"),
    "jpeg cut by two bytes": (ZOO["jpeg"][:-2], "truncated JPEG"),
    "jpeg cut in half": (ZOO["jpeg"][: len(ZOO["jpeg"]) // 2], "JPEG"),
    "png cut by two bytes": (ZOO["png"][:-2], "PNG"),
    "png cut in half": (ZOO["png"][: len(ZOO["png"]) // 2], "PNG"),
    "palette png cut": (ZOO["palette png"][:-200], "damaged"),
    "webp cut": (ZOO["webp"][:-100], "damaged|not an image"),
    "gif cut": (ZOO["gif"][: len(ZOO["gif"]) // 2], "damaged|not an image"),
    "float tiff": (encode(Image.fromarray(PIXELS[:, :, 0].astype(np.float32)), "TIFF"), "mode F"),
    "32-bit tiff": (encode(Image.fromarray(PIXELS[:, :, 0].astype(np.int32)), "TIFF"), "mode I"),
    "one pixel": (encode(Image.new("RGB", (1, 1)), "PNG"), "1x1 pixels is too small"),
    "a line": (encode(Image.new("RGB", (300, 1)), "JPEG"), "300x1 pixels is too small"),
    "png bomb": (png_with_size(12_000, 12_000), "12000x12000 pixels is larger"),
    "jpeg bomb": (jpeg_with_size(60_000, 60_000), "60000x60000 pixels is larger"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_cannot_be_read_in_full_is_refused(name: str) -> None:
    data, words = BROKEN[name]
    with pytest.raises(UnreadableImageError, match=words):
        decode_image(data)


@pytest.mark.parametrize("name", BROKEN)
def test_pillow_alone_refuses_it_too(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "_FAST", False)
    with pytest.raises(UnreadableImageError):
        decode_image(BROKEN[name][0])


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    (tmp_path / "dangling.jpg").symlink_to("nowhere")
    faults = {"pipe": "regular", "folder": "directory", "empty": "empty", "loop": "symbolic", "dangling": "No such"}
    for name, words in faults.items():
        with pytest.raises(UnreadableImageError, match=words):
            read_image(tmp_path / f"{name}.jpg")


@pytest.mark.parametrize("threads", [1, 3])
def test_all_unreadable_files_are_reported_together(tmp_path: Path, threads: int) -> None:
    paths = []
    for i in range(100):
        path = tmp_path / f"{i}.jpg"
        path.write_bytes(b"<html>" if i % 40 == 5 else ZOO["jpeg"])
        paths.append(path)
    with pytest.raises(DataError) as caught:
        read_images(paths, 16, threads=threads)
    assert caught.value.message.startswith("3 images cannot be read")
    assert all(f"{i}.jpg: not an image" in caught.value.message for i in (5, 45, 85))
    good = [path for path in paths if path.stem not in ("5", "45", "85")]
    images = read_images(good, 16, threads=threads)
    assert images.shape == (97, 3, 16, 16)
    assert torch.equal(images[0], images[96])


def test_squares_keep_the_middle() -> None:
    image = torch.zeros(3, 10, 30, dtype=torch.uint8)
    image[:, :, 10:20] = 200
    assert torch.equal(fit_square(image, 10), image[:, :, 10:20])
    assert fit_square(image, 20).float().mean() > 180
    same = torch.arange(12, dtype=torch.uint8).reshape(3, 2, 2)
    assert fit_square(same, 2) is same


SHAPES = [(640, 427), (427, 640), (1024, 683), (500, 332), (500, 375), (333, 500), (257, 256), (300, 40), (31, 997)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("size", [256, 224, 36, 33])
def test_squares_are_those_of_torchvision(shape: tuple[int, int], size: int) -> None:
    image = torch.randint(0, 256, (3, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    theirs = v2.CenterCrop(size)(v2.Resize(size, antialias=True)(image))
    assert torch.equal(fit_square(image, size), theirs)


@settings(deadline=None, max_examples=300)
@given(st.integers(2, 400), st.integers(2, 400), st.integers(2, 64))
def test_squares_are_cut_where_torchvision_cuts(height: int, width: int, size: int) -> None:
    """Ramps tell which rows and columns are kept, also where the long side has an odd surplus."""
    ramp = (torch.arange(height)[:, None] * 7 + torch.arange(width) * 3).remainder(256).to(torch.uint8)
    theirs = v2.CenterCrop(size)(v2.Resize(size, antialias=True)(ramp[None]))
    assert torch.equal(fit_square(ramp[None], size), theirs)


def test_large_images_are_resized_and_cropped_as_pillow_does() -> None:
    smooth = colour().resize((500, 375), Image.Resampling.BICUBIC)
    tensor = torch.from_numpy(np.array(smooth)).permute(2, 0, 1)
    expected = smooth.resize((85, 64), Image.Resampling.BILINEAR).crop((10, 0, 74, 64))
    difference = (fit_square(tensor, 64).int() - torch.from_numpy(np.array(expected)).permute(2, 0, 1).int()).abs()
    assert difference.float().mean() < 0.5
    assert difference.max() <= 2


@pytest.mark.parametrize("name", ZOO)
def test_flipped_bits_are_refused_or_read(name: str) -> None:
    """And nothing else: a decoder that dies of them takes the test with it."""
    chance = random.Random(name)
    for _ in range(100):
        data = bytearray(ZOO[name])
        for _ in range(chance.choice((1, 1, 8))):
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        with contextlib.suppress(UnreadableImageError):
            assert decode_image(bytes(data)).shape[0] == 3


@pytest.mark.parametrize("place", [0.3, 0.5, 0.9])
def test_a_png_with_a_flipped_bit_is_refused(place: float) -> None:
    data = bytearray(ZOO["png"])
    data[int(len(data) * place)] ^= 1
    with pytest.raises(UnreadableImageError, match="damaged"):
        decode_image(bytes(data))


def test_no_program_is_started_for_a_file_with_a_harmless_name() -> None:
    with pytest.raises(UnreadableImageError, match="not an image"):
        decode_image(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n")
