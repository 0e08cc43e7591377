"""Images of a run's splits: for the pictures of a report, for checking an exported file."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from torch import Tensor

_SIDE = 64  # pixels; smaller images keep their size and are enlarged by the browser


def read_images(run: Path, split: str, positions: Sequence[int], size: int | None = None) -> Tensor:
    """Return images of a run's split as uint8 [n, C, size, size].

    Args:
        run: a run directory.
        split: test, val or train.
        positions: which images of the split; those beyond its end are left out.
        size: side in pixels; that of the data set, at most 64, by default.

    Raises:
        DataError: the images are not there any more, or are not those of the run.
    """
    from ltk.data.splits import Manifest
    from ltk.evaluation.images import open_configured_source
    from ltk.run_files import SPLIT, read_run_config

    config = read_run_config(run)
    source = open_configured_source(config.data)
    images = Manifest.read(run / SPLIT).open(source)[split]
    present = [position for position in positions if position < len(images)]
    return images.read(present, size or min(_SIDE, source.native_size))


def read_pictures(run: Path, split: str, positions: Sequence[int]) -> list[str]:
    """Return images of a run's split as data addresses (PNG); see ``read_images``."""
    return [_as_address(np.asarray(pixels_CHW)) for pixels_CHW in read_images(run, split, positions)]


def _as_address(pixels_CHW: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> str:
    pixels = pixels_CHW[0] if len(pixels_CHW) == 1 else pixels_CHW.transpose(1, 2, 0)
    data = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(data, format="PNG")
    return "data:image/png;base64," + base64.b64encode(data.getvalue()).decode("ascii")
