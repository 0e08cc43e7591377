"""Files that are written whole, and those that are not replaced or not read because they are no files."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from ltk.config_text import read_toml
from ltk.convert.output import read_counts
from ltk.data.checksums import read_checksums
from ltk.data.listfile import read_text
from ltk.data.pack import read_info
from ltk.errors import DataError, EnvironmentFault, LtkError, UsageError
from ltk.evaluation.inputs import read_costs
from ltk.evaluation.logits import load_logits
from ltk.files import as_text, check_text, read_bytes, read_json, read_records, write_atomically, write_text


def test_a_link_stays_and_its_target_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for name, before in (("old", "old"), ("new", None)):
        target, link = tmp_path / "there" / name, tmp_path / f"{name}.link"
        if before:
            target.write_text(before)
        link.symlink_to(Path("there") / name)
        write_text(link, "new")
        assert link.is_symlink()
        assert target.read_text() == "new"
    assert {path.name for path in (tmp_path / "there").iterdir()} == {"old", "new"}


def test_links_that_lead_to_each_other_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(EnvironmentFault, match="symbolic links"):
        write_text(tmp_path / "a", "x")


def test_a_device_is_written_to_and_stays() -> None:
    """A terminal: one that no failure of this test can do harm to."""
    screen, terminal = os.openpty()
    path = Path(os.ttyname(terminal))
    write_text(path, "the rows\n")
    assert os.read(screen, 100) == b"the rows\r\n"
    assert path.is_char_device()
    os.close(terminal)
    os.close(screen)


def test_a_pipe_gets_all_of_it(tmp_path: Path) -> None:
    pipe, found = tmp_path / "pipe", []
    os.mkfifo(pipe)
    opened = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    os.set_blocking(opened, True)
    data = bytes(300_000)  # more than a pipe holds at a time

    def read() -> None:
        select.select([opened], [], [])  # before there is a writer, a read would find the end
        with os.fdopen(opened, "rb") as file:
            found.append(file.read())

    reader = threading.Thread(target=read)
    reader.start()
    write_atomically(pipe, data, b"end")
    reader.join()
    assert found == [data + b"end"]
    assert pipe.is_fifo()


def test_a_pipe_that_nothing_reads_is_an_error(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(EnvironmentFault, match="nothing reads this pipe"):
        write_text(tmp_path / "pipe", "x")


def test_standard_output_gets_it_where_it_stands(capfd: pytest.CaptureFixture[str]) -> None:
    os.write(1, b"before\n")
    write_text(Path("/dev/stdout"), "the rows\n")
    assert capfd.readouterr().out == "before\nthe rows\n"


def test_a_folder_is_no_file_to_write_to(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no file to write to"):
        write_text(tmp_path, "x")


def test_a_name_as_long_as_it_may_be(tmp_path: Path) -> None:
    name = "y" * 250 + ".html"
    write_text(tmp_path / name, "x")
    assert [path.name for path in tmp_path.iterdir()] == [name]
    with pytest.raises(DataError, match=r"too long: .*yyy"):
        write_text(tmp_path / f"y{name}", "x")


def test_bytes_of_names_are_written_as_they_are(tmp_path: Path) -> None:
    name = b"b\xc3\xa4u\xffme"
    write_text(tmp_path / "x", f"{os.fsdecode(name)} {name.decode('ascii', 'surrogateescape')}\n")
    assert (tmp_path / "x").read_bytes() == name + b" " + name + b"\n"


@pytest.mark.parametrize(("name", "shown"), [(b"b\xff", r"b\xff"), (b"\xff\xc3\xa4", "\\xff\u00e4")])
def test_a_line_with_other_bytes_than_utf_8_is_refused(name: bytes, shown: str) -> None:
    assert as_text(os.fsdecode(name)) == shown
    with pytest.raises(UsageError) as caught:
        check_text(f"--out {os.fsdecode(name)}")
    assert caught.value.message == f"--out {shown} is not UTF-8"
    check_text(b"b\xc3\xa4ume".decode("ascii", "surrogateescape"))  # as an ASCII locale has it


def _link(path: Path) -> None:
    path.symlink_to("/dev/zero")


READERS: dict[str, Callable[[Path], object]] = {
    "JSON": read_json,
    "journal": read_records,
    "TOML": read_toml,
    "list": read_text,
    "checksums": read_checksums,
    "pack": read_info,
    "class counts": read_counts,
    "costs": lambda path: read_costs(path, ("a", "b")),
    "logits": load_logits,
}


@pytest.mark.parametrize("make", [os.mkfifo, _link])
@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_what_may_have_no_end_is_not_read(
    tmp_path: Path, read: Callable[[Path], object], make: Callable[[Path], None]
) -> None:
    make(tmp_path / "file")
    with pytest.raises(LtkError, match="not a regular file"):
        read(tmp_path / "file")


def test_a_folder_is_called_one(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        read_bytes(tmp_path)
