"""Image files to uint8 tensors, strictly: what cannot be read in full is an error that names the file.

JPEG goes through torchvision's decoder where it exists, everything else through Pillow (equal pixels, a third of the
speed; torchvision's decoder of PNG dies of damaged files). The first frame is taken, EXIF orientation is ignored
unless asked for (as in all published pipelines; that of TIFF Pillow always follows), 16-bit grey is scaled to 8 bit,
palettes, CMYK and alpha are converted. Refused are 32-bit and float images, whose range is unknown, and TIFF in a fax
compression, whose damage libtiff hides. Nothing is ever padded, repaired or replaced by another image.
"""

from __future__ import annotations

import functools
import io
import struct
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import BITSPERSAMPLE, PHOTOMETRIC_INTERPRETATION, TiffImageFile
from torch import Tensor
from torchvision.io import ImageReadMode
from torchvision.transforms.v2.functional import center_crop, resize

from ltk.data.base import count_of
from ltk.errors import DataError
from ltk.files import read_bytes
from ltk.machine import count_cores

MAX_PIXELS = 1 << 27  # 134 megapixels, 400 MB decoded: more is taken for a decompression bomb
MIN_SIDE = 2
_CHUNK = 32
_THREADED_SIZE = 64
_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_END = b"IEND\xaeB`\x82"
# The operator behind torchvision.io.decode_jpeg, whose wrapper warns that it will go some day.
_FAST = hasattr(torch.ops.image, "decode_jpeg")
# What Pillow may take a file for, whatever its name: among the others are some that start programs (EPS: Ghostscript).
_FORMATS = ("PNG", "JPEG", "MPO", "BMP", "DIB", "GIF", "WEBP", "TIFF", "PPM", "JPEG2000", "AVIF", "TGA", "ICO", "PCX")
# What Pillow's decoders raise on damaged files.
_DAMAGE = (OSError, ValueError, SyntaxError, struct.error, EOFError, IndexError, TypeError, KeyError, RuntimeError)
_BLACK = 1  # what 0 is in a TIFF whose photometric interpretation is this
_FAX = ("tiff_ccitt", "group3", "group4")
_FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# Once, because a filter for each image would be that of all threads: sizes are checked below, the rest is metadata.
warnings.filterwarnings("ignore", module=r"PIL\.")


class UnreadableImageError(Exception):
    """Why one image cannot be read; ``read_images`` gathers them into one DataError."""


def read_image(path: Path | str, *, upright: bool = False) -> Tensor:
    """Return an image as uint8 [3, H, W].

    Args:
        path: the file; its content decides the format, not its suffix.
        upright: turn the image as its EXIF orientation says.

    Raises:
        UnreadableImageError: not a regular file, not an image, damaged, truncated, too large or too small.
    """
    return decode_image(_read_file(path), upright=upright)


def decode_image(data: bytes, *, upright: bool = False) -> Tensor:
    """Return encoded image bytes as uint8 [3, H, W]; see ``read_image``."""
    if data[:8] == _PNG and data.rfind(_PNG_END) < 0:  # libraries do not miss the very end
        raise UnreadableImageError("damaged or truncated PNG")
    if _FAST and not upright and data[:2] == b"\xff\xd8":
        height, width, components = _jpeg_header(data)
        _check_size(height, width)
        if components != 4:
            return _decode_jpeg(data)
    return _decode_with_pillow(data, upright)


def _read_file(path: Path | str) -> bytes:
    try:
        data = read_bytes(path)
    except OSError as error:
        raise UnreadableImageError(error.strerror or str(error)) from error
    if not data:
        raise UnreadableImageError("empty file")
    return data


def _decode_jpeg(data: bytes) -> Tensor:
    encoded = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    try:
        image: Tensor = torch.ops.image.decode_jpeg(encoded, ImageReadMode.RGB.value, False)
        return image
    except RuntimeError as error:
        raise UnreadableImageError("damaged or truncated JPEG") from error


def _decode_with_pillow(data: bytes, upright: bool) -> Tensor:
    try:
        image = Image.open(io.BytesIO(data), formats=_known_formats())
        _check_size(image.height, image.width)
        if image.info.get("compression") in _FAX:
            raise UnreadableImageError("damage of a fax compression cannot be noticed; convert it to PNG")
        image.load()
        if upright:
            ImageOps.exif_transpose(image, in_place=True)  # a new image would not know its format
        return torch.from_numpy(np.array(_to_rgb(image))).permute(2, 0, 1).contiguous()
    except Image.DecompressionBombError as error:
        raise UnreadableImageError("more pixels than any photograph has") from error
    except UnidentifiedImageError as error:
        raise UnreadableImageError(f"not an image ({_describe(data)})") from error
    except _DAMAGE as error:
        raise UnreadableImageError(f"damaged: {error}") from error


@functools.cache
def _known_formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        return _scale_grey(image).convert("RGB")
    if image.mode in ("I", "F"):
        raise UnreadableImageError(f"pixels of mode {image.mode} (32 bit) have no known range; convert them to 8 bit")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")


def _scale_grey(image: Image.Image) -> Image.Image:
    """Scale 16-bit grey to 8 bit: Pillow's own conversion clips at 255, which turns scans white.

    Pillow brings PGM to 16 bit, whatever its range; 12-bit TIFF, and one whose 0 is white, it hands over as they are.
    """
    if isinstance(image, TiffImageFile):
        bits, zero = image.tag_v2[BITSPERSAMPLE][0], image.tag_v2[PHOTOMETRIC_INTERPRETATION]
        if bits != 16 or zero != _BLACK:
            raise UnreadableImageError(f"grey of {bits} bit, or whose 0 is white, is not scaled; convert it to 8 bit")
    return Image.fromarray(np.round(np.asarray(image).astype(np.float64) / 257).astype(np.uint8))


def _check_size(height: int, width: int) -> None:
    if min(height, width) < MIN_SIDE:
        raise UnreadableImageError(f"{width}x{height} pixels is too small")
    if height * width > MAX_PIXELS:
        raise UnreadableImageError(f"{width}x{height} pixels is larger than {MAX_PIXELS // 10**6} megapixels")


def _jpeg_header(data: bytes) -> tuple[int, int, int]:
    """Return height, width and number of components, without decoding."""
    at = 2
    while at + 9 < len(data):
        if data[at] != 0xFF:
            break
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
        elif marker in _FRAME_HEADERS:
            height, width, components = struct.unpack(">HHB", data[at + 5 : at + 10])
            return height, width, components
        else:
            at += 2 + (data[at + 2] << 8 | data[at + 3])
    raise UnreadableImageError("damaged or truncated JPEG")


def _describe(data: bytes) -> str:
    start = data[:64].lstrip().lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml", b"<svg")):
        return "it is a web page or SVG"
    if start.startswith(b"version https://git-lfs"):
        return "it is a git-lfs pointer"
    return f"it starts with {data[:8].hex(' ')}"


def fit_square(image_CHW: Tensor, size: int) -> Tensor:
    """Return [C, size, size]: torchvision's Resize(size), bilinear and antialiased, and CenterCrop(size)."""
    if image_CHW.shape[-2:] == (size, size):
        return image_CHW
    return center_crop(resize(image_CHW, [size], antialias=True), [size, size])


def read_images(paths: Sequence[Path | str], size: int, *, upright: bool = False, threads: int = 1) -> Tensor:
    """Return images as uint8 [n, 3, size, size].

    Args:
        paths: the files.
        size: side in pixels; see ``fit_square``.
        upright: turn images as their EXIF orientation says.
        threads: read this many files at a time.

    Raises:
        DataError: some files cannot be read; all of them are named.
    """
    images, faults = try_read_images(paths, size, upright=upright, threads=threads)
    if faults:
        raise unreadable([f"{paths[i]}: {reason}" for i, reason in faults])
    return images


def read_images_whole(paths: Sequence[Path | str], *, upright: bool = False) -> list[Tensor]:
    """Return images in the shape they have, uint8 [3, H, W] each; see ``read_images``."""
    images, faults = [], []
    for path in paths:
        try:
            images.append(read_image(path, upright=upright))
        except UnreadableImageError as error:
            faults.append(f"{path}: {error}")
    if faults:
        raise unreadable(faults)
    return images


def try_read_images(
    paths: Sequence[Path | str], size: int, *, upright: bool = False, threads: int = 1
) -> tuple[Tensor, list[tuple[int, str]]]:
    """Return images as ``read_images`` does, and the position and fault of each that cannot be read."""
    images = torch.zeros(len(paths), 3, size, size, dtype=torch.uint8)

    def read_chunk(start: int) -> list[tuple[int, str]]:
        faults = []
        for i in range(start, min(start + _CHUNK, len(paths))):
            try:
                images[i] = fit_square(read_image(paths[i], upright=upright), size)
            except UnreadableImageError as error:
                faults.append((i, str(error)))
        return faults

    chunks = range(0, len(paths), _CHUNK)
    if threads == 1:
        return images, list(chain.from_iterable(map(read_chunk, chunks)))
    with ThreadPoolExecutor(threads) as pool:
        return images, list(chain.from_iterable(pool.map(read_chunk, chunks)))


def useful_threads(size: int) -> int:
    """Return how many threads speed up decoding: small images are decoded faster than threads hand them over."""
    return min(16, count_cores()) if size >= _THREADED_SIZE else 1


def unreadable(faults: Sequence[str]) -> DataError:
    """Return the one error for all files that cannot be read ("name: reason" each)."""
    shown = "\n  ".join(faults[:20]) + (f"\n  ... and {len(faults) - 20} more" if len(faults) > 20 else "")
    return DataError(
        f"{count_of(len(faults), 'image')} cannot be read\n  {shown}",
        "Mend or remove them; `ltk data verify --write-bad FILE` lists all of them.",
    )
