"""A CUDA graph's behaviour on the CPU: what was recorded is repeated on the same tensors, with the same host values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


class Tape(TorchDispatchMode):
    """Notes every operator; ``undo`` takes back what they did, ``replay`` repeats them.

    A number that Python read or computed while recording is repeated as it was: as in a CUDA graph.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._calls: list[tuple[Any, Any, Any, Any]] = []
        self._own: dict[int, Tensor] = {}
        self._before: dict[int, tuple[torch.UntypedStorage, torch.UntypedStorage]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        for tensor in _tensors((args, kwargs)):
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in self._own and storage.data_ptr() not in self._before:
                self._before[storage.data_ptr()] = (storage, storage.clone())
        out = func(*args, **kwargs)
        self._calls.append((func, args, kwargs, out))
        for tensor in _tensors(out):
            if tensor.untyped_storage().data_ptr() not in self._before:
                self._own[tensor.untyped_storage().data_ptr()] = tensor
        return out

    def undo(self) -> None:
        for storage, before in self._before.values():
            storage.copy_(before)

    @torch.no_grad()
    def replay(self) -> None:
        for func, args, kwargs, out in self._calls:
            for old, new in zip(_tensors(out), _tensors(func(*args, **kwargs)), strict=True):
                if old.untyped_storage().data_ptr() != new.untyped_storage().data_ptr():
                    old.copy_(new)


def record_on_tape(function: Callable[[], None]) -> Callable[[], None]:
    """Stand in for ``ltk.engine.capture.record_cuda_graph``."""
    tape = Tape()
    with tape:
        function()
    tape.undo()
    return tape.replay
