"""Throw mutated checkpoints at the safe reader: ``python tests/fuzz_reader.py --seconds 3600``.

Every outcome must be a success or a refusal with a reason. A fault of the reader, a mutant that takes long, or memory
that grows is a failure; the offending mutant is written to a file.
"""

from __future__ import annotations

import argparse
import io
import random
import resource
import struct
import sys
import time
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import timm

sys.path.insert(0, str(Path(__file__).parents[1]))

import ltk.models.backbones  # noqa: F401  registers the CIFAR nets
from ltk.convert.convert import Request, convert_raw
from ltk.convert.reader import RawCheckpoint
from ltk.convert.reader.checkpoint_file import receive
from ltk.convert.reader.messages import read_messages
from ltk.errors import DataError, LtkError, UnsafeError
from tests.convert.honest_files import HONEST, weights
from tests.convert.honest_files import save as save_checkpoint
from tests.convert.hostile_files import DAMAGED, HOSTILE, payloads

SLOWEST = 1.0  # seconds for a mutant of at most 60 kB
_LARGEST = 60_000
_INTERESTING = [0, 1, 2, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 40, (1 << 63) - 1, (1 << 64) - 1]
_OPCODES = b"()N.0120IJKLMSTUVXabcdeghijklopqrstu}]\x80\x81\x82\x85\x86\x87\x88\x89\x8a\x8b\x8c\x8e\x90\x93\x94\x95\x96"

_FAULTS = ("cannot be understood", "more memory or time", "sent too much")  # what the reader says of itself

Mutation = Callable[[random.Random, bytearray], None]


def _flip(rng: random.Random, data: bytearray) -> None:
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _byte(rng: random.Random, data: bytearray) -> None:
    data[rng.randrange(len(data))] = rng.choice(_OPCODES) if rng.random() < 0.5 else rng.randrange(256)


def _number(rng: random.Random, data: bytearray) -> None:
    size = rng.choice([1, 2, 4, 8])
    value = (rng.choice(_INTERESTING) % (1 << 8 * size)).to_bytes(size, "little")
    at = rng.randrange(len(data))
    data[at : at + size] = value


def _cut(rng: random.Random, data: bytearray) -> None:
    del data[rng.randrange(len(data)) :]


def _remove(rng: random.Random, data: bytearray) -> None:
    at = rng.randrange(len(data))
    del data[at : at + rng.randrange(1, 64)]


def _repeat(rng: random.Random, data: bytearray) -> None:
    at = rng.randrange(len(data))
    block = data[at : at + rng.randrange(1, 64)]
    data[at:at] = block * rng.randrange(1, 20)


def _move(rng: random.Random, data: bytearray) -> None:
    source, target = rng.randrange(len(data)), rng.randrange(len(data))
    length = rng.randrange(1, 64)
    data[target : target + length] = data[source : source + length]


MUTATIONS: list[Mutation] = [_flip, _byte, _number, _cut, _remove, _repeat, _move]


def small_network() -> dict[str, Any]:
    """A checkpoint that converts."""
    net = timm.create_model("cifar_resnet8", num_classes=3, width=4)
    return {"state_dict": {name: value.clone() for name, value in net.state_dict().items()}}


def create_seeds() -> list[bytes]:
    """Small files of every kind."""
    seeds = [
        build()
        for build in (*HONEST.values(), *HOSTILE.values(), *DAMAGED.values(), *payloads("/nonexistent").values())
    ]
    seeds.append(save_checkpoint(weights(), _use_new_zipfile_serialization=False))
    seeds += [save_checkpoint(small_network(), _use_new_zipfile_serialization=zipped) for zipped in (True, False)]
    header = b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"__metadata__":{"format":"pt"}}'
    seeds.append(struct.pack("<Q", len(header)) + header + bytes(8))
    return [seed for seed in seeds if 0 < len(seed) <= _LARGEST]


def mutate(rng: random.Random, seed: bytes) -> bytes:
    """A mutant of a file; of a zip archive half the time its pickle, with checksums that fit, so that it is parsed."""
    if seed.startswith(b"PK") and rng.random() < 0.5:
        inner = _mutate_pickle(rng, seed)
        if inner is not None:
            return inner
    data = bytearray(seed)
    for _ in range(rng.choice([1, 1, 2, 3, 8])):
        if data:
            rng.choice(MUTATIONS)(rng, data)
    return bytes(data)


def _mutate_pickle(rng: random.Random, seed: bytes) -> bytes | None:
    out = io.BytesIO()
    try:
        with zipfile.ZipFile(io.BytesIO(seed)) as source, zipfile.ZipFile(out, "w") as target:
            if sum(record.file_size for record in source.infolist()) > _LARGEST:
                return None
            for name in dict.fromkeys(source.namelist()):
                content = bytearray(source.read(name))
                if name.endswith("data.pkl") and content:
                    for _ in range(rng.choice([1, 1, 2, 4])):
                        if content:
                            rng.choice(MUTATIONS)(rng, content)
                target.writestr(name, bytes(content))
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, ValueError, OSError, zlib.error, struct.error):
        return None
    return out.getvalue()


@dataclass
class Tally:
    """What came of the mutants.

    Attributes:
        outcomes: how often each.
        failures: mutants that broke a promise, with what they did.
        slowest: seconds.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[str, bytes]] = field(default_factory=list)
    slowest: float = 0.0

    @property
    def count(self) -> int:
        """Mutants tried."""
        return sum(self.outcomes.values())


def try_mutant(data: bytes, tally: Tally) -> None:
    """Read one mutant, build its tensors, look for a network in it, and book what happens.

    A slow one is timed twice: the first time may have held a whole garbage collection of a process that runs tests.
    """
    outcome, said, seconds = _timed(data)
    if seconds > SLOWEST:
        seconds = min(seconds, _timed(data)[2])
    tally.slowest = max(tally.slowest, seconds)
    tally.outcomes[outcome] += 1
    fault = outcome.startswith("raised") or any(words in said for words in _FAULTS)
    if fault or seconds > SLOWEST:
        tally.failures.append((f"{outcome} after {seconds:.2f} s: {said[:200]!r}", data))


def _timed(data: bytes) -> tuple[str, str, float]:
    """Return what becomes of a file, what is said of it, and seconds of the processor."""
    start = time.process_time()
    try:
        outcome, said = read(data)
    except Exception as error:  # the promise is that there is none
        outcome, said = f"raised {type(error).__name__}", str(error)
    return outcome, said, time.process_time() - start


def read(data: bytes) -> tuple[str, str]:
    """Return what becomes of a file, and the message if it is refused."""
    raw = RawCheckpoint(Path("mutant.pth"), "", len(data))
    try:
        receive(raw, read_messages(io.BytesIO(data), len(data)))
    except (DataError, UnsafeError) as error:
        return type(error).__name__, error.message
    try:
        convert_raw(raw, Request())
    except LtkError as error:
        return "read", error.message
    return "converted", ""


def fuzz(seeds: list[bytes], seconds: float, seed: int = 0) -> Tally:
    """Try mutants for a while, or until twenty have broken a promise.

    Args:
        seeds: files to mutate.
        seconds: how long.
        seed: of the mutations.
    """
    rng, tally = random.Random(seed), Tally()
    for original in seeds:
        read(original)  # imports what its kind needs
    end = time.monotonic() + seconds
    while time.monotonic() < end and len(tally.failures) < 20:
        mutant = mutate(rng, rng.choice(seeds))
        if len(mutant) <= _LARGEST:
            try_mutant(mutant, tally)
    return tally


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--keep", type=Path, default=Path("fuzz-failures"))
    arguments = parser.parse_args()
    seeds = create_seeds()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tally = fuzz(seeds, arguments.seconds, arguments.seed)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    for i, (what, data) in enumerate(tally.failures):
        arguments.keep.mkdir(exist_ok=True)
        (arguments.keep / f"{arguments.seed}-{i}.bin").write_bytes(data)
        print(what)  # noqa: T201
    print(f"seed {arguments.seed}: {tally.count} mutants, {dict(tally.outcomes)}")  # noqa: T201
    print(f"slowest {tally.slowest:.2f} s, memory +{grown:.0f} MB, {len(tally.failures)} failures")  # noqa: T201
    return 1 if tally.failures else 0


if __name__ == "__main__":
    sys.exit(main())
