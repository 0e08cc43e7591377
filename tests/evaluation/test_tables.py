from __future__ import annotations

import csv
import html
import io
import re
from collections.abc import Callable
from typing import Any

import pytest
from markdown_it import MarkdownIt

from ltk import presets
from ltk.errors import DataError
from ltk.evaluation import tables
from ltk.evaluation.compare import compare_entries
from ltk.evaluation.groups import create_groups
from ltk.evaluation.logits import SavedLogits
from ltk.evaluation.outcomes import assess
from ltk.evaluation.published import PublishedFigure, read_published
from ltk.evaluation.recipes import create_entry
from ltk.evaluation.summary import summarise

CARD: dict[str, Any] = {"method": "ce", "backbone": "cifar_resnet32", "width": 16, "parameters": 463_504, "seed": 0}
FIGURE = PublishedFigure(55.88, "GLMC (paper)", "S001:14", "V", "ResNet-32 (4x wide)", "glmc/cifar100-imb100")


def test_an_empty_group_prints_a_dash(create_saved: Callable[..., SavedLogits]) -> None:
    saved = create_saved(counts=(200, 150, 120))
    table = tables.summary_table(summarise(saved, create_groups(saved.class_counts, (100, 20))), ("all", "few"))
    assert [row[0] for row in table.rows] == ["all", "few"]
    assert table.rows[1] == ("few", "0", "0", "-", "-", "-", "-", "0")


def test_comparison_table_shows_width_seeds_and_published_rows(saved: SavedLogits) -> None:
    groups = create_groups(saved.class_counts, saved.groups)
    entries = [create_entry(f"ce-{i}", CARD | {"seed": i}, saved, assess(saved), groups) for i in range(2)]
    guess = PublishedFigure(48.2, "GCL", "paper, remembered", "U", "ResNet-32", "gcl/cifar100-imb100")
    table = tables.comparison_table(compare_entries(entries, groups), [FIGURE, guess])
    assert table.columns == (
        "recipe", "all", "many", "medium", "few", "balanced", "seeds", "network", "width", "params",
    )  # fmt: skip
    assert table.rows[0][5:] == (f"{table.rows[0][1]}", "2", "cifar_resnet32", "16", "0.46M")
    assert table.rows[0][1].endswith(" ± 0.0")
    assert table.rows[1] == ("GLMC (paper) [V, S001:14]", "55.88", *"----", "-", "ResNet-32 (4x wide)", "-", "-")
    assert table.rows[2][:2] == ("GCL [U, paper, remembered]", "48.20?")
    few = tables.comparison_table(compare_entries(entries, groups), shown=("few",))
    assert few.columns[:3] == ("recipe", "few", "balanced")


def test_formats() -> None:
    table = tables.Table(("a_b", "x"), (("50% & more | $", "1.0 ± 0.2"), ("c,d", "-")))
    assert table.markdown().splitlines() == [
        "| a_b | x |",
        "| :-- | --: |",
        "| 50% & more \\| $ | 1.0 ± 0.2 |",
        "| c,d | - |",
    ]
    assert r"50\% \& more \textbar{} \$ & 1.0 $\pm$ 0.2 \\" in table.latex()
    assert table.latex().splitlines()[:3] == [r"\begin{tabular}{lr}", r"\toprule", r"a\_b & x \\"]
    assert list(csv.reader(io.StringIO(table.csv()))) == [list(table.columns), *map(list, table.rows)]


def test_a_row_of_markdown_is_one_line() -> None:
    table = tables.Table(("class", "x"), (("two\nlines|bar", "1"),))
    assert table.markdown().splitlines()[2:] == [r"| two lines\|bar | 1 |"]


def test_latex_shows_every_character() -> None:
    table = tables.Table(("name", "x"), (("~^\\{}", "a|b"), ("[red]*", "<1>"), ("*", "-")))
    assert table.latex().splitlines()[4:-2] == [
        r"\textasciitilde{}\textasciicircum{}\textbackslash{}\{\} & a\textbar{}b \\",
        r"{[}red]{*} & \textless{}1\textgreater{} \\",  # behind "\\" a bare [ or * would be its option
        r"{*} & - \\",
    ]


def test_published_figures_come_from_the_headers_of_presets(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(name: str, header: str, imb: float) -> None:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f'{header}[data]\ndataset = "cifar100"\nimb = {imb}\n')

    line = "# published: 55.88 | GLMC (paper) | S001:14 | V | ResNet-32 (4x wide)\n"
    better = "# published: 57.99 | GLMC updated | S001:14 | V | ResNet-32 (4x wide)\n"
    write("glmc/cifar100-imb100.toml", "# GLMC\n" + line + better, 100)
    write("glmc/cifar100-imb50.toml", "# published: 61.08 | GLMC (paper) | S001:15 | V | ResNet-32 (4x wide)\n", 50)
    write("other/cifar100-imb100.toml", line, 100)
    monkeypatch.setattr(presets, "presets_root", lambda: tmp_path)
    found = read_published("cifar100", 100.0)
    assert [figure.top1 for figure in found] == [57.99, 55.88]
    assert found[1] == FIGURE
    assert read_published("cifar10", 100.0) == []
    write("glmc/cifar100-imb10.toml", "# published: 70.74 | GLMC | V\n", 10)
    with pytest.raises(DataError, match="published line"):
        read_published("cifar100", 10.0)


def test_names_are_no_markup_in_markdown() -> None:
    name = r"<unknown> *star* `tick` _u_ [l](u) ~~x~~ \ &lt; R&D cifar_resnet32 __init__"
    table = tables.Table(("class", "x"), ((name, "1.0"),))
    page = MarkdownIt("gfm-like", {"linkify": False}).render(table.markdown())
    (cell,) = re.findall(r"<td[^>]*>(.*?)</td>", page)[:1]
    assert html.unescape(cell) == name
    assert "<" not in cell
    assert "cifar_resnet32" in table.markdown()
