"""What torchrun, Slurm or ``--devices`` says of this process in its environment; imports no torch."""

from __future__ import annotations

import os

from ltk.errors import EnvironmentFault


def read_number(name: str, default: int, least: int = 0) -> int:
    """Return the number that a variable of the environment holds; one that is empty is not set, as for torch.

    Args:
        name: of the variable.
        default: where it is not set.
        least: the smallest that makes sense.

    Raises:
        EnvironmentFault: it is no number, or too small.
    """
    text = os.environ.get(name)
    try:
        number = int(text) if text else default
    except ValueError:
        number = least - 1
    if number < least:
        raise EnvironmentFault(f"{name} is {text!r}, not a number from {least} on", f"Give it one, or: unset {name}")
    return number


def find_place() -> tuple[int, int]:
    """Return the rank of this process, and how many were started together; 0 of 1 where none says so.

    Raises:
        EnvironmentFault: RANK and WORLD_SIZE are no numbers, or do not fit together.
    """
    if not os.environ.get("RANK"):
        return 0, 1
    rank, world = read_number("RANK", 0), read_number("WORLD_SIZE", 1, least=1)
    if world == 1:
        return 0, 1
    if rank >= world:
        raise EnvironmentFault(f"RANK is {rank}, of {world} processes", f"Let RANK count from 0 to {world - 1}.")
    return rank, world
