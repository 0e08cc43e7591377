"""Torch's own generators, from which dropout inside a backbone draws: each process has its own.

Networks are drawn alike by all processes. From then on rank 0 draws on, as a single process does, and every other one
draws numbers of its own. A checkpoint holds the states of all: rank 0's by their kind (``cpu``, ``cuda``), those of
rank r as ``cpu.r`` and ``cuda.r``.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ltk import distributed, draws

_PURPOSE = 99  # of the keys folded from the seed


def seed_own(seed: int, update: int = 0) -> None:
    """Seed this process by (seed, rank, update); rank 0 is left as it is.

    Args:
        seed: of the run.
        update: from which the numbers are drawn.
    """
    if not distributed.is_leader():
        torch.manual_seed(int(draws.fold(draws.make_key(seed), _PURPOSE, distributed.rank(), update)))


def gather_states(device: torch.device) -> dict[str, Tensor]:
    """Return the states of all processes, for a checkpoint.

    Args:
        device: of the run; the host's generator always belongs to them.
    """
    states: dict[str, Tensor] = {}
    for kind, state in _read(device).items():
        for rank, each in enumerate(distributed.gather(state[None])):
            states[_name(kind, rank)] = each
    return states


def restore_own(states: Mapping[str, Tensor], device: torch.device, seed: int, update: int) -> None:
    """Take up this process's states; where the checkpoint has none, as it had fewer processes, seed anew.

    Args:
        states: what ``gather_states`` gave.
        device: of the run.
        seed: of the run.
        update: made so far.
    """
    seed_own(seed, update)
    host, cuda = (states.get(_name(kind, distributed.rank())) for kind in ("cpu", "cuda"))
    if host is not None:
        torch.set_rng_state(host)
    if cuda is not None and device.type == "cuda":
        torch.cuda.set_rng_state(cuda, device)


def _read(device: torch.device) -> dict[str, Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def _name(kind: str, rank: int) -> str:
    return f"{kind}.{rank}" if rank else kind
