"""What is no bug of ltk is not called one, and what is one is not passed over."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
import typer

from ltk.cli import _console, main
from ltk.cli._commands import Commands
from ltk.cli._faults import explain_fault
from ltk.errors import DataError, EnvironmentFault, LtkError


@pytest.mark.parametrize(
    "error",
    [
        ImportError("libtorch_cpu.so: failed to map segment from shared object"),
        ImportError("x.so: failed to map segment from shared object: Cannot allocate memory"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        MemoryError(),
        RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"),
    ],
)
def test_too_little_memory_is_said(error: Exception) -> None:
    fault = explain_fault(error)
    assert fault
    assert fault.exit_code == 6
    assert fault.message.startswith("out of memory")


def test_libraries_that_do_not_fit_are_no_matter_of_the_batch() -> None:
    fault = explain_fault(ImportError("libtorch_cpu.so: failed to map segment from shared object"))
    assert fault
    assert "ulimit -v" in fault.hint
    assert explain_fault(ImportError("No module named 'x'")) is None


def test_a_name_that_nothing_foresaw_is_no_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    def fault_of(text: str, encoding: str) -> LtkError | None:
        with pytest.raises(UnicodeEncodeError) as caught:
            text.encode(encoding)
        return explain_fault(caught.value)

    fault = fault_of("<p>ro\udcffot</p>", "utf-8")
    assert isinstance(fault, DataError)
    assert fault.message == "<p>ro\udcffot</p> is not UTF-8"
    monkeypatch.setattr("sys.getfilesystemencoding", lambda: "ascii")
    fault = fault_of("/b\u00e4ume", "ascii")
    assert isinstance(fault, EnvironmentFault)
    assert "ascii" in fault.message
    assert "LC_ALL=C.UTF-8" in fault.hint


def test_a_bug_whose_words_are_no_text(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def broken() -> None:
        raise ZeroDivisionError("ro\udcffot")

    monkeypatch.setattr("ltk.cli.app", broken)
    monkeypatch.delenv("LTK_DEBUG", raising=False)
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 1
    log = Path(capsys.readouterr().err.split("report it with ")[1].strip())
    assert r"ro\udcffot" in log.read_text()
    log.unlink()


def test_a_file_that_ends_too_early_is_no_abort(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    app = Commands()

    @app.command()
    def command() -> None:
        raise EOFError("No data left in file")

    monkeypatch.setattr("ltk.cli.app", typer.main.get_command(app))
    monkeypatch.setattr("sys.argv", ["ltk"])
    monkeypatch.setattr(_console, "prepare_streams", lambda: None)
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 1
    assert "No data left in file" in capsys.readouterr().err
