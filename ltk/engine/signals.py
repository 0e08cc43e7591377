"""Stopping when asked: the first SIGINT, SIGTERM or SIGHUP lets the step finish, the second stops at once.

A process under torchrun gets the same signal twice where its whole group does, as Slurm sends it: once itself, once
passed on. There further signals change nothing; torchrun itself ends what does not end in time.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass
class StopRequest:
    """Which signal asked to stop; 0 while none did."""

    number: int = 0


@contextmanager
def catch_stop_signals() -> Iterator[StopRequest]:
    """Note the first stop signal instead of dying of it; the second one acts as usual, and ``nohup`` is respected."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request  # signals can be caught in the main thread alone
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    before = {number: handler for number, handler in before.items() if handler not in (signal.SIG_IGN, None)}

    def note(number: int, frame: FrameType | None) -> None:
        request.number = request.number or number
        if "TORCHELASTIC_RUN_ID" in os.environ:
            return
        for each, handler in before.items():
            signal.signal(each, handler)

    for number in before:
        signal.signal(number, note)
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
