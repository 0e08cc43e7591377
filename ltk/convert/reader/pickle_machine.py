"""A pickle machine that describes what a pickle would build and never looks up, imports or calls anything.

A global becomes a ``Name``, a call becomes a ``Call`` that remembers function and arguments; what they mean is decided
later, from a list, by ``assembly``. Everything else is plain data.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from ltk.convert.reader.limits import LIMITS, MEBIBYTE, Limits
from ltk.convert.reader.names import Uses
from ltk.convert.reader.opcodes import EXTENSIONS, OPERATIONS
from ltk.convert.reader.source import Source
from ltk.convert.reader.values import MARK, Call, Name, corrupt
from ltk.errors import UnsafeError

_SIMPLE = (str, int, float, bytes, bool, type(None))
_HASH_MODULUS = (1 << 61) - 1
_MAPPINGS = {"collections.OrderedDict", "collections.Counter", "builtins.dict", "__builtin__.dict"}
_STOP = ord(".")
_LONGEST_NAME = 512


def _is_simple(key: Any) -> bool:
    """A key that cannot be made to collide with many others (-1 and -2 do; integers do modulo 2**61 - 1)."""
    if type(key) is tuple:
        return len(key) <= 4 and all(isinstance(part, _SIMPLE) and _is_simple(part) for part in key)
    return isinstance(key, _SIMPLE) and not (isinstance(key, int) and abs(key) >= _HASH_MODULUS)


class Machine:
    """Interprets one pickle.

    Args:
        source: where the opcodes come from.
        persistent: turns a persistent id into a value (a storage).
        limits: bounds.

    Attributes:
        uses: what it would have done with names.
    """

    def __init__(self, source: Source, persistent: Callable[[Any], Any], limits: Limits = LIMITS) -> None:
        self.source: Source = source
        self.persistent: Callable[[Any], Any] = persistent
        self.limits: Limits = limits
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.uses = Uses()
        self._copied = 0

    def run(self) -> Any:
        """Return what the pickle describes.

        Raises:
            DataError: truncated or malformed.
            UnsafeError: beyond the limits.
        """
        take, operations = self.source.take, OPERATIONS
        for _ in range(self.limits.operations):
            opcode = take(1)[0]
            operation = operations.get(opcode)
            if operation is not None:
                operation(self)
            elif opcode == _STOP:
                return self.pop()
            elif opcode in EXTENSIONS:
                raise UnsafeError("the pickle uses the extension registry, which can name any code")
            else:
                raise corrupt(f"0x{opcode:02x} is no pickle opcode")
        raise UnsafeError(f"the pickle has more than {self.limits.operations} operations")

    def push(self, value: Any) -> None:
        """Put a value on the stack."""
        self.stack.append(value)

    def pop(self) -> Any:
        """Take the top value."""
        if not self.stack or self.stack[-1] is MARK:
            raise corrupt("pickle stack underflow")
        return self.stack.pop()

    def top(self) -> Any:
        """Look at the top value."""
        if not self.stack or self.stack[-1] is MARK:
            raise corrupt("pickle stack underflow")
        return self.stack[-1]

    def pop_to_mark(self) -> list[Any]:
        """Take all values above the last mark, and the mark."""
        values: list[Any] = []
        while self.stack:
            value = self.stack.pop()
            if value is MARK:
                values.reverse()
                return values
            values.append(value)
        raise corrupt("no mark on the pickle stack")

    def name(self, module: Any, attribute: Any) -> None:
        """Push a dotted name."""
        if not (isinstance(module, str) and isinstance(attribute, str)):
            raise corrupt("a global that is no text")
        if len(module) + len(attribute) > _LONGEST_NAME:
            raise corrupt(f"a global of {len(module) + len(attribute)} characters")
        self.push(self.uses.name(module, attribute))

    def call(self, function: Any, arguments: Any) -> None:
        """Push a call; an ordered dictionary is a dictionary, and protocol 2's spelling of bytes is bytes."""
        if isinstance(function, Name):
            self.uses.call(function, arguments)
        self._push_result(function, arguments)

    def make(self, function: Any, arguments: Any) -> None:
        """Push an object that comes to be without a call of its class."""
        if isinstance(function, Name):
            self.uses.made.add(function)
        self._push_result(function, arguments)

    def _push_result(self, function: Any, arguments: Any) -> None:
        if isinstance(function, Call):
            raise UnsafeError("hostile file: unpickling it would call what another call returned")
        if not isinstance(function, Name):
            raise corrupt("a call of something that is no function")
        if function == "_codecs.encode":
            self.push(self._encoded(arguments))
        else:
            self.push(self._mapping(arguments) if function in _MAPPINGS else Call(function, arguments))

    def _copy(self, count: int) -> None:
        """Count what calls copy: each value and character of an honest file is copied once at most."""
        self._copied += count
        if self._copied > self.source.size + MEBIBYTE:
            raise UnsafeError("the pickle copies its contents without end")

    def _encoded(self, arguments: Any) -> bytes:
        text = arguments[0] if type(arguments) is tuple and arguments else None
        if not isinstance(text, str):
            raise corrupt("bytes that are none")
        self._copy(len(text))
        try:
            return text.encode("latin-1")
        except UnicodeEncodeError as error:
            raise corrupt("bytes that are none") from error

    def _mapping(self, arguments: Any) -> dict[Any, Any]:
        result: dict[Any, Any] = {}
        first = arguments[0] if type(arguments) is tuple and arguments else ()
        if type(first) in (dict, list):
            self._copy(len(first))
        if type(first) is dict:
            return dict(first)
        for pair in first if type(first) is list else ():
            if type(pair) in (list, tuple) and len(pair) == 2:
                self._set(result, pair[0], pair[1])
        return result

    @staticmethod
    def _set(mapping: dict[Any, Any], key: Any, value: Any) -> None:
        safe = key if _is_simple(key) else Name(f"<{type(key).__name__} {len(mapping)}>")
        if safe in mapping:
            raise corrupt(f"the key {str(safe)[:80]!r} is set twice")
        mapping[safe] = value

    def set_items(self, target: Any, flat: list[Any]) -> None:
        """Set alternating keys and values."""
        mapping = target.pairs if isinstance(target, Call) else target
        if type(mapping) is not dict or len(flat) % 2:
            raise corrupt("items set on something that has none")
        for key, value in zip(flat[::2], flat[1::2], strict=True):
            self._set(mapping, key, value)

    def extend(self, target: Any, values: list[Any]) -> None:
        """Append values."""
        items = target.items if isinstance(target, Call) else target
        if type(items) is not list:
            raise corrupt("append to something that is no list")
        items.extend(values)

    def remember(self, index: int) -> None:
        """Store the top value in the memo."""
        if len(self.memo) >= self.limits.memo:
            raise UnsafeError(f"the pickle remembers more than {self.limits.memo} objects")
        self.memo[index] = self.top()

    def recall(self, index: int) -> None:
        """Push a remembered value."""
        if index not in self.memo:
            raise corrupt("the pickle refers to an object it never made")
        self.push(self.memo[index])

    def number(self, size: int, kind: str) -> Any:
        """Read one little-endian number (``struct`` letter ``kind``)."""
        return struct.unpack("<" + kind, self.source.take(size))[0]

    def text(self, count: int) -> str:
        """Read text of ``count`` bytes."""
        return self.source.text(count, self.limits.text)

    def raw(self, count: int) -> bytes:
        """Read ``count`` bytes."""
        if count > self.limits.text:
            raise UnsafeError(f"the pickle claims {count} bytes in one object")
        return self.source.take(count)


def interpret(source: Source, persistent: Callable[[Any], Any], limits: Limits = LIMITS) -> tuple[Any, set[str]]:
    """Run one pickle and judge the names in it.

    Args:
        source: where the opcodes come from; left just behind the pickle.
        persistent: turns a persistent id into a value.
        limits: bounds.

    Returns:
        What the pickle describes, and all names in it.

    Raises:
        DataError: truncated or malformed.
        UnsafeError: beyond the limits, or it would call what no checkpoint calls.
    """
    machine = Machine(source, persistent, limits)
    try:
        return machine.run(), machine.uses.named
    finally:
        machine.uses.refuse_hostile()
