"""Tables as wide as the terminal: text is wrapped, numbers never are, and columns without room become lines below."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from rich import box
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

_LEAST_TEXT = 16  # a longer word may be cut over lines
_LEAST_WIDTH = 20  # a terminal may say 0
_AROUND, _BETWEEN = 1, 3  # characters of the frame, once and per column
_BETWEEN_NARROW = 2  # without a frame
_FIXED_SPACE = "\N{NO-BREAK SPACE}"
_PIECES = re.compile(r"[^\s-]*-*")


@dataclass(frozen=True)
class _Column:
    title: str
    cells: tuple[str, ...]
    is_text: bool

    @property
    def is_picture(self) -> bool:
        """A column without a title, such as bars: it may be cropped."""
        return not self.title

    @property
    def full(self) -> int:
        return max(map(cell_len, (self.title, *self.cells)))

    @property
    def least(self) -> int:
        if self.is_picture:
            return 1
        title = max(map(cell_len, self.title.split()))
        if not self.is_text:
            return max(title, *map(cell_len, self.cells), 1)
        pieces = (cell_len(piece) for cell in self.cells for piece in _PIECES.findall(cell))
        return max(title, min(_LEAST_TEXT, max(pieces, default=1)))

    def wrap(self, text: str, width: int) -> Text:
        return Text(text if cell_len(text) <= width or self.is_picture else "\n".join(textwrap.wrap(text, width)))


def lay_out(
    columns: Sequence[str], rows: Sequence[Sequence[str]], left: Collection[int], width: int
) -> tuple[Table, list[str]]:
    """Return a table that fits, and lines that say what it has no room for.

    Args:
        columns: titles.
        rows: cells, the first of which names the row.
        left: columns of text, aligned to the left and wrapped where needed; those of numbers stay whole.
        width: characters of a line.
    """
    width = max(width, _LEAST_WIDTH)
    found = [_Column(title, tuple(row[i] for row in rows), is_text=i in left) for i, title in enumerate(columns)]
    kept = list(found)
    fits = _AROUND + sum(column.full + _BETWEEN for column in kept) <= width
    while not fits and len(kept) > 2 and _narrow_width(kept) > width:
        kept.pop()
    table = Table() if fits else Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
    widths = [column.full for column in kept] if fits else _share(kept, width)
    for column, own in zip(kept, widths, strict=True):
        table.add_column(
            column.wrap(column.title, own),
            justify="left" if column.is_text else "right",
            width=own,
            no_wrap=column.is_picture,
            overflow="crop" if column.is_picture else "fold",
        )
    for cells in zip(*(column.cells for column in kept), strict=True):
        table.add_row(*(column.wrap(cell, own) for column, cell, own in zip(kept, cells, widths, strict=True)))
    lines = _describe([row[0] for row in rows], found[len(kept) :])
    return table, [part for line in lines for part in _wrap_line(line, width)]


def _narrow_width(columns: Sequence[_Column]) -> int:
    return sum(column.least + _BETWEEN_NARROW for column in columns) - _BETWEEN_NARROW


def _share(columns: Sequence[_Column], width: int) -> list[int]:
    """Give every column what it needs, and what is left to those that want more, text before long titles."""
    widths = [column.least for column in columns]
    spare = width - _narrow_width(columns)
    for i in sorted(range(len(columns)), key=lambda i: not columns[i].is_text):
        more = max(0, min(spare, columns[i].full - widths[i]))
        widths[i] += more
        spare -= more
    return widths


def _describe(names: Sequence[str], columns: Sequence[_Column]) -> list[str]:
    """Say what stands in columns: once where all rows agree, else by row."""
    shown = [column for column in columns if not column.is_picture]
    shared = [column for column in shown if len(names) > 1 and len(set(column.cells)) == 1]
    lines = [_join("every row", [(column.title, column.cells[0]) for column in shared])]
    own = [column for column in shown if column not in shared]
    lines += [_join(name, [(column.title, column.cells[i]) for column in own]) for i, name in enumerate(names)]
    return [line for line in lines if line]


def _join(name: str, values: Sequence[tuple[str, str]]) -> str:
    parts = [f"{title} {value}".replace(" ", _FIXED_SPACE) for title, value in values if value]
    return f"{name}: {' · '.join(parts)}" if parts else ""


def _wrap_line(line: str, width: int) -> list[str]:
    wrapped = textwrap.wrap(line, width, subsequent_indent="  ", break_on_hyphens=False)
    return [part.replace(_FIXED_SPACE, " ") for part in wrapped]
