"""The catalogue of bad input: what the user gets, as an exit code and a message, and what is on the disk afterwards.

Each row is a process of its own. A row names the exit code, words the message must hold, and by default nothing may be
on the disk that was not there before.
"""

from __future__ import annotations

import atexit
import functools
import gzip
import hashlib
import os
import random
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ltk.checkpoint import read_tensors, write_tensors
from ltk.engine.fit import fit
from ltk.resolve import resolve_config
from tests.reliability.processes import Launcher

SMALL = ("--set", "model.width=4", "--set", "run.device=cpu", "--epochs", "1")


def make_images(folder: Path, *, classes: Mapping[str, int] | None = None) -> None:
    """Make folders of classes with tiny pictures."""
    chance = random.Random(0)
    for part in ("train", "test"):
        for name, count in (classes or {"ash": 6, "beech": 6}).items():
            place = folder / part / name
            place.mkdir(parents=True)
            for i in range(count):
                Image.frombytes("RGB", (12, 12), chance.randbytes(12 * 12 * 3)).save(place / f"{i}.png")


def make_lists(folder: Path, train: str | bytes | None = None) -> None:
    """Make pictures and the lists ``train.txt`` and ``test.txt``."""
    make_images(folder / "images")
    for part in ("train", "test"):
        lines = [f"{part}/{name}/{i}.png {label}" for label, name in enumerate(("ash", "beech")) for i in range(6)]
        (folder / f"{part}.txt").write_text("\n".join(lines) + "\n")
    if isinstance(train, bytes):
        (folder / "train.txt").write_bytes(train)
    elif train is not None:
        (folder / "train.txt").write_text(train, encoding="utf-8")


LISTED = ("data", "stats", "list", "--root", "images", "--train-list", "train.txt", "--test-list", "test.txt")
GOOD = "train/ash/0.png 0\ntrain/beech/0.png 1\n"


def listed(text: str | bytes) -> Callable[[Path], None]:
    return lambda folder: make_lists(folder, text)


def spoiled(path: str, content: bytes) -> Callable[[Path], None]:
    """Pictures, of which one file holds something else."""

    def make(folder: Path) -> None:
        make_images(folder / "images")
        (folder / "images" / path).write_bytes(content)

    return make


def cut_short(folder: Path) -> None:
    make_images(folder / "images")
    path = folder / "images" / "train" / "ash" / "3.png"
    path.write_bytes(path.read_bytes()[:-20])


def replaced(make_link: Callable[[Path], None], path: str = "train/ash/3.png") -> Callable[[Path], None]:
    """Pictures, of which one is not a file any more."""

    def make(folder: Path) -> None:
        make_images(folder / "images")
        (folder / "images" / path).unlink()
        make_link(folder / "images" / path)

    return make


def wrong_archive(folder: Path) -> None:
    (folder / "cifar-10-binary.tar.gz").write_bytes(gzip.compress(b"not an archive"))


def written(name: str, content: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        (folder / name).write_text(content, encoding="utf-8")

    return make


def one_class_without_images(folder: Path) -> None:
    make_images(folder / "images")
    (folder / "images" / "train" / "larch").mkdir()


def one_class_in_the_test_set_alone(folder: Path) -> None:
    make_images(folder / "images")
    shutil.rmtree(folder / "images" / "train" / "beech")


def encoded(name: str, picture: Image.Image, kind: str = "PNG", **options: Any) -> Callable[[Path], None]:
    """Pictures, of which one is of another kind."""

    def make(folder: Path) -> None:
        make_images(folder / "images")
        picture.save(folder / "images" / "train" / "ash" / name, kind, **options)

    return make


def same_on_both_sides(folder: Path) -> None:
    make_images(folder / "images")
    shutil.copy(folder / "images/train/ash/0.png", folder / "images/test/ash/again.png")


def forbidden(folder: Path) -> None:
    make_images(folder / "images")
    shutil.rmtree(folder / "images" / "train" / "ash")
    (folder / "images" / "train" / "ash").symlink_to("/usr/share")


def folder_for_an_image(folder: Path) -> None:
    make_images(folder / "images")
    (folder / "images" / "train" / "ash" / "x.png").mkdir()


def twins(folder: Path) -> None:
    """Two classes whose names look alike: one letter with its accent, and a letter and an accent."""
    make_images(folder / "images", classes={"\u00c4sche": 6, "A\u0308sche": 6})


def checkpoint(content: object) -> Callable[[Path], None]:
    """A file of ``torch.save``."""

    def make(folder: Path) -> None:
        import torch

        torch.save(content, folder / "x.pth")

    return make


def hostile(folder: Path) -> None:
    from tests.convert.hostile_files import payloads

    (folder / "x.pth").write_bytes(payloads(folder / "marker")["os.system"]())


def network(**changes: object) -> dict[str, object]:
    """The weights of a small network."""
    import timm

    import ltk.models.backbones  # noqa: F401  registers the CIFAR nets

    net = timm.create_model("cifar_resnet8", num_classes=3, width=4)
    return {name: value.clone() for name, value in net.state_dict().items()} | changes


def with_nan(folder: Path) -> None:
    import torch

    checkpoint(network(**{"fc.bias": torch.tensor([0.0, float("nan"), 0.0])}))(folder)


def two_networks(folder: Path) -> None:
    checkpoint({"state_dict": network(), "ema": network()})(folder)


def one_network(folder: Path) -> None:
    checkpoint(network())(folder)


def beside_its_output(folder: Path) -> None:
    one_network(folder)
    (folder / "x.safetensors").write_text("years of work")


def rotten(folder: Path) -> None:
    """A JPEG some bits of which have changed since its checksum was taken; it can still be opened."""
    make_images(folder / "images")
    path = folder / "images" / "train" / "ash" / "x.jpg"
    Image.effect_noise((32, 32), 60).save(path, "JPEG")
    (folder / "sums").write_text(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  train/ash/x.jpg\n")
    data = bytearray(path.read_bytes())
    data[-20] ^= 4
    path.write_bytes(data)


@functools.cache
def train_once() -> Path:
    """A run on the pictures of ``make_images``; copy it."""
    place = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, place)
    make_images(place / "images")
    options = {"optim.epochs": 1, "optim.batch_size": 4, "model.width": 4, "run.device": "cpu"}
    fit(resolve_config("ce", dataset=str(place / "images"), options=options).config, out=place / "run")
    return place


def trained(change: Callable[[Path], None] = lambda folder: None) -> Callable[[Path], None]:
    """Pictures and a run on them, then changed."""

    def make(folder: Path) -> None:
        shutil.copytree(train_once(), folder, dirs_exist_ok=True)
        change(folder)

    return make


def without_logits(folder: Path) -> None:
    shutil.rmtree(folder / "run" / "logits")


def other_order(folder: Path) -> None:
    """The class that came first has a name that comes last."""
    for part in ("train", "test"):
        (folder / "images" / part / "ash").rename(folder / "images" / part / "willow")


def logits_of_nan(folder: Path) -> None:
    path = folder / "run" / "logits" / "test.safetensors"
    tensors, metadata = read_tensors(path)
    tensors["logits_NK"][3, 1] = float("nan")
    write_tensors(path, tensors, metadata)


def nothing(folder: Path) -> None:
    return None


@dataclass(frozen=True)
class Row:
    """One line of the catalogue.

    Attributes:
        number: its number there.
        arguments: of ``ltk``.
        code: the exit code.
        words: what the message must hold.
        make: what to put on the disk first.
        env: environment variables to set or, with None, to unset.
        before: Python code to run first.
        leaves: beginnings of paths that may differ afterwards.
    """

    number: int
    arguments: tuple[str, ...]
    code: int = 0
    words: tuple[str, ...] = ()
    make: Callable[[Path], None] = nothing
    env: Mapping[str, str | None] = field(default_factory=dict)
    before: str = ""
    leaves: tuple[str, ...] = ("\0",)


TRAIN = ("train", "ce", "--dataset", "digits", *SMALL)
FOLDER = ("train", "ce", "--dataset", "images", *SMALL, "--batch-size", "4")
VANISHING = """
import pathlib, ltk.data.banks, ltk.engine.fit
ltk.data.banks.free_memory = lambda device: 0
train = ltk.engine.fit._train
def vanish(*arguments, **options):
    pathlib.Path("images/train/ash/3.png").unlink()
    return train(*arguments, **options)
ltk.engine.fit._train = vanish
"""
TRUNCATING = """
import os, ltk.checkpoint
read = ltk.checkpoint.read_tensors
def read_and_cut(path, **options):
    found = read(path, **options)
    os.truncate(path, 100)
    return found
ltk.checkpoint.read_tensors = read_and_cut
"""
VERIFY = ("data", "verify", "images")
JUDGE = ("eval", "run/model.safetensors", "--dataset", "images", "--runs", "judged")
GREY = Image.new("L", (12, 12), 99)
CONVERT = ("convert", "x.pth")
ROWS: Mapping[str, Row] = {
    "root is missing": Row(1, ("train", "ce", "--dataset", "folder", "--root", "absent"), 3, ("no folder absent",)),
    "root is a file": Row(
        1, ("train", "ce", "--dataset", "folder", "--root", "x"), 3, ("x is a file",), written("x", "")
    ),
    "root is empty": Row(1, FOLDER, 3, ("images",), lambda folder: (folder / "images").mkdir()),
    "wrong root of lists": Row(2, LISTED, 3, ("0 of 2 listed",), listed("val/a/0.png 0\nval/b/0.png 1\n")),
    "some listed files are missing": Row(
        3, LISTED, 3, ("2 of 3", "train/ash/77.png"), listed(GOOD + "train/ash/77.png 0\n")
    ),
    "labels with a hole": Row(4, LISTED, 3, ("label", "1"), listed("train/ash/0.png 0\ntrain/beech/0.png 2\n")),
    "class without images": Row(4, FOLDER, 3, ("larch",), one_class_without_images),
    "class of the test set that training lacks": Row(
        4,
        FOLDER,
        3,
        ("beech",),
        one_class_in_the_test_set_alone,
    ),
    "image of zero bytes": Row(6, VERIFY, 3, ("train/ash/3.png",), spoiled("train/ash/3.png", b"")),
    "web page for an image": Row(6, FOLDER, 3, ("train/ash/3.png",), spoiled("train/ash/3.png", b"<!DOCTYPE html>")),
    "image cut short": Row(7, FOLDER, 3, ("train/ash/3.png",), cut_short),
    "same image in training and test": Row(
        5, (*VERIFY, "--deep"), 0, ("train/ash/0.png", "test/ash/again.png"), same_on_both_sides
    ),
    "same image in training and test, strictly": Row(
        5, (*VERIFY, "--deep", "--strict"), 3, ("train/ash/0.png", "test/ash/again.png"), same_on_both_sides
    ),
    "rotten bits": Row(8, (*VERIFY, "--checksums", "sums"), 3, ("1 image changed", "train/ash/x.jpg"), rotten),
    "16-bit image": Row(9, FOLDER, 0, make=encoded("x.png", Image.new("I;16", (12, 12), 40_000)), leaves=("runs",)),
    "image of floats": Row(9, FOLDER, 3, ("x.tiff", "mode F"), encoded("x.tiff", Image.new("F", (12, 12)), "TIFF")),
    "other colour spaces": Row(
        10, FOLDER, 0, make=encoded("x.jpg", Image.new("CMYK", (12, 12)), "JPEG"), leaves=("runs",)
    ),
    "animation": Row(
        11,
        FOLDER,
        0,
        make=encoded("x.gif", GREY, "GIF", save_all=True, append_images=[Image.new("L", (12, 12))]),
        leaves=("runs",),
    ),
    "one pixel": Row(13, FOLDER, 3, ("train/ash/x.png", "1x1"), encoded("x.png", Image.new("RGB", (1, 1)))),
    "PNG called JPEG": Row(14, FOLDER, 0, make=encoded("x.JPG", GREY), leaves=("runs",)),
    "folder called image": Row(15, FOLDER, 0, make=folder_for_an_image, leaves=("runs",)),
    "class that is a link out": Row(16, FOLDER, 4, ("train/ash",), forbidden),
    "classes that look alike": Row(21, FOLDER, 3, ("sche",), twins),
    "long folder": Row(21, ("train", "ce", "--dataset", "folder", "--root", "x" * 300), 3, ("xxx",)),
    "dangling link": Row(15, FOLDER, 3, ("train/ash/3.png",), replaced(lambda p: p.symlink_to("nowhere.png"))),
    "looping link": Row(15, FOLDER, 3, ("train/ash/3.png",), replaced(lambda p: p.symlink_to(p.name))),
    "pipe": Row(15, FOLDER, 3, ("train/ash/3.png",), replaced(lambda p: os.mkfifo(p))),
    "link out of the root": Row(16, FOLDER, 4, ("train/ash/3.png",), replaced(lambda p: p.symlink_to("/etc/passwd"))),
    "absolute path in a list": Row(16, LISTED, 4, ("/etc/passwd",), listed(GOOD + "/etc/passwd 0\n")),
    "path out of the root in a list": Row(16, LISTED, 4, ("../secret.png",), listed(GOOD + "../secret.png 0\n")),
    "CRLF, tabs, byte order mark": Row(
        17, LISTED, 0, make=listed(b"\xef\xbb\xbf" + GOOD.replace(" ", "\t").replace("\n", "\r\n\r\n").encode())
    ),
    "line without a label": Row(18, LISTED, 3, ("train.txt:3", "train/ash/1.png"), listed(GOOD + "train/ash/1.png\n")),
    "negative label": Row(19, LISTED, 3, ("train.txt:3",), listed(GOOD + "train/ash/1.png -1\n")),
    "label that is a float": Row(19, LISTED, 3, ("train.txt:3",), listed(GOOD + "train/ash/1.png 1.0\n")),
    "label with an underscore": Row(19, LISTED, 3, ("train.txt:3",), listed(GOOD + "train/ash/1.png 1_0\n")),
    "label in other digits": Row(19, LISTED, 3, ("train.txt:3",), listed(GOOD + "train/ash/1.png \u0661\n")),
    "label of 5,000 digits": Row(19, LISTED, 3, ("train.txt:3",), listed(GOOD + "train/ash/1.png " + "9" * 5000)),
    "control characters": Row(19, LISTED, 3, (r"\x1b[31m",), listed(GOOD + "\x1b[31m \n")),
    "empty list": Row(20, LISTED, 3, ("train.txt is empty",), listed("")),
    "list that is not UTF-8": Row(20, LISTED, 3, ("not UTF-8",), listed(b"\xff\xfe\x00a\x00")),
    "imbalance 0": Row(22, ("train", "ce", "--imb", "0"), 2, ("imbalance", "100")),
    "imbalance below 0": Row(22, ("train", "ce", "--imb=-5"), 2, ("imbalance",)),
    "imbalance the wrong way": Row(22, ("train", "ce", "--imb", "0.01"), 2, ("Use 100, not 0.01",)),
    "imbalance nan": Row(22, ("train", "ce", "--imb", "nan"), 2, ("imbalance",)),
    "imbalance inf": Row(22, ("train", "ce", "--imb", "inf"), 2, ("imbalance",)),
    "tail without images": Row(23, ("train", "ce", "--imb", "1e6"), 2, ("without images",)),
    "more images than there are": Row(23, (*TRAIN, "--imb", "10", "--set", "data.head=9999"), 2, ("class 0: 9999",)),
    "wrong archive": Row(
        24,
        ("data", "prepare", "cifar10", "--from", "cifar-10-binary.tar.gz", "--root", "data"),
        3,
        ("cifar-10",),
        wrong_archive,
    ),
    "no network": Row(
        25,
        ("data", "prepare", "cifar10", "--root", "data"),
        6,
        ("cifar-10",),
        env={"https_proxy": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"},
        leaves=("data",),
    ),
    "last batch of one image": Row(27, (*TRAIN, "--batch-size", "11")),
    "image that vanishes while training": Row(
        36,
        FOLDER,
        3,
        ("train/ash/3.png",),
        lambda folder: make_images(folder / "images"),
        before=VANISHING,
        leaves=("runs", "images/train/ash/3.png"),
    ),
    "batch larger than the data": Row(26, (*TRAIN, "--batch-size", "100000"), 2, ("larger than the 342",)),
    "learning rate nan": Row(28, ("train", "ce", "--lr", "nan"), 2, ("optim.lr",)),
    "learning rate inf": Row(28, ("train", "ce", "--lr", "inf"), 2, ("optim.lr",)),
    "weight decay below 0": Row(28, ("train", "ce", "--set", "optim.weight_decay=-1"), 2, ("optim.weight_decay",)),
    "no epochs": Row(28, ("train", "ce", "--epochs", "0"), 2, ("optim.epochs",)),
    "warm-up longer than training": Row(
        28, ("train", "ce", "--set", "optim.schedule.warmup_epochs=99"), 2, ("warmup_epochs 99",)
    ),
    "workers below 0": Row(28, ("train", "ce", "--set", "run.workers=-1"), 2, ("run.workers",)),
    "seed too large": Row(28, ("train", "ce", "--seed", "99999999999999999999"), 2, ("run.seed",)),
    "option of a method nan": Row(28, (*TRAIN, "--set", "method.tau=nan"), 2, ("method", "tau")),
    "unknown value of on_nan": Row(28, ("train", "ce", "--set", "run.on_nan=ignore"), 2, ("run.on_nan",)),
    "device that is not there": Row(37, ("train", "ce", "--device", "cuda:99"), 6, ("cuda:99",)),
    "device that does not exist": Row(37, ("train", "ce", "--device", "tpu"), 2, ("--device", "cuda:N")),
    "out of memory": Row(
        38,
        TRAIN,
        6,
        ("out of memory", "--batch-size"),
        before="""
import torch, ltk.engine.fit
def fail(*arguments): raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
ltk.engine.fit.plan_data = fail
""",
    ),
    "checkpoint that is not there": Row(43, ("finetune-classifier", "absent"), 3, ("absent",)),
    "checkpoint that is none": Row(43, ("eval", "x", "--dataset", "digits"), 3, ("x",), written("x", "none")),
    "network of other classes": Row(
        44, (*JUDGE[:2], "--dataset", "digits"), 3, ("2 classes apart, digits has 10",), trained()
    ),
    "network of another shape": Row(
        44,
        (*FOLDER, "--set", "model.width=8", "--set", "model.pretrained=run/model.safetensors"),
        3,
        ("run/model.safetensors", "conv1.weight is (4, 3, 3, 3), not (8, 3, 3, 3)"),
        trained(),
    ),
    "network of other names": Row(
        45, JUDGE, 3, ("class 0 of model.safetensors is 'ash'", "'beech'"), trained(other_order)
    ),
    "second stage of other names": Row(
        45,
        ("finetune-classifier", "run/model.safetensors", "--dataset", "images", *SMALL[2:]),
        3,
        ("class 0 of model.safetensors is 'ash'", "'beech'"),
        trained(other_order),
    ),
    "network of other counts": Row(
        45,
        (*JUDGE, "--imb", "2"),
        3,
        ("6 to 6 images a class, images at imbalance 2 has 6 to 3", "--imb"),
        trained(),
    ),
    "logits of nan": Row(47, ("eval", "run"), 7, ("1 of 12 images", "not finite"), trained(logits_of_nan)),
    "model that is cut short after it was read": Row(
        49, ("eval", "run"), 0, make=trained(without_logits), before=TRUNCATING, leaves=("run",)
    ),
    "model that is cut short between two looks": Row(
        49, JUDGE, 3, ("model.safetensors changed while it was read",), trained(), before=TRUNCATING, leaves=("run",)
    ),
    "nothing to evaluate": Row(46, ("eval",), 3, ("no run",)),
    "nothing to convert": Row(50, ("convert", "absent.pth"), 3, ("absent.pth",)),
    "hostile checkpoint": Row(50, CONVERT, 4, ("hostile", "os.system"), hostile),
    "no state dict": Row(50, CONVERT, 3, ("no state dict", "epoch"), checkpoint({"epoch": 3, "best": 0.5})),
    "weights that are nan": Row(50, CONVERT, 3, ("fc.bias", "1 of 3"), with_nan),
    "output exists": Row(50, CONVERT, 5, ("x.safetensors", "--force"), beside_its_output),
    "output is the input": Row(
        50, (*CONVERT, "--out", "x.pth", "--force"), 2, ("overwrite its source",), beside_its_output
    ),
    "output in no folder": Row(50, (*CONVERT, "--out", "no/y.safetensors"), 2, ("no", "folder"), beside_its_output),
    "output to a pipe": Row(50, (*CONVERT, "--out", "-"), 2, ("file",), beside_its_output),
    "several networks": Row(51, CONVERT, 3, ("state_dict", "ema", "--key"), two_networks),
    "wrong architecture": Row(51, (*CONVERT, "--arch", "resnet50"), 3, ("x.pth",), one_network),
    "no threads left": Row(
        36,
        (*FOLDER, "--quiet"),
        6,
        ("no more threads", "run.workers"),
        lambda folder: make_images(folder / "images"),
        before="""
import ltk.data.banks, threading
ltk.data.banks.free_memory = lambda device: 0
def fail(self): raise RuntimeError("can't start new thread")
threading.Thread.start = fail
""",
        leaves=("runs",),
    ),
    "folder to convert": Row(50, ("convert", "x"), 3, ("x",), lambda folder: (folder / "x").mkdir()),
    "unknown option": Row(52, ("train", "ce", "--epoch", "3"), 2, ("--epochs",)),
    "word for a number": Row(52, ("train", "ce", "--lr", "abc"), 2, ("--lr",)),
    "unknown method": Row(52, ("train", "glcm"), 2, ("glmc",)),
    "unknown data set": Row(52, ("train", "ce", "--dataset", "cifar-10"), 2, ("cifar10",)),
    "unknown backbone": Row(52, (*TRAIN, "--model", "resnet51"), 2, ("resnet50",)),
    "unknown key": Row(52, ("train", "ce", "--set", "optim.momentun=0.9"), 2, ("momentum",)),
    "unknown option of a method": Row(52, (*TRAIN, "--set", "method.gama=1"), 2, ("gama",)),
    "setting without a section": Row(52, ("train", "ce", "--set", "lr=1"), 2, ("section.key=value",)),
    "unknown key in a file": Row(
        52, ("train", "x.toml"), 2, ("x.toml", "momentum"), written("x.toml", "[optim]\nmomentun = 0.9\n")
    ),
    "key twice in a file": Row(
        52, ("train", "x.toml"), 2, ("x.toml", "line 3"), written("x.toml", "[optim]\nlr = 1\nlr = 2\n")
    ),
    "file that is not TOML": Row(
        52, ("train", "x.toml"), 2, ("x.toml", "line 1"), written("x.toml", "!!python/object/apply:os.system ['id']")
    ),
    "file that is not there": Row(52, ("train", "x.toml"), 2, ("x.toml",)),
    "neither a method nor a run": Row(52, ("train",), 2, ("--resume",)),
    "run that is not there": Row(30, ("train", "--resume", "absent"), 3, ("absent",)),
    "folder that is no run": Row(30, ("train", "--resume", "x"), 3, ("x",), lambda folder: (folder / "x").mkdir()),
    "out holds something else": Row(30, (*TRAIN, "--out", "."), 5, (".",), written("thesis.tex", "years of work")),
    "out is a file": Row(30, (*TRAIN, "--out", "x"), 5, ("x",), written("x", "")),
    "resume into another folder": Row(30, ("train", "--resume", "x", "--out", "y"), 2, ("--out",)),
}


def listing(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else b"" for p in sorted(folder.rglob("*"))}


@pytest.mark.parametrize("name", ROWS)
def test_catalogue(launcher: Launcher, tmp_path: Path, name: str) -> None:
    row = ROWS[name]
    row.make(tmp_path)
    before = listing(tmp_path)
    done = launcher.run(*row.arguments, cwd=tmp_path, env={"HOME": str(tmp_path), **row.env}, before=row.before)
    message = " ".join((done.err + done.out).split())
    assert done.code == row.code, done.err
    for word in row.words:
        assert word in message
    assert "Traceback" not in done.err + done.out
    assert "this is a bug" not in done.err
    if row.code:
        assert "Error" in done.err
        assert {path: data for path, data in listing(tmp_path).items() if not path.startswith(row.leaves)} == {
            path: data for path, data in before.items() if not path.startswith(row.leaves)
        }
