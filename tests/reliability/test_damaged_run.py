"""The small files of a run directory, missing or holding something else: mended, passed over or refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.reliability.processes import Launcher

SMALL = ("--dataset", "digits", "--quiet", "--set", "model.width=4", "--set", "run.device=cpu")
FILES = ("config.toml", "split.json", "environment.json", "card.json", "metrics.jsonl", "times.jsonl", "parent.json")


def holding(data: bytes) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        path.write_bytes(data)

    return damage


def become_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES: Mapping[str, Callable[[Path], None]] = {
    "missing": Path.unlink,
    "empty": holding(b""),
    "binary": holding(b"\xff\x00\xfe" * 30),
    "a list": holding(b"[]\n"),
    "endless": holding(b'{"a":' * 5000),
    "a folder": become_folder,
}


@pytest.fixture(scope="module")
def trained(launcher: Launcher, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second stage, which has all of the files."""
    folder = tmp_path_factory.mktemp("damaged")
    first = launcher.run("train", "ce", *SMALL, "--epochs", "2", "--out", folder / "first")
    assert first.code == 0, first.err
    second = ("finetune-classifier", folder / "first", "--method", "crt", "--epochs", "2", "--quiet")
    done = launcher.run(*second, "--set", "run.device=cpu", "--out", folder / "run")
    assert done.code == 0, done.err
    return folder / "run"


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("file", FILES)
def test_every_command_goes_on_or_says_why_not(
    launcher: Launcher, trained: Path, tmp_path: Path, file: str, damage: str
) -> None:
    run = shutil.copytree(trained, tmp_path / "run")
    DAMAGES[damage](run / file)
    for command in (("eval", run), ("train", "--resume", run, "--quiet", "--set", "run.save_every=2")):
        done = launcher.run(*command, cwd=tmp_path)
        assert done.code in (0, 2, 3, 5, 6), done.err
        assert "Traceback" not in done.err
        assert not done.code or str(run) in done.err or file == "config.toml"


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_second_stage_that_does_not_know_its_first_is_not_continued(
    launcher: Launcher, trained: Path, tmp_path: Path, damage: str
) -> None:
    run = shutil.copytree(trained, tmp_path / "run")
    DAMAGES[damage](run / "parent.json")
    journal = (run / "metrics.jsonl").read_bytes()
    done = launcher.run("train", "--resume", run, "--epochs", "3", "--quiet")
    assert done.code == 3, done.err
    assert str(run / "parent.json") in done.err
    assert (run / "metrics.jsonl").read_bytes() == journal, "it is said before an epoch is trained"


def test_a_torn_line_does_not_take_those_behind_it_along(launcher: Launcher, trained: Path, tmp_path: Path) -> None:
    run = shutil.copytree(trained, tmp_path / "run")
    lines = (run / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    (run / "metrics.jsonl").write_bytes(b'{"epoch": 0, "lo\xff\n' + lines[1])
    done = launcher.run("train", "--resume", run, "--epochs", "3", "--quiet")
    assert done.code == 0, done.err
    assert (run / "metrics.jsonl").read_bytes().startswith(lines[1])
