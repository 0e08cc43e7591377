"""Jobs of two processes, started as a user starts them, and the processes in them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]
TRAIN = ["train", "ce", "--dataset", "digits", "--device", "cpu", "--precision", "fp32", "--set", "run.threads=1"]
TORCHRUN = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--rdzv-backend", "c10d"]


def free_port() -> int:
    """Return the number of a port that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start_python(*arguments: str, folder: Path = ROOT, python_path: Path = ROOT) -> subprocess.Popen[str]:
    """Start Python with this repository on its path."""
    path = os.pathsep.join((str(ROOT), str(python_path)))
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def start_command(*arguments: str, python_path: Path = ROOT) -> subprocess.Popen[str]:
    """Start the command line in two processes."""
    return start_python("-m", "ltk", *arguments, "--devices", "2", python_path=python_path)


def start(run: Path, *arguments: str, python_path: Path = ROOT) -> subprocess.Popen[str]:
    """Start a new run in two processes."""
    return start_command(*TRAIN, "--out", str(run), *arguments, python_path=python_path)


def wait_for_epoch(run: Path, process: subprocess.Popen[str]) -> None:
    """Wait until the run has written its first epoch."""
    for _ in range(1200):
        if (run / "metrics.jsonl").exists():
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    raise AssertionError("no epoch in a minute")


def ranks_of(process: subprocess.Popen[str]) -> dict[str, psutil.Process]:
    """The training processes by rank."""
    return {child.environ().get("RANK", ""): child for child in psutil.Process(process.pid).children(recursive=True)}
