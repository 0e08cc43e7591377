"""A short turn of ``tests/fuzz_reader.py``; the long one is ``make fuzz``."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from ltk.convert.reader import read_checkpoint
from ltk.errors import DataError, LtkError, UnsafeError
from tests.fuzz_reader import Tally, create_seeds, fuzz, mutate, try_mutant

SECONDS = 8


def test_mutants_are_read_or_refused() -> None:
    tally = fuzz(create_seeds(), SECONDS, seed=0)
    assert tally.failures == []
    assert tally.count > 1000
    assert {"read", "converted", "DataError", "UnsafeError"} == set(tally.outcomes)


def test_the_fuzzer_sees_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise KeyError("unforeseen")

    tally = Tally()
    monkeypatch.setattr("ltk.convert.reader.messages.plan_reading", fail)
    for seed in create_seeds()[:5]:
        try_mutant(seed, tally)
    assert tally.failures


def test_mutants_in_the_reading_process(tmp_path: Path) -> None:
    rng, seeds, path = random.Random(7), create_seeds(), tmp_path / "mutant.pth"
    outcomes = set()
    for _ in range(25):
        path.write_bytes(mutate(rng, rng.choice(seeds)))
        try:
            read_checkpoint(path)
        except LtkError as error:
            outcomes.add(type(error))
    assert outcomes <= {DataError, UnsafeError}
    assert outcomes
    assert list(tmp_path.iterdir()) == [path]
