"""Images of other depths and compressions than cameras make, and what reading them leaves behind."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ltk.data.decode import UnreadableImageError, decode_image, read_images

RAMP = np.linspace(0, 1, 256).reshape(16, 16)
BLACK, WHITE = 1, 0  # what 0 is
CORRUPT_EXIF = b"Exif\0\0II*\0\x08\0\0\0\xff\0"


def write_portable(kind: str, maxval: int) -> bytes:
    """A ramp as PGM or PPM, as text or binary."""
    values = np.round(RAMP.ravel() * maxval).astype(int).repeat(3 if kind in ("P3", "P6") else 1)
    header = f"{kind}\n16 16\n{maxval}\n".encode()
    if kind in ("P2", "P3"):
        return header + " ".join(map(str, values)).encode()
    return header + values.astype(">u2" if maxval > 255 else "u1").tobytes()


def write_tiff(bits: int, zero: int, data: bytes) -> bytes:
    """A grey TIFF in one strip; Pillow writes none of these."""
    tags = ((256, 16), (257, 16), (258, bits), (259, 1), (262, zero), (273, 8), (277, 1), (278, 16), (279, len(data)))
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    start = struct.pack("<2sHI", b"II", 42, 8 + len(data))
    return start + data + struct.pack("<H", len(tags)) + entries + bytes(4)


@pytest.mark.parametrize("upright", [False, True])
@pytest.mark.parametrize("maxval", [15, 255, 300, 1000, 65535])
@pytest.mark.parametrize("kind", ["P2", "P3", "P5", "P6"])
def test_portable_maps_of_any_range_are_scaled(kind: str, maxval: int, upright: bool) -> None:
    image_CHW = decode_image(write_portable(kind, maxval), upright=upright).numpy()
    expected = np.round(255 * np.round(RAMP * maxval) / maxval)
    assert np.abs(image_CHW - expected).max() <= 1
    assert (image_CHW.min(), image_CHW.max()) == (0, 255)


def test_a_cut_map_is_refused() -> None:
    for maxval in (1000, 65535):
        with pytest.raises(UnreadableImageError, match="damaged"):
            decode_image(write_portable("P5", maxval)[:-4])


def test_sixteen_bit_tiff_is_scaled_where_its_range_is_known() -> None:
    values = np.round(RAMP * 65535).astype("<u2")
    assert np.array_equal(decode_image(write_tiff(16, BLACK, values.tobytes()))[0], np.round(values / 257))
    for bits, zero in ((16, WHITE), (12, BLACK)):
        with pytest.raises(UnreadableImageError, match="convert it to 8 bit"):
            decode_image(write_tiff(bits, zero, values.tobytes()))


@pytest.mark.parametrize("compression", ["tiff_ccitt", "group3", "group4"])
def test_fax_compressions_are_refused(compression: str) -> None:
    """With any one bit flipped libtiff says so on standard error alone, and Pillow returns other pixels."""
    data = io.BytesIO()
    Image.fromarray(RAMP > 0.5).save(data, "TIFF", compression=compression)
    with pytest.raises(UnreadableImageError, match="fax compression"):
        decode_image(data.getvalue())


def test_reading_in_threads_leaves_the_filters_of_warnings_alone(tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}.png" for i in range(512)]
    for path in paths:
        Image.fromarray(np.uint8(RAMP * 255)).save(path)
    before = list(warnings.filters)
    read_images(paths, 16, threads=8)
    assert warnings.filters == before


def test_damaged_metadata_is_no_matter(tmp_path: Path) -> None:
    Image.fromarray(np.uint8(RAMP * 255)).save(tmp_path / "x.jpg", exif=CORRUPT_EXIF)
    code = "import sys, ltk.data.decode as d, warnings; d.read_image(sys.argv[1], upright=True); warnings.warn('other')"
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "x.jpg"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "other" in done.stderr
    assert "EXIF" not in done.stderr
