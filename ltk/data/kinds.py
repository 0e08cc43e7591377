"""What is unusual about an image file: told by `ltk data verify`, so that conversions are no surprise."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from typing import Literal

from PIL import Image

from ltk.data.base import count_of
from ltk.data.duplicates import Finding

_ORIENTATION = 0x0112
ROTATED, ANIMATED = "EXIF orientation", "animation"
_MEANING = {
    ROTATED: "with an EXIF orientation, which is ignored (--upright heeds it)",
    ANIMATED: "animated, of which the first frame is taken",
    "16-bit": "of 16 bit, scaled to 8",
    "CMYK": "in CMYK, converted",
    "palette": "with a palette, converted",
    "transparency": "with transparency, which is dropped",
    "grey": "in grey, repeated in three channels",
}


def find_kinds(path: str) -> list[str]:
    """Return the keys of what is unusual about a readable image file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(path) as image:
            return [kind for kind, is_so in _look_at(image).items() if is_so]


def _look_at(image: Image.Image) -> Mapping[str, bool]:
    return {
        ROTATED: image.getexif().get(_ORIENTATION, 1) != 1,
        ANIMATED: bool(getattr(image, "is_animated", False)),
        "16-bit": image.mode.startswith("I"),
        "CMYK": image.mode == "CMYK",
        "palette": image.mode == "P",
        "transparency": image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info,
        "grey": image.mode in ("L", "1"),
    }


def report_kinds(found: Mapping[str, list[str]], *, upright: bool) -> Iterable[Finding]:
    """Say what was found; what may be a mistake of the user is a warning.

    Args:
        found: names of the images of each kind.
        upright: EXIF orientation is heeded.
    """
    for kind, names in found.items():
        if kind == ROTATED and upright:
            continue
        level: Literal["warning", "ok"] = "warning" if kind in (ROTATED, ANIMATED) else "ok"
        yield Finding(level, f"{count_of(len(names), 'image')} {_MEANING[kind]}", tuple(names))
