"""Read an untrusted checkpoint in a process of its own and hand back plain data."""

from __future__ import annotations

import hashlib
import json
import math
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from ltk.convert.reader.child import EXIT_WATCHED
from ltk.convert.reader.limits import LIMITS, MEBIBYTE
from ltk.convert.reader.messages import DESCRIPTION, END, ERROR, PIECE, Message, error_of
from ltk.convert.reader.storage import ITEM_SIZES
from ltk.errors import DataError, EnvironmentFault, UnsafeError

if TYPE_CHECKING:
    from torch import Tensor

_START = """import sys
sys.path.insert(0, {root!r})
from ltk.convert.reader.child import main
main({memory}, {seconds})"""
_ENVIRONMENT = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT")  # what Python itself may need to start
_PACKAGE_ROOT = str(Path(__file__).parents[3])
_LONGEST_DESCRIPTION = 512 * MEBIBYTE
_BYTES_PER_SECOND = 32 * MEBIBYTE


@dataclass
class RawCheckpoint:
    """What a file holds: a description and the bytes of its storages.

    Attributes:
        path: the file.
        sha256: of the whole file.
        size: its length in bytes.
        description: see ``ltk.convert.reader.open_file.Plan``.
        buffers: the bytes in use of each storage.
    """

    path: Path
    sha256: str
    size: int
    description: dict[str, Any] = field(default_factory=dict)
    buffers: list[bytearray] = field(default_factory=list)

    @property
    def warnings(self) -> list[str]:
        """What a user should know of the file."""
        foreign = self.description["foreign"]
        inert = [f"objects read as inert data: {', '.join(foreign)}"] if foreign else []
        return self.description["warnings"] + inert

    @property
    def kind(self) -> str:
        """Name of the container: TorchZip, TorchLegacy or SafetensorsFile."""
        return str(self.description["kind"])

    def tree(self) -> Any:
        """Return the contents: nested dictionaries, lists, tuples, sets, numbers, texts and torch tensors.

        Tensors are contiguous; names for one tensor share one object. Call it once: tensors share the buffers.
        """
        return _plain(self.description["tree"], self._tensors())

    def _tensors(self) -> list[Tensor]:
        import torch

        dtypes = {name: getattr(torch, name) for name in ITEM_SIZES}
        windows, spans = self.description["windows"], self.description["spans"]
        users = [0] * len(spans)
        for window in windows:
            users[window["storage"]] += 1
        tensors = []
        for window in windows:
            storage, shape = window["storage"], window["shape"]
            dtype = dtypes[window["dtype"]]
            if not math.prod(shape):
                tensors.append(torch.empty(shape, dtype=dtype))
                continue
            buffer = self.buffers[storage]  # windows of two types may share it: its length need not fit both
            flat = torch.frombuffer(buffer, dtype=dtype, count=len(buffer) // dtype.itemsize)
            offset = window["offset"] - spans[storage][0] // dtype.itemsize
            view = flat.as_strided(shape, window["stride"], offset)
            alone = users[storage] == 1 and view.numel() == flat.numel()
            tensors.append(view.contiguous() if alone else view.clone(memory_format=torch.contiguous_format))
        return tensors


def _plain(node: Any, tensors: list[Tensor]) -> Any:
    """Turn ``[tag, content]`` back into what it stands for."""
    if not isinstance(node, list):
        return node
    tag, content = node
    if tag == "tensor":
        return tensors[content]
    if tag == "bytes":
        return content.encode("latin-1")
    if tag == "dict":
        return {_plain(key, tensors): _plain(value, tensors) for key, value in content}
    values = [_plain(value, tensors) for value in content]
    return tuple(values) if tag == "tuple" else values


def read_checkpoint(path: Path) -> RawCheckpoint:
    """Read an untrusted checkpoint; nothing in it is run.

    Args:
        path: a file of torch.save (any version) or safetensors; its name does not matter.

    Raises:
        DataError: no such file, not a checkpoint, damaged, or cut short.
        UnsafeError: made to do harm, or asking for more than a file of its size may.
        EnvironmentFault: not readable, or too large for this machine's memory.
    """
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            raise DataError("not a file", "Give the checkpoint file itself.")
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            raw = RawCheckpoint(path, digest, path.stat().st_size)
            with closing(_ask_child(file, raw.size)) as messages:
                receive(raw, messages)
    except (DataError, UnsafeError) as error:
        raise type(error)(f"{path}: {error.message}", error.hint) from error
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except MemoryError as error:
        raise EnvironmentFault(f"{path} does not fit into this machine's memory") from error
    except OSError as error:
        raise EnvironmentFault(f"cannot read {path}: {error.strerror or error}") from error
    return raw


def receive(raw: RawCheckpoint, messages: Iterable[Message]) -> None:
    """Fill in description and buffers from messages.

    Raises:
        DataError, UnsafeError: as the messages say, or when they do not keep their word.
    """
    free: list[memoryview] = []
    for kind, content in messages:
        if kind == ERROR:
            raise error_of(content)
        if kind == DESCRIPTION:
            raw.description = json.loads(content)
            sizes = [length for _, length in raw.description["spans"]]
            if sum(sizes) > LIMITS.unpacked(raw.size):
                raise UnsafeError("the tensors together are larger than the file")
            raw.buffers = [bytearray(size) for size in sizes]
            free = [memoryview(buffer) for buffer in reversed(raw.buffers) if buffer]
        elif kind == PIECE:
            _fill(free, content)
        elif kind == END and not free:
            return
    raise UnsafeError("the file needs more memory or time than a checkpoint of its size", "Do not trust it.")


def _fill(free: list[memoryview], piece: bytes) -> None:
    """Put a piece where the last one ended; storages come in order and a piece belongs to one of them."""
    if not free or len(piece) > len(free[-1]):
        raise UnsafeError("the process that read the file sent too much", "Do not trust the file.")
    free[-1][: len(piece)] = piece
    free[-1] = free[-1][len(piece) :]
    if not free[-1]:
        free.pop()


def _ask_child(file: BinaryIO, size: int) -> Generator[Message]:
    """Start the reading process and yield its messages; it is stopped when it takes too long."""
    seconds = 4 + size // _BYTES_PER_SECOND
    start = _START.format(root=_PACKAGE_ROOT, memory=96 * MEBIBYTE + 2 * size, seconds=seconds)
    child = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", start],
        stdin=file, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd="/",
        env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
    )  # fmt: skip
    alarm = threading.Timer(2 * seconds, child.kill)
    alarm.start()
    assert child.stdout is not None
    try:
        yield from _messages_from(child.stdout)
    finally:
        alarm.cancel()
        child.kill()
        child.stdout.close()
        child.wait()
    if child.returncode == EXIT_WATCHED:
        raise UnsafeError("hostile file: reading it tried to do more than read")


def _messages_from(pipe: Any) -> Iterator[Message]:
    while len(head := pipe.read(9)) == 9:
        length = int.from_bytes(head[1:], "little")
        if length > _LONGEST_DESCRIPTION:
            return
        content = pipe.read(length)
        if len(content) == length:
            yield head[:1], content
