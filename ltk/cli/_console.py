"""The only module that prints: results on standard output, everything else on standard error."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from io import TextIOWrapper
from typing import IO, Any

from rich.console import Console
from rich.text import Text

from ltk.cli._table import lay_out
from ltk.errors import LtkError

_PIPE_WIDTH = 10_000  # a pipe has no width; Rich would fold tables at 80


class _Console(Console):
    """A console whose reader may go away: then results end the program, notes go on unread."""

    def print(self, *objects: Any, **options: Any) -> None:
        """Print; what a dead terminal or a full disk does to notes must not stop a training."""
        try:
            super().print(*objects, **options)
        except OSError:
            _discard(self.file)
            if not self.stderr:
                raise

    def on_broken_pipe(self) -> None:
        """Go on without a reader (``ltk train ... 2>&1 | head`` trains to the end), or leave quietly."""
        _discard(self.file)
        if not self.stderr:
            raise SystemExit(0)


def prepare_streams() -> None:
    """Make standard streams that can be written to, whatever the caller closed or set as their encoding."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which a data file must never get
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8")  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _discard(stream: IO[str]) -> None:
    """Send what is still in the stream's buffer, and all that follows, nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _create_console(stderr: bool) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or "COLUMNS" in os.environ else _PIPE_WIDTH
    return _Console(stderr=stderr, width=width, highlight=False, soft_wrap=False, emoji=False)


def results() -> Console:
    """Return the console of standard output."""
    return _create_console(stderr=False)


def notes() -> Console:
    """Return the console of standard error: progress, notes, warnings, errors."""
    return _create_console(stderr=True)


def print_table(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    footer: str = "",
    left: Sequence[int] = (0,),
) -> None:
    """Print a table on standard output; see ``ltk.cli._table`` for how it fits.

    Args:
        title: above it; may be empty.
        columns: their titles.
        rows: the cells.
        footer: a line below it; may be empty.
        left: columns of text; the others hold numbers.
    """
    console = results()
    cells = [[printable(str(cell)) for cell in row] for row in rows]
    table, lines = lay_out(columns, cells, left, console.width)
    if title:
        console.print(Text(title, style="italic"))
    console.print(table)
    for line in (*lines, *([footer] if footer else [])):
        console.print(Text(line))


def print_json(value: Any) -> None:
    """Print one JSON object on standard output."""
    print_text(json.dumps(value, indent=2, allow_nan=False))


def print_text(text: str) -> None:
    """Print plain text on standard output, as it is."""
    try:
        sys.stdout.write(text if text.endswith("\n") else text + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        _discard(sys.stdout)
        raise SystemExit(0) from None
    except OSError:
        _discard(sys.stdout)
        raise


def note(text: str) -> None:
    """Print a line on standard error; it is never folded, so that a path in it can be copied."""
    notes().print(text, markup=False, soft_wrap=True)


def warn(text: str) -> None:
    """Print a warning on standard error."""
    notes().print(f"Warning: {text}", style="yellow", markup=False, soft_wrap=True)


def print_error(error: LtkError) -> None:
    """Print an error and its hint on standard error; control characters are escaped."""
    console = notes()
    console.print(f"Error: {printable(error.message)}", style="bold red", markup=False, soft_wrap=True)
    if error.hint:
        console.print(f"  {printable(error.hint)}", markup=False, soft_wrap=True)


def printable(text: str) -> str:
    """Return text with control characters escaped: names of files and classes may hold anything."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode("ascii") for c in text)
