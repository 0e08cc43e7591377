"""What is wrong with the arguments is said at once: before torch is imported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.reliability.processes import ROOT

# An installed package is compiled once.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
HEAVY = {"torch", "numpy", "torchvision", "timm", "scipy", "sklearn", "matplotlib"}
SECONDS = 0.3  # of processor time, of the fastest of some attempts
LIBRARIES = "import typer.main, pydantic, rich.console"  # what any answer has to load
SLACK = 3.0  # times these, on a machine so busy that even they take long
ATTEMPTS = 5
MISTAKES = (
    ("train", "ce", "--imb", "0"),
    ("train", "ce", "--imb", "0.01"),
    ("train", "ce", "--lr", "nan"),
    ("train", "ce", "--set", "optim.weight_decay=-1"),
    ("train", "ce", "--epochs", "0"),
    ("train", "ce", "--seed", "99999999999999999999"),
    ("train", "ce", "--groups", "10,90"),
    ("train", "ce", "--imb-type", "expo"),
    ("train", "ce", "--device", "tpu"),
    ("eval", "--device", "tpu"),
    ("report", "--device", "cuda:"),
    ("finetune-classifier", "--device", "cuda:300"),
    ("train", "ce", "--epoch", "3"),
    ("train", "ce", "--lr", "abc"),
    ("train", "ce", "--set", "optim.momentun=0.9"),
    ("train", "ce", "--set", "lr"),
    ("train", "ce", "--dataset", "cifar-10"),
    ("train", "glcm"),
    ("train", "absent.toml"),
    ("train",),
    ("train", "--resume", "absent"),
    ("train", "ce", "--out", "."),
)


def run(arguments: tuple[str, ...], folder: Path) -> tuple[int, str, float]:
    """Return exit code, standard error and processor time of the command in a new process."""
    code = (
        "import sys, time; import ltk.cli; sys.argv = ['ltk', *sys.argv[1:]]\n"
        "try: ltk.cli.main()\n"
        f"finally: print(sorted({HEAVY!r} & set(sys.modules)), time.process_time())"
    )
    (folder / "something").touch()
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        env=ENVIRONMENT | {"PYTHONPATH": str(ROOT)},
        timeout=60,
    )
    modules, _, seconds = done.stdout.strip().rpartition(" ")
    assert modules == "[]", arguments
    return done.returncode, done.stderr, float(seconds)


@pytest.mark.parametrize("arguments", MISTAKES, ids=" ".join)
def test_mistakes_are_answered_without_torch(arguments: tuple[str, ...], tmp_path: Path) -> None:
    code, errors, _ = run(arguments, tmp_path)
    assert code in (2, 3, 5)
    assert "Error" in errors


@pytest.mark.parametrize("arguments", [MISTAKES[0], MISTAKES[3], MISTAKES[9]], ids=" ".join)
def test_mistakes_are_answered_quickly(arguments: tuple[str, ...], tmp_path: Path) -> None:
    taken, needed = [], []
    for _ in range(ATTEMPTS):
        taken.append(run(arguments, tmp_path)[2])
        if taken[-1] < SECONDS:
            return
        needed.append(measure(LIBRARIES))
    assert min(taken) < SLACK * min(needed), (taken, needed)


def measure(code: str) -> float:
    """Return the processor time of a Python program."""
    program = f"{code}\nimport time; print(time.process_time())"
    return float(subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout)
