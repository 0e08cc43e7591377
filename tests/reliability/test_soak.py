"""A long run holds no more memory, files or processes at its end than at its beginning.

The suite trains 60 epochs from memory and from the disk; ``make soak`` 1,000 (LTK_SOAK_EPOCHS).
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import psutil
import pytest
from PIL import Image

from tests.reliability.processes import Launcher

EPOCHS = int(os.environ.get("LTK_SOAK_EPOCHS", "60"))
FIRST = 10
GROWTH = 20e6  # bytes; a loss tensor kept per step with its graph makes ten times as much
FROM_DISK = "import ltk.data.banks as banks; banks.free_memory = lambda device: 0"
SMALL = ("--epochs", str(EPOCHS), "--set", "model.width=4", "--set", "run.device=cpu", "--set", "run.workers=2")


def make_images(folder: Path) -> None:
    chance = random.Random(0)
    for part, count in (("train", 40), ("test", 10)):
        for name in ("ash", "beech"):
            place = folder / part / name
            place.mkdir(parents=True)
            for i in range(count):
                Image.frombytes("RGB", (12, 12), chance.randbytes(12 * 12 * 3)).save(place / f"{i}.png")


def count_epochs(run: Path) -> int:
    path = run / "metrics.jsonl"
    return path.read_text().count("\n") if path.exists() else 0


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("source", ["memory", "disk"])
def test_a_long_run_stays_as_large_as_it_was(launcher: Launcher, tmp_path: Path, source: str) -> None:
    make_images(tmp_path / "images")
    data = {"memory": ("--dataset", "digits"), "disk": ("--dataset", "images", "--batch-size", "16")}
    arguments = ("train", "ce", *data[source], *SMALL, "--out", "run")
    run = launcher.start(*arguments, cwd=tmp_path, before=FROM_DISK if source == "disk" else "")
    process = psutil.Process(run.pid)
    memory, files, children = [], [], set()
    for epoch in (FIRST, EPOCHS - 1):
        run.wait_until(lambda epoch=epoch: count_epochs(tmp_path / "run") >= epoch, 3600)
        with process.oneshot():
            memory.append(process.memory_info().rss)
            files.append(process.num_fds())
        children |= set(process.children(recursive=True))
    done = run.wait()
    assert done.code == 0, done.err
    print(f"\n{source}: {(memory[1] - memory[0]) / 1e6:+.1f} MB over {EPOCHS - FIRST} epochs, {files} files")  # noqa: T201
    assert memory[1] - memory[0] < GROWTH
    assert abs(files[1] - files[0]) <= 1  # a checkpoint may be being written
    assert not any(child.is_running() for child in children)
