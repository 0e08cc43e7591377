"""The command line: parses, calls, prints. Importing it imports no torch."""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
from typing import Annotated

import typer

from ltk.cli import _console
from ltk.cli._commands import CONTEXT, Commands
from ltk.cli._devices import claim_error, quieten_torch
from ltk.cli._faults import explain_fault
from ltk.cli.completions import ASKED, completions, prepare_completion
from ltk.cli.config import config
from ltk.cli.convert import convert
from ltk.cli.data import app as data_app
from ltk.cli.demo import demo
from ltk.cli.eval import evaluate
from ltk.cli.export import export
from ltk.cli.finetune_classifier import finetune_classifier
from ltk.cli.predict import predict
from ltk.cli.report import report
from ltk.cli.train import train
from ltk.cli.version import print_version
from ltk.errors import LtkError
from ltk.interrupt import was_interrupted, watch_interrupts

_MORE = "More commands"

app = Commands(
    name="ltk",
    help="The long-tail kit: train, repair, evaluate and convert image classifiers whose training data is long-tailed.",
    epilog="Begin with: ltk train glmc --dataset digits   then: ltk eval --split many,medium,few",
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings=CONTEXT,
    pretty_exceptions_enable=False,
    add_completion=False,
)


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", "-V", help="Print versions and exit.", callback=print_version, is_eager=True)
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.", envvar="LTK_DEBUG")] = False,
) -> None:
    if debug:
        os.environ["LTK_DEBUG"] = "1"


app.add_typer(data_app, name="data")
app.command()(train)
app.command("finetune-classifier")(finetune_classifier)
app.command("eval")(evaluate)
app.command()(convert)
app.command(rich_help_panel=_MORE)(report)
app.command(rich_help_panel=_MORE)(export)
app.command(rich_help_panel=_MORE)(predict)
app.command(rich_help_panel=_MORE)(config)
app.command(rich_help_panel=_MORE)(demo)
app.command(rich_help_panel=_MORE)(completions)


def main() -> None:
    """Run the command line and exit with the code of ``ltk.errors``."""
    watch_interrupts()
    _console.prepare_streams()
    quieten_torch()
    if ASKED in os.environ:
        prepare_completion()
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        is_debugged = bool(os.environ.get("LTK_DEBUG"))
        if was_interrupted() and not is_debugged:
            sys.exit(130)
        problem = error if isinstance(error, LtkError) else explain_fault(error) or _describe_bug(error)
        if not claim_error(problem):
            _console.print_error(problem)
        if is_debugged:
            raise
        sys.exit(problem.exit_code)


def _describe_bug(error: Exception) -> LtkError:
    """Keep the traceback in a file: the user sees one line."""
    summary = f"{type(error).__name__}: {error}".splitlines()[0][:200]
    try:
        with tempfile.NamedTemporaryFile(prefix="ltk-", suffix=".log", delete=False) as file:
            file.write("".join(traceback.format_exception(error)).encode(errors="backslashreplace"))
    except OSError:
        return LtkError(f"this is a bug in ltk ({summary})", "Please report it with what --debug prints.")
    return LtkError(f"this is a bug in ltk ({summary})", f"Please report it with {file.name}")
