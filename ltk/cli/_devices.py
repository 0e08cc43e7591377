"""``--devices N``: the same command in N processes, and whose error is shown when one of them fails."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from ltk.errors import DivergedError, EnvironmentFault, LtkError, PeerLostError, StoppedError, UsageError
from ltk.launch import find_place

_REPORTS = "LTK_ERROR_REPORTS"  # folder in which the processes that ``run_on_devices`` started leave their errors
_SAME_EVERYWHERE = (UsageError, StoppedError, DivergedError)  # all processes raise them together


def is_worker() -> bool:
    """Return whether this process is one of several that torchrun, Slurm or ``--devices`` started."""
    return _find_place()[1] > 1


def is_follower() -> bool:
    """Return whether another process speaks for this one: every rank but 0."""
    return _find_place()[0] > 0


def _find_place() -> tuple[int, int]:
    """Rank and number of processes; what is wrong in the environment is told where they meet."""
    try:
        return find_place()
    except EnvironmentFault:
        return 0, 1


def quieten_torch() -> None:
    """Let torch's C++ code tell errors alone, where its log level is not set; called before torch is imported.

    Else each of several processes tells at each start that no parameter is unused; see ``ltk.engine.parallel``.
    """
    if is_worker():
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")


def is_under_torchrun() -> bool:
    """Return whether this process is one of several that something else than ``--devices`` started."""
    return is_worker() and _REPORTS not in os.environ


def claim_error(error: LtkError) -> bool:
    """Return whether an error is shown elsewhere: by the process that started this one, or by rank 0.

    Args:
        error: that ends this process.
    """
    if not is_worker():
        return False
    if _REPORTS not in os.environ:
        return is_follower() and isinstance(error, _SAME_EVERYWHERE)
    rank, _ = find_place()
    report = {
        "rank": rank,
        "time": time.time(),
        "message": error.message,
        "hint": error.hint,
        "exit_code": error.exit_code,
        "is_victim": isinstance(error, PeerLostError),
        "is_common": isinstance(error, _SAME_EVERYWHERE),
    }
    (Path(os.environ[_REPORTS]) / f"{rank}.json").write_text(json.dumps(report), encoding="utf-8")
    return True


def run_on_devices(devices: int) -> None:
    """Run this very command in several processes, as ``torchrun --standalone`` does, and wait for their end.

    A process that fails ends the others; a stop signal is passed on to all of them.

    Args:
        devices: how many; each process takes one.

    Raises:
        LtkError: the first error of any process, with its exit code.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # the cause is told below
    with tempfile.TemporaryDirectory(prefix="ltk-") as folder:
        os.environ[_REPORTS] = folder
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=devices,
            run_id=Path(folder).name,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            max_restarts=0,
            logs_specs=DefaultLogsSpecs(log_dir=folder),
        )
        try:
            elastic_launch(config, sys.executable)("-m", "ltk", *sys.argv[1:])
        except ChildFailedError as error:
            failure = error.get_first_failure()[1]
            raise _find_cause(Path(folder), failure.local_rank, failure.exitcode) from error
        except SignalException as error:
            raise _find_cause(Path(folder), 0, -int(error.sigval)) from error


def _find_cause(folder: Path, rank: int, code: int) -> LtkError:
    """Return the error of the process that failed first; what it was killed by, where it could not say."""
    reports = [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*.json")]
    own = sorted((report for report in reports if not report["is_victim"]), key=lambda report: report["time"])
    if own:
        return _rebuild(own[0])
    if code < 0:
        killed = f"process {rank} was killed by {signal.Signals(-code).name}"
        return EnvironmentFault(killed, "Out of memory? The last checkpoint is whole: continue with --resume.")
    if reports:
        return _rebuild(reports[0])
    return EnvironmentFault(f"process {rank} ended with code {code}", "See what it printed above.")


def _rebuild(report: dict[str, Any]) -> LtkError:
    prefix = "" if report["is_common"] else f"process {report['rank']}: "
    error = LtkError(prefix + report["message"], report["hint"])
    error.exit_code = report["exit_code"]
    return error
