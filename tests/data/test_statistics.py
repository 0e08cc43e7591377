from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ltk.data.preview import choose_classes, draw_sheet
from ltk.data.sources import open_source
from ltk.data.statistics import draw_bar, draw_histogram, gini, plot_counts, summarise_groups


def test_gini() -> None:
    assert gini([7, 7, 7]) == pytest.approx(0)
    assert gini([0, 0, 0, 12]) == pytest.approx(0.75)
    counts = np.array([5, 1, 9, 3])
    mean_difference = np.abs(counts[:, None] - counts).mean()
    assert gini(counts) == pytest.approx(mean_difference / (2 * counts.mean()))


def test_groups_are_summarised() -> None:
    many, medium, few = summarise_groups([500, 120, 50, 20], [10, 10, 10, 10], (100, 20))
    assert (many.classes, many.train, many.test, many.smallest, many.largest) == (2, 620, 20, 120, 500)
    assert (medium.classes, medium.train) == (2, 70)
    assert (few.classes, few.train, few.smallest) == (0, 0, None)


def test_bars_have_eighths() -> None:
    assert draw_bar(10, 10, 4) == "████"
    assert draw_bar(5, 10, 3) == "█▌"
    assert draw_bar(1, 10_000, 4) == "▏"
    assert draw_bar(0, 10, 4) == ""


def test_histograms_go_from_head_to_tail() -> None:
    lines = draw_histogram([3, 9, 1], ["a", "b", "c"])
    assert [(label, span) for label, span, _ in lines] == [("b", "9"), ("a", "3"), ("c", "1")]
    joined = draw_histogram(list(range(1, 101)), [str(c) for c in range(100)], rows=10)
    assert joined[0][:2] == ("99 ... 90 (10)", "100-91")
    assert len(joined[0][2]) > len(joined[9][2])


def test_counts_are_plotted(tmp_path: Path) -> None:
    plot_counts([50, 20, 3], [5, 5, 5], (40, 12), tmp_path / "counts.png", "three classes")
    with Image.open(tmp_path / "counts.png") as image:
        colours = {colour for _, colour in image.convert("RGB").getcolors(1 << 20) or []}
    assert {(0x44, 0x77, 0xAA), (0xDD, 0xAA, 0x33), (0xBB, 0x55, 0x66)} <= colours


def test_titles_in_letters_that_no_font_has_are_plotted(tmp_path: Path) -> None:
    plot_counts([3, 1], [1, 1], (2, 1), tmp_path / "counts.png", "照片 $x$ $y")
    assert (tmp_path / "counts.png").stat().st_size > 5000


def test_sheets_show_images_from_head_to_tail(tmp_path: Path) -> None:
    source = open_source("digits")
    split = source.splits["train"]
    draw_sheet(source, split, tmp_path / "sheet.png", rows=4, columns=3)
    with Image.open(tmp_path / "sheet.png") as image:
        assert image.size == (150 + 3 * 74, 4 * 74)
        cell = np.array(image.crop((150, 0, 222, 72)).resize((8, 8), Image.Resampling.NEAREST))[:, :, 0]
    first = choose_classes(np.bincount(split.labels_N), 4)[0]
    expected = split.read([int(np.flatnonzero(split.labels_N == first)[0])], 8)[0, 0].numpy()
    assert (cell == expected).all()


def test_sheets_of_views(tmp_path: Path) -> None:
    source = open_source("digits")
    draw_sheet(source, source.splits["train"], tmp_path / "views.png", aug="crop-flip", rows=2, columns=4)
    with Image.open(tmp_path / "views.png") as image:
        cells = [np.array(image.crop((150 + i * 74, 0, 222 + i * 74, 72))).tobytes() for i in range(4)]
    assert len(set(cells)) > 1


def test_classes_are_chosen_by_rank() -> None:
    assert choose_classes(np.array([5, 500, 50, 0]), 3) == [1, 2, 0]
    assert choose_classes(np.arange(1, 101), 3)[0] == 99
    assert choose_classes(np.arange(1, 101), 3)[2] == 0
