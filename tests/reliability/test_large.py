"""ImageNet-LT's layout, small: killed in an epoch and resumed a run ends as one from a pack does."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest

from benchmarks import _synthetic
from ltk.data.catalogue import FACTS, Facts, train_counts
from ltk.data.longtail import imbalance_counts
from tests.reliability.processes import Launcher

NAME = "imagenet-lt"
COUNTS = imbalance_counts(160, 12, 40)
IMAGES = {"train": int(COUNTS.sum()), "val": 24, "test": 60}
TINY = f"""
import numpy as np
from ltk.data import catalogue, official
catalogue.FACTS["{NAME}"] = catalogue.Facts(title="tiny", num_classes={len(COUNTS)}, images={IMAGES})
official.train_counts = lambda name: np.array({COUNTS.tolist()})
"""
FROM_DISK = TINY + "import ltk.data.banks as banks; banks.free_memory = lambda device: 0"
TRAIN = (
    *("train", "balanced-softmax", "--dataset", NAME, "--root", "data", "--model", "cifar_resnet8", "--epochs", "2"),
    *("--batch-size", "32", "--device", "cpu", "--set", "model.width=4", "--set", "data.image_size=14"),
    *("--set", "run.threads=1", "--set", "run.save_steps=3", "--quiet"),
    *("--set", "data.full_resolution=false"),  # what a pack holds
)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the data set under ``data``."""
    facts = Facts(title="tiny", num_classes=len(COUNTS), images=IMAGES)
    monkeypatch.setattr(_synthetic, "train_counts", lambda name: COUNTS)
    monkeypatch.setattr(_synthetic, "get_facts", lambda name: facts)
    assert _synthetic.write_data_set(NAME, tmp_path / "data", pixels=20, per_class=3) == IMAGES
    return tmp_path


def test_a_large_data_set_is_trained_killed_resumed_packed_and_evaluated(launcher: Launcher, place: Path) -> None:
    leg = launcher.start(*TRAIN, "--out", "killed", cwd=place, before=FROM_DISK)
    leg.wait_until(lambda: (place / "killed/checkpoints/previous.safetensors").exists(), 60)
    leg.send(signal.SIGKILL)
    assert leg.wait().code == -signal.SIGKILL
    whole = launcher.run("train", "--resume", "killed", "--quiet", cwd=place, before=FROM_DISK)
    assert whole.code == 0, whole.err
    pack = launcher.run("data", "pack", NAME, "--root", "data", "--size", "16", cwd=place, before=TINY)
    assert pack.code == 0, pack.err
    for path in (place / "data" / "files").iterdir():
        before = path.stat()  # all names link here: what trains now reads the pack alone
        path.write_bytes(b"\0" * before.st_size)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    packed = launcher.run(*TRAIN, "--out", "packed", cwd=place, before=FROM_DISK)
    assert packed.code == 0, packed.err
    assert (place / "packed/metrics.jsonl").read_bytes() == (place / "killed/metrics.jsonl").read_bytes()
    shown = launcher.run("eval", "killed", "--split", "many,medium,few", "--json", cwd=place, before=TINY)
    assert shown.code == 0, shown.err
    splits = json.loads(shown.out)["splits"]
    assert sum(splits[name]["images"] for name in ("many", "medium", "few")) == IMAGES["test"]
    assert sum(splits[name]["train_images"] for name in ("many", "medium", "few")) == IMAGES["train"]


def test_the_published_shape_is_written(tmp_path: Path) -> None:
    """All lines and class counts of ImageNet-LT; the links are left out here."""
    counts = train_counts(NAME)
    lines = list(_synthetic._name_images(NAME, "train", counts.tolist()))
    assert len(lines) == len({path for path, _, _ in lines}) == FACTS[NAME].images["train"] == 115_846
    assert np.bincount([label for _, label, _ in lines]).tolist() == counts.tolist()
