"""From what a pickle describes to plain data: tensors as checked windows of storages, everything else inert."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from ltk.convert.reader.limits import LIMITS, Limits
from ltk.convert.reader.numpy_values import array_of, scalar_of
from ltk.convert.reader.storage import ITEM_SIZES, Bytes, Storage
from ltk.convert.reader.values import Call, Name, on_one_line, shown
from ltk.errors import DataError, UnsafeError

_PLAIN_TENSORS = {"torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2"}
_PARAMETERS = {"torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state"}
_ABSURD = 1 << 48  # elements, and any one size, stride or offset
_AXES = 8
_SETS = {"builtins.set", "builtins.frozenset", "__builtin__.set", "__builtin__.frozenset"}


@dataclass(frozen=True, slots=True)
class Window:
    """A tensor: elements of a storage, all of them present.

    Attributes:
        storage: index into ``Assembly.storages``.
        dtype: of its elements.
        offset: first element, from the start of the storage.
        shape: sizes.
        stride: in elements.
    """

    storage: int
    dtype: str
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass
class Assembly:
    """Turns the machine's result into a tree of JSON values.

    A container is ``[tag, [...]]`` with the tag list, tuple, set or dict (of pairs); a tensor is ``["tensor", i]``.

    Args:
        source: the bytes of storages.
        budget: bytes that all tensors may have together.
        limits: bounds.

    Attributes:
        windows: the tensors.
        storages: key in ``source`` (or raw bytes) of each storage in use.
    """

    source: Bytes
    budget: int
    limits: Limits = LIMITS
    windows: list[Window] = field(default_factory=list)
    storages: list[str | bytes] = field(default_factory=list)
    _known: dict[Any, int] = field(default_factory=dict)
    _done: dict[int, tuple[Any, Any, int]] = field(default_factory=dict)
    _nodes: int = 0

    def walk(self, value: Any, depth: int = 0) -> Any:
        """Return the JSON form of a value.

        Raises:
            DataError: a tensor that is malformed or of an unsupported kind.
            UnsafeError: nesting, size or a window beyond what is there.
        """
        self._count(depth)
        if value is None or type(value) in (str, int, float, bool):
            return value
        if type(value) is bytes:
            return ["bytes", value.decode("latin-1")]
        if isinstance(value, Name | Storage):
            return None
        return self._remembered(value, depth)

    def _count(self, depth: int) -> None:
        """Count a value against the limits."""
        self._nodes += 1
        if depth > self.limits.depth or self._nodes > self.limits.nodes:
            raise UnsafeError("the file nests or repeats its contents without end")

    def _remembered(self, value: Any, depth: int) -> Any:
        """Containers are walked once; one that holds itself is cut there. A repeated one costs what it cost first."""
        if id(value) in self._done:
            _, result, cost = self._done[id(value)]
            self._nodes += cost
            return result
        before = self._nodes
        self._done[id(value)] = value, None, 0
        result = self._container(value, depth + 1)
        self._done[id(value)] = value, result, self._nodes - before
        return result

    def _container(self, value: Any, depth: int) -> Any:
        if isinstance(value, Call):
            return self._call(value, depth)
        if type(value) is dict:
            return self._pairs(value, depth)
        tag = "tuple" if type(value) is tuple else "list"
        return [tag, [self.walk(part, depth) for part in value]]

    def _pairs(self, mapping: dict[Any, Any], depth: int) -> Any:
        pairs = [[str(key) if isinstance(key, Name) else self.walk(key, depth), part] for key, part in mapping.items()]
        return ["dict", [[key, self.walk(part, depth)] for key, part in pairs]]

    def _call(self, call: Call, depth: int) -> Any:
        name, arguments = call.function, call.arguments if type(call.arguments) is tuple else ()
        if name.startswith("torch._utils._rebuild_") or name == "torch._tensor._rebuild_from_type_v2":
            return self._tensor_call(name, arguments, depth)
        if name.endswith("multiarray.scalar"):
            return scalar_of(arguments)
        if name.endswith(("multiarray._reconstruct", "numeric._frombuffer")):
            return self._array(call)
        if name in _SETS:
            values = call.items or (arguments[0] if arguments and type(arguments[0]) is list else [])
            return ["set", [self.walk(part, depth) for part in values]]
        return self._inert(call, depth)

    def _inert(self, call: Call, depth: int) -> Any:
        """An object: the state dict of a module, the items of a mapping, or its attributes."""
        state = call.state
        if type(state) is tuple and len(state) == 2 and type(state[0]) is dict:
            state = state[0]  # (dict, slots)
        if type(state) is dict and "_parameters" in state and "_modules" in state:
            return ["dict", self._module(state, "", depth)]
        if call.pairs:
            return self._pairs(call.pairs, depth)
        if type(state) is dict:
            return self._pairs(state, depth)
        return None

    def _module(self, state: dict[Any, Any], prefix: str, depth: int) -> list[Any]:
        """The state dict of a whole pickled ``nn.Module``."""
        entries = []
        transient = self._names_in(state.get("_non_persistent_buffers_set"), depth)
        for part in ("_parameters", "_buffers"):
            for name, tensor in _mapping(state.get(part)).items():
                walked = self.walk(tensor, depth)
                if walked is not None and not (part == "_buffers" and name in transient):
                    entries.append([f"{prefix}{name}", walked])
        for name, module in _mapping(state.get("_modules")).items():
            self._count(depth)
            inner = module.state if isinstance(module, Call) else None
            if type(inner) is dict and "_parameters" in inner:
                entries += self._module(inner, f"{prefix}{name}.", depth + 1)
        return entries

    def _names_in(self, value: Any, depth: int) -> set[str]:
        """The texts of a pickled set; none of anything else."""
        walked = self.walk(value, depth)
        is_set = type(walked) is list and walked[0] == "set"
        return {part for part in walked[1] if isinstance(part, str)} if is_set else set()

    def _tensor_call(self, name: str, arguments: tuple[Any, ...], depth: int) -> Any:
        if name in _PLAIN_TENSORS and len(arguments) >= 4:
            return self._window(arguments[:4])
        if name == "torch._utils._rebuild_tensor_v3" and len(arguments) >= 7:
            return self._window(arguments[:4], shown(arguments[6]).removeprefix("torch."))
        if name in _PARAMETERS and arguments:
            return self.walk(arguments[0], depth)
        if name == "torch._tensor._rebuild_from_type_v2" and len(arguments) == 4 and isinstance(arguments[0], Name):
            return self.walk(Call(arguments[0], arguments[2]), depth)
        kind = on_one_line(name.rpartition(".")[2].removeprefix("_rebuild_"), 40)
        raise DataError(f"a tensor of an unsupported kind ({kind}): sparse, quantised, or without values")

    def _window(self, arguments: tuple[Any, ...], dtype: str = "") -> Any:
        storage, offset, shape, stride = arguments
        shape = tuple(shape.arguments[0]) if _is_size(shape) else shape
        if not isinstance(storage, Storage):
            raise DataError("damaged checkpoint: a tensor without storage")
        if type(shape) is not tuple or type(stride) is not tuple or len(shape) != len(stride) or len(shape) > _AXES:
            raise UnsafeError("a tensor whose shape and strides do not fit each other")
        if not all(type(number) is int and 0 <= number < _ABSURD for number in (offset, *shape, *stride)):
            raise UnsafeError("a tensor with a negative or absurd size, stride or offset")
        dtype = dtype or storage.dtype
        if dtype not in ITEM_SIZES:
            raise DataError(f"a tensor of unsupported type {dtype[:40]!r}")
        return self._checked(storage, Window(self._index(storage), dtype, storage.start + offset, shape, stride))

    def _checked(self, storage: Storage, window: Window) -> Any:
        """Compare a window with the elements that are really there, in Python's unbounded integers."""
        size, count = ITEM_SIZES[window.dtype], math.prod(window.shape)
        present = min(storage.nbytes // size, storage.start + storage.length * ITEM_SIZES[storage.dtype] // size)
        reach = sum((length - 1) * step for length, step in zip(window.shape, window.stride, strict=True))
        if count and window.offset + reach >= present:
            raise UnsafeError("a tensor that reaches beyond its storage")
        if not count and math.prod(length or 1 for length in window.shape) >= _ABSURD:
            raise UnsafeError("an empty tensor of absurd sizes")
        if count > present:
            raise UnsafeError(f"a tensor of {count} elements over {present} stored ones")
        return self._new(window, count * size)

    def _index(self, storage: Storage) -> int:
        """Index of a storage, after comparing its claim with the bytes present."""
        if storage.key not in self._known:
            self._known[storage.key] = len(self.storages)
            self.storages.append(storage.key)
        present = self.source.size_of(storage.key)
        if present != storage.nbytes:
            raise DataError(f"damaged checkpoint: storage {storage.key[:40]!r} claims {storage.nbytes} bytes, "
                            f"{present} are present")  # fmt: skip
        return self._known[storage.key]

    def _new(self, window: Window, nbytes: int) -> Any:
        """Equal windows are one tensor; all of them together stay within the budget."""
        if window not in self._known:
            self.budget -= nbytes + 64
            if self.budget < 0:
                raise UnsafeError("the tensors together are larger than the file (overlapping storages)")
            self._known[window] = len(self.windows)
            self.windows.append(window)
        return ["tensor", self._known[window]]

    def _array(self, call: Call) -> Any:
        array = array_of(call)
        if array is None:
            return None
        self.storages.append(array.raw)
        window = Window(len(self.storages) - 1, array.dtype, 0, array.shape, array.strides)
        return self._new(window, len(array.raw))


def _mapping(value: Any) -> dict[Any, Any]:
    if isinstance(value, Call):
        return value.pairs
    return value if type(value) is dict else {}


def _is_size(value: Any) -> bool:
    """A call of torch.Size."""
    if not isinstance(value, Call) or type(value.arguments) is not tuple or not value.arguments:
        return False
    sizes = value.arguments[0]
    return value.function == "torch.Size" and type(sizes) in (list, tuple) and len(sizes) <= _AXES
