"""A contact sheet of a data set, from the head to the tail."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from ltk import draws
from ltk.data.base import IntArray, Source, Split
from ltk.files import write_atomically

_CELL, _LABEL, _GAP = 72, 150, 2  # pixels


def choose_classes(counts_K: np.ndarray, rows: int) -> list[int]:
    """Return classes at equal distances in rank, the largest first and the smallest last."""
    order = np.argsort(-counts_K, kind="stable")
    order = order[counts_K[order] > 0]
    return list(dict.fromkeys(order[np.linspace(0, len(order) - 1, min(rows, len(order))).astype(int)].tolist()))


def draw_sheet(source: Source, split: Split, path: Path, *, aug: str = "", rows: int = 12, columns: int = 8) -> None:
    """Write a picture with a row of images per class.

    Args:
        source: names and constants.
        split: the images to choose from.
        path: of the picture.
        aug: a view recipe (see ``ltk.data.transforms``): each row then shows one image and views of it.
        rows: classes shown.
        columns: images per class.
    """
    counts_K = np.bincount(split.labels_N, minlength=source.num_classes)
    chosen = choose_classes(counts_K, rows)
    sheet = Image.new("RGB", (_LABEL + columns * (_CELL + _GAP), len(chosen) * (_CELL + _GAP)), "white")
    pen = ImageDraw.Draw(sheet)
    for row, label in enumerate(chosen):
        own = np.flatnonzero(split.labels_N == label)
        top = row * (_CELL + _GAP)
        text = source.class_names[label].encode("latin-1", "replace").decode("latin-1")
        pen.multiline_text((4, top + 20), f"{text[:22]}\n{counts_K[label]:,} images", fill="black")
        if aug:
            images = _draw_views(split, own[:1], source, aug, columns)
        else:
            images = list(split.read(own[:columns], source.stored_size))
        for column, image in enumerate(images):
            sheet.paste(_to_picture(image), (_LABEL + column * (_CELL + _GAP), top))
    data = io.BytesIO()
    sheet.save(data, format=Image.registered_extensions()[path.suffix.lower()])
    write_atomically(path, data.getvalue())


def _draw_views(split: Split, index_1: IntArray, source: Source, aug: str, columns: int) -> list[Tensor]:
    """The stored image, and views of it as training makes them."""
    from ltk.data.transforms import create_view

    view = create_view(aug, size=source.native_size, mean=source.mean, std=source.std)
    key_B = draws.fold(draws.make_key(0), torch.arange(columns - 1))
    stored_1CHW = split.read(index_1, source.stored_size)
    if view.crop and source.stored_size > source.native_size:
        crops_BCHW = view.cut_crop(split.read_whole(index_1) * len(key_B), key_B)
        return [stored_1CHW[0], *view.after_crop().draw(crops_BCHW, key_B)]
    return [stored_1CHW[0], *view.draw(stored_1CHW.repeat(len(key_B), 1, 1, 1), key_B)]


def _to_picture(image_CHW: Tensor) -> Image.Image:
    pixels = image_CHW.expand(3, -1, -1).permute(1, 2, 0).numpy()
    small = max(pixels.shape[:2]) < _CELL
    return Image.fromarray(pixels).resize((_CELL, _CELL), Image.Resampling.NEAREST if small else Image.Resampling.BOX)
