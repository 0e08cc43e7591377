"""Each process draws numbers of its own, and goes on with them; a single one draws what it always drew."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ltk import distributed
from ltk.engine.generators import gather_states, restore_own, seed_own

CPU = torch.device("cpu")
SEED = 3


@pytest.fixture
def be(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """``be(rank)``: from here on be this process, with the seed's generator."""

    def become(rank: int) -> None:
        monkeypatch.setattr(distributed, "rank", lambda: rank)
        torch.manual_seed(SEED)

    return become


def test_one_process_draws_on_and_the_others_by_themselves(be: Callable[[int], None]) -> None:
    drawn = []
    for rank in range(4):
        be(rank)
        seed_own(SEED)
        drawn.append(torch.rand(3).tolist())
    torch.manual_seed(SEED)
    assert drawn[0] == torch.rand(3).tolist()
    assert len(set(map(tuple, drawn))) == 4


def test_the_states_of_all_are_gathered_under_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    assert gather_states(CPU).keys() == {"cpu"}
    monkeypatch.setattr(distributed, "gather", lambda x: torch.cat((x, x + 1, x + 2)))
    states = gather_states(CPU)
    assert list(states) == ["cpu", "cpu.1", "cpu.2"]
    assert torch.equal(states["cpu"], torch.get_rng_state())
    assert torch.equal(states["cpu.2"], torch.get_rng_state() + 2)


def test_each_takes_up_its_own_state(be: Callable[[int], None]) -> None:
    states, expected = {}, []
    for name in ("cpu", "cpu.1"):
        states[name] = torch.get_rng_state()
        expected.append(torch.rand(3).tolist())
    for rank in range(2):
        be(rank)
        restore_own(states, CPU, SEED, update=7)
        assert torch.rand(3).tolist() == expected[rank]


def test_a_process_that_is_new_is_seeded_at_the_update(be: Callable[[int], None]) -> None:
    """Of a checkpoint of fewer processes, or one written when only rank 0's state was kept."""
    states = {"cpu": torch.get_rng_state()}
    drawn = set()
    for rank, update in ((1, 7), (1, 7), (1, 8), (2, 7), (0, 7), (0, 8)):
        be(rank)
        restore_own(states, CPU, SEED, update)
        drawn.add((rank, *torch.rand(3).tolist()))
    assert len(drawn) == 4, "rank 0 goes on with its state, whatever the update"


def test_the_generator_of_the_device_belongs_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    restored: list[Tensor] = []
    monkeypatch.setattr("torch.cuda.get_rng_state", lambda device: torch.arange(16, dtype=torch.uint8))
    monkeypatch.setattr("torch.cuda.set_rng_state", lambda state, device: restored.append(state))
    states = gather_states(torch.device("cuda"))
    assert states.keys() == {"cpu", "cuda"}
    restore_own(states, torch.device("cuda"), SEED, 0)
    restore_own(states, CPU, SEED, 0)
    restore_own({"cpu": states["cpu"]}, torch.device("cuda"), SEED, 0)
    assert [state.tolist() for state in restored] == [list(range(16))]
