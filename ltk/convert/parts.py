"""Find the network in the contents of a checkpoint: which dictionaries of tensors belong together.

A part is told by its contents, not by what it is called: a body (convolutions), a block that stands on a body (GCL on
Places-LT keeps its last one apart), or a classifier alone. Parts that lie side by side form one candidate.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor

from ltk.convert.reader.values import on_one_line
from ltk.errors import DataError

Role = Literal["body", "block", "classifier"]
_WRAPPERS = re.compile(r"(?:(?<=\.)|^)(?:module|_orig_mod)\.")
_COMMON_PREFIXES = ("model", "net", "network", "backbone")
_TRAINING = re.compile(r"optim|sched|scaler|^amp$|^ema_updates$", re.IGNORECASE)
_BLOCK = re.compile(r"(?:conv|bn)[1-3]\.\w+|downsample\.[01]\.\w+")
_AVERAGED = "n_averaged"  # what torch's AveragedModel keeps beside its weights
_LONGEST_NAME, _LONGEST_PATH = 512, 1024


@dataclass(frozen=True, slots=True)
class Entry:
    """A tensor and where it stands in the file."""

    path: str
    tensor: Tensor


@dataclass(frozen=True, slots=True)
class Leftover:
    """A tensor that is no weight, and why."""

    path: str
    tensor: Tensor
    reason: str


@dataclass(frozen=True)
class Part:
    """One dictionary of tensors.

    Attributes:
        path: where it stands; empty for the whole file.
        entries: by name, wrappers such as ``module.`` taken off.
        role: what it is.
    """

    path: str
    entries: dict[str, Entry]
    role: Role

    @property
    def parent(self) -> str:
        """The path of what holds it."""
        return self.path.rpartition("/")[0]


@dataclass
class Contents:
    """What a file holds.

    Attributes:
        parts: its dictionaries of tensors.
        leftovers: tensors outside of them.
        facts: numbers and texts at the top (epoch, arch, best_acc1).
    """

    parts: list[Part] = field(default_factory=list)
    leftovers: list[Leftover] = field(default_factory=list)
    facts: dict[str, int | float | str] = field(default_factory=dict)


def read_contents(tree: Any) -> Contents:
    """Sort the contents of a file into parts, leftovers and facts.

    Raises:
        DataError: names that no network has, or that collide.
    """
    contents = Contents()
    for path, node in _walk(tree, ""):
        if isinstance(node, Tensor):
            contents.leftovers.append(Leftover(path, node, _leftover_reason(path, node)))
        else:
            entries = _unwrapped(path, node)
            role = _role_of(entries)
            if role is None:
                contents.leftovers += [Leftover(e.path, e.tensor, "belongs to no layer") for e in entries.values()]
            else:
                contents.parts.append(Part(path, entries, role))
    if isinstance(tree, dict):
        simple = {str(key): value for key, value in tree.items() if isinstance(value, int | float | str)}
        contents.facts = {
            on_one_line(key, 40): on_one_line(value) if isinstance(value, str) else value
            for key, value in simple.items()
        }
    return contents


def _walk(node: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield state dicts, and tensors that belong to none."""
    if isinstance(node, Tensor):
        yield path, node
    elif isinstance(node, dict):
        tensors = {key: value for key, value in node.items() if isinstance(value, Tensor) and key != _AVERAGED}
        is_state = any(isinstance(key, str) and ("." in key or key == "weight") for key in tensors)
        if is_state and not _in_training_state(path):
            yield path, tensors
        for key, value in node.items():
            if not (is_state and key in tensors) or _in_training_state(path):
                yield from _walk(value, _below(path, key))
    elif isinstance(node, list | tuple):
        for i, value in enumerate(node):
            yield from _walk(value, _below(path, i))


def _below(path: str, key: Any) -> str:
    """The path of a part; of endless names the beginning, since every tensor below keeps one."""
    name = on_one_line(str(key), _LONGEST_PATH)
    return (f"{path}/{name}" if path else name)[:_LONGEST_PATH]


def _in_training_state(path: str) -> bool:
    return any(_TRAINING.search(segment) for segment in path.split("/")) if path else False


def _leftover_reason(path: str, tensor: Tensor) -> str:
    if _in_training_state(path):
        return "state of the optimiser"
    if path.rpartition("/")[2] == _AVERAGED:
        return "how many models were averaged (SWA)"
    return "a recorded number" if tensor.numel() == 1 else "belongs to no state dict"


def _unwrapped(path: str, tensors: Mapping[Any, Tensor]) -> dict[str, Entry]:
    """Take wrappers off the names; two names may not become one."""
    entries: dict[str, Entry] = {}
    for key, tensor in tensors.items():
        where = f"{path}/{key}" if path else str(key)
        name = _WRAPPERS.sub("", _checked_name(key))
        if name in entries:
            raise DataError(f"{entries[name].path!r} and {where!r} are one name once 'module.' is taken off")
        entries[name] = Entry(where, tensor)
    while (prefix := _common_prefix(entries)) is not None:
        entries = {name.removeprefix(prefix): entry for name, entry in entries.items()}
    return entries


def _common_prefix(names: Mapping[str, Entry]) -> str | None:
    first = next(iter(names)).partition(".")[0]
    prefix = first + "."
    return prefix if first in _COMMON_PREFIXES and all(name.startswith(prefix) for name in names) else None


def _checked_name(key: Any) -> str:
    """Refuse names that cannot be told apart on a screen or written to a safetensors file."""
    if not isinstance(key, str):
        raise DataError(f"a tensor is called {key!r}, which is no text")
    if not key.isprintable() or not 0 < len(key.encode("utf-8", "surrogatepass")) <= _LONGEST_NAME:
        raise DataError(f"a tensor has an unusable name: {key[:80]!r}")
    if key == "__metadata__":
        raise DataError("a tensor is called __metadata__, which safetensors files reserve")
    return key


def _role_of(entries: Mapping[str, Entry]) -> Role | None:
    """What a dictionary of tensors is; None without the matrix or kernel of any layer (weights of a loss)."""
    owners = {name.rpartition(".")[0] for name in entries}
    leaves = {name.rpartition(".")[2] for name in entries}
    if len(owners) == 1 and leaves <= {"weight", "bias"}:
        weight = next((entry.tensor for name, entry in entries.items() if name.endswith("weight")), None)
        if weight is not None and weight.ndim == 2:
            return "classifier"
    if all(_BLOCK.fullmatch(name.removeprefix("layer5.")) for name in entries):
        return "block"
    return "body" if any(entry.tensor.ndim in (2, 4) for entry in entries.values()) else None
