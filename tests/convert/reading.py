"""Read bytes as the reading process does, but in this one."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from torch import Tensor

from ltk.convert.reader.checkpoint_file import RawCheckpoint, receive
from ltk.convert.reader.messages import read_messages


def read_here(data: bytes) -> RawCheckpoint:
    """Read a checkpoint from memory, without a process of its own."""
    raw = RawCheckpoint(Path("memory.pth"), "", len(data))
    receive(raw, read_messages(io.BytesIO(data), len(data)))
    return raw


def flat(node: Any, path: str = "") -> dict[str, Tensor]:
    """All tensors of a nested structure, by path."""
    if isinstance(node, Tensor):
        return {path: node}
    pairs = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list | tuple) else ()
    return {key: tensor for name, value in pairs for key, tensor in flat(value, f"{path}/{name}").items()}
