"""Commands other than training that are killed, or started twice at once: whole results or none, and again works.

A command is killed at random moments of its life. Whatever stands there afterwards is what an undisturbed one writes,
and the command itself then ends as if nothing had happened.
"""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import random
import shutil
import signal
import tarfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.reliability.processes import Launcher
from tests.reliability.test_bad_input import make_images, one_network

KILLS = 3
SMALL = ("--set", "model.width=4", "--set", "run.device=cpu", "--epochs", "1", "--quiet")
MEMBERS = ("data_batch_1", "test_batch", "batches.meta")
TINY_CIFAR = """
import dataclasses, json, ltk.data.cifar
sums = json.load(open("sums.json"))
ltk.data.cifar.LAYOUTS["cifar10"] = dataclasses.replace(ltk.data.cifar.LAYOUTS["cifar10"], **sums)
"""


@dataclass(frozen=True)
class Case:
    """A command that writes something.

    Attributes:
        arguments: of ``ltk``.
        results: patterns of what it writes.
        make: what it needs.
        before: Python code to run first.
    """

    arguments: tuple[str, ...]
    results: tuple[str, ...]
    make: Callable[[Path, Launcher], None]
    before: str = ""


def many_images(folder: Path, launcher: Launcher) -> None:
    """Enough for three blocks of a pack."""
    make_images(folder / "images", classes={"ash": 200, "beech": 200})


def archive(folder: Path, launcher: Launcher) -> None:
    """An archive in the layout of CIFAR-10, of arbitrary images, and its checksums."""
    images = np.random.default_rng(0).integers(256, size=(1000, 3072), dtype=np.uint8)
    batch = {"data": images, "labels": [i % 10 for i in range(1000)]}
    bodies = {name: pickle.dumps(batch) for name in MEMBERS[:2]}
    bodies[MEMBERS[2]] = pickle.dumps({"label_names": [f"class {k}" for k in range(10)]})
    path = folder / "cifar-10-python.tar.gz"
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        for name, body in bodies.items():
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = len(body)
            tar.addfile(member, io.BytesIO(body))
    train, test, meta = ({name: hashlib.md5(body).hexdigest()} for name, body in bodies.items())
    layout = {"md5": hashlib.md5(path.read_bytes()).hexdigest(), "train": train, "test": test, "meta": meta}
    (folder / "sums.json").write_text(json.dumps(layout))


def old_checkpoint(folder: Path, launcher: Launcher) -> None:
    one_network(folder)


def trained(folder: Path, launcher: Launcher) -> None:
    """A run whose logits are to be made anew."""
    done = launcher.run("train", "ce", "--dataset", "digits", *SMALL, "--out", "run", cwd=folder)
    assert done.code == 0, done.err
    shutil.rmtree(folder / "run" / "logits")
    Image.new("L", (8, 8), 99).save(folder / "x.png")


CASES = {
    "data pack": Case(("data", "pack", "images", "--size", "64", "--out", "packs"), ("packs/*",), many_images),
    "data split": Case(("data", "split", "digits", "--imb", "10", "--out", "split.json"), ("split.json",), many_images),
    "data verify": Case(("data", "verify", "images", "--checksums", "sums"), ("sums",), many_images),
    "data prepare": Case(
        ("data", "prepare", "cifar10", "--from", "cifar-10-python.tar.gz", "--root", "data"),
        ("data/cifar-10-batches-py/*",),
        archive,
        TINY_CIFAR,
    ),
    "convert": Case(("convert", "x.pth", "--force"), ("x.safetensors",), old_checkpoint),
    "eval": Case(("eval", "run", "--device", "cpu"), ("run/logits/*",), trained),
    "eval of a file": Case(
        ("eval", "run/model.safetensors", "--dataset", "digits", "--runs", "runs"),
        ("runs/*/*/*", "runs/*/*/*/*"),
        trained,
    ),
    "report": Case(("report", "run", "--out", "report.html"), ("report.html",), trained),
    "export": Case(("export", "run", "--out", "net.onnx"), ("net.onnx",), trained),
}


def results(folder: Path, case: Case) -> dict[str, bytes]:
    paths = [path for pattern in case.results for path in folder.glob(pattern) if not is_no_result(path)]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths if path.is_file()}


def is_no_result(path: Path) -> bool:
    """Whether a file says by its name that it is a lock, or a part of something to be gone on with."""
    return path.suffix in (".part", ".blocks", ".tmp", ".lock")


@pytest.mark.parametrize("name", CASES)
def test_a_killed_command_leaves_whole_files_and_can_be_repeated(launcher: Launcher, tmp_path: Path, name: str) -> None:
    case, chance = CASES[name], random.Random(name)
    whole = tmp_path / "whole" / "here"  # reports name the last folders of a run
    whole.mkdir(parents=True)
    case.make(whole, launcher)
    fresh = shutil.copytree(whole, tmp_path / "killed" / "here")
    began = time.monotonic()
    done = launcher.run(*case.arguments, cwd=whole, before=case.before)
    duration = time.monotonic() - began
    assert done.code == 0, done.err
    expected, killed = results(whole, case), 0
    assert expected
    for _ in range(KILLS):
        process = launcher.start(*case.arguments, cwd=fresh, before=case.before)
        time.sleep(duration * chance.uniform(0.2, 1))
        process.send(signal.SIGKILL)
        died = process.wait().code == -signal.SIGKILL
        killed += died
        duration *= 1 if died else 0.5  # it was faster than the first time
        assert results(fresh, case).items() <= expected.items()
    again = launcher.run(*case.arguments, cwd=fresh, before=case.before)
    assert again.code == 0, again.err
    assert results(fresh, case) == expected
    assert killed


@pytest.mark.parametrize("name", ["data pack", "data prepare"])
def test_two_at_once_do_not_spoil_each_other(launcher: Launcher, tmp_path: Path, name: str) -> None:
    """The second is told to wait, or finds the work done."""
    case = CASES[name]
    case.make(tmp_path, launcher)
    pair = [launcher.start(*case.arguments, cwd=tmp_path, before=case.before) for _ in range(2)]
    ends = [process.wait() for process in pair]
    assert sorted(end.code for end in ends) in ([0, 0], [0, 5])
    for end in ends:
        assert end.code == 0 or "Wait for it" in end.err
    once = results(tmp_path, case)
    assert launcher.run(*case.arguments, cwd=tmp_path, before=case.before).code == 0
    assert results(tmp_path, case) == once
