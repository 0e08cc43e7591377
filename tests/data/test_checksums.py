from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ltk.data.checks import verify_source
from ltk.data.checksums import read_checksums, write_checksums
from ltk.data.duplicates import Finding
from ltk.data.sources import open_source
from ltk.errors import DataError

from .conftest import WriteImages

NAMES = ["train/a/0.png", "train/a/1.png", "train/b/0.png", "test/a/0.png", "test/b/strange \n\\ \udcff.png"]


@pytest.fixture
def root(write_images: WriteImages) -> Path:
    return write_images(NAMES)


def check(root: Path, path: Path) -> list[Finding]:
    findings = verify_source(open_source("folder", root=root), None, checksums=path)
    return [finding for finding in findings if path.name in finding.text]


def test_checksums_are_written_once_and_then_compared(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "images.sha256"
    [written], [agreed] = check(root, path), check(root, path)
    assert (written.level, written.text) == ("ok", f"wrote the checksums of 5 images to {path}")
    assert (agreed.level, agreed.text) == ("ok", f"checksums of 5 images agree with {path}")
    done = subprocess.run(["sha256sum", "--check", "--strict", path], cwd=root, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 5


def test_changed_new_and_lost_images_are_named(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "images.sha256"
    check(root, path)
    (root / NAMES[0]).write_bytes((root / NAMES[1]).read_bytes())
    (root / "train/b/0.png").rename(root / "train/b/1.png")
    changed, added, gone = check(root, path)
    assert (changed.level, changed.items) == ("error", ("train/a/0.png",))
    assert (added.level, added.items) == ("warning", ("train/b/1.png",))
    assert (gone.level, gone.items) == ("error", ("train/b/0.png",))


def test_any_name_is_read_as_it_was_written(tmp_path: Path) -> None:
    digests = {name: f"{i:064x}" for i, name in enumerate([r"a\nb", "a\nb", "\\", "c\r", " d", "*e", "\u00e4/\udcff"])}
    write_checksums(tmp_path / "x", digests)
    assert read_checksums(tmp_path / "x") == digests


@pytest.mark.parametrize("text", ["abc  x.png\n", "# nothing\n", f"{'0' * 64}x.png\n"])
def test_something_else_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x"
    path.write_text(f"{'0' * 64}  fine.png\n{text}")
    with pytest.raises(DataError, match="x:2: no checksum"):
        read_checksums(path)
