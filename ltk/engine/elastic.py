"""torchrun's restarts: a job that lost a process is started anew, and its run goes on from the last checkpoint.

torchrun starts the same command again; that it is not the first time, the environment says. The run is found by
``--out``, or by the name of the job, which a run started by torchrun keeps in ``environment.json``.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path

from ltk.errors import DataError
from ltk.files import read_json
from ltk.launch import read_number
from ltk.run_files import CONFIG, ENVIRONMENT

_UNNAMED = "none"  # what torchrun calls a job without --rdzv-id
_START_TIME = 21  # of a process, in /proc/<pid>/stat


def count_restarts() -> int:
    """Return how many times torchrun has started this command before; 0 without torchrun."""
    return read_number("TORCHELASTIC_RESTART_COUNT", 0)


def job_name() -> str | None:
    """Return what tells the job of this process from all others, the same after a restart; None without torchrun."""
    name = os.environ.get("TORCHELASTIC_RUN_ID")
    if name != _UNNAMED:
        return name
    agent = os.getppid()
    return f"{socket.gethostname()}:{agent}:{_started(agent)}"


def _started(process: int) -> str:
    try:
        fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return ""
    return fields[_START_TIME - 2]


def find_begun_run(out: Path | None, runs: Path) -> Path | None:
    """Return the run that this job began before it was restarted, on every rank; None where there is none.

    Args:
        out: where the run was to be; None for the next free place.
        runs: the folder of runs.
    """
    if not count_restarts():
        return None
    from ltk import distributed  # imports torch, which a wrong --out shall not wait for

    found = _find(out, runs) if distributed.is_leader() else None
    path = distributed.from_leader(str(found or ""))
    return Path(path) if path else None


def _find(out: Path | None, runs: Path) -> Path | None:
    if out is not None:
        return out if (out / CONFIG).exists() else None
    return next((path.parent for path in runs.glob(f"*/*/{CONFIG}") if _read_job(path.parent) == job_name()), None)


def _read_job(run: Path) -> str | None:
    try:
        environment = read_json(run / ENVIRONMENT)
    except DataError:
        return None
    return environment.get("job") or "unknown"
