"""Ctrl-C, also where a library turns it into another error; imports nothing of ltk."""

from __future__ import annotations

import signal
from types import FrameType

_received: list[int] = []


def watch_interrupts() -> None:
    """Note each Ctrl-C before it is raised: C extensions make an ImportError of one that arrives while they load.

    A program started with the signal ignored or caught leaves it so.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _note)


def was_interrupted() -> bool:
    """Return whether a Ctrl-C was noted."""
    return bool(_received)


def _note(number: int, frame: FrameType | None) -> None:
    _received.append(number)
    signal.default_int_handler(number, frame)
