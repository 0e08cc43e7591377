"""Peak memory of tensors, counted operator by operator: the same on every machine and at every run."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class _Counter(TorchDispatchMode):
    """Counts the bytes of storages from the operator that makes them to the moment they are freed."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._alive: dict[int, int] = {}
        self._now = self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                self.count(leaf)
        return out

    def count(self, tensor: Tensor) -> None:
        """Count a tensor's storage, once."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._alive:
            return
        self._alive[key] = storage.nbytes()
        self._now += storage.nbytes()
        self.peak = max(self.peak, self._now)
        weakref.finalize(storage, self._forget, key)

    def _forget(self, key: int) -> None:
        self._now -= self._alive.pop(key, 0)


def measure_peak(work: Callable[[], object], held: Callable[[], Iterable[Tensor]]) -> int:
    """Return the most bytes that tensors take at one time.

    Args:
        work: is done once before, so that what lasts (gradients, the optimiser's state) is there, and once counted.
        held: the tensors that last.
    """
    work()
    gc.collect()
    counter = _Counter()
    for tensor in held():
        counter.count(tensor)
    with counter:
        work()
    return counter.peak
