"""What each pickle opcode does to the machine; the opcodes are those of Python's ``pickletools``."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ltk.convert.reader.values import MARK, Call, Name, corrupt
from ltk.errors import UnsafeError

if TYPE_CHECKING:
    from ltk.convert.reader.pickle_machine import Machine

Operation = Callable[["Machine"], None]
LONGEST_INTEGER = 1024


def _ignore(_: object) -> None:
    return None


def _integer(text: str) -> int:
    try:
        return int(text[:LONGEST_INTEGER])
    except ValueError as error:
        raise corrupt("a bad integer in the pickle") from error


def _float(text: str) -> float:
    try:
        return float(text[:64])
    except ValueError as error:
        raise corrupt("a bad number in the pickle") from error


def _int_or_bool(m: Machine) -> None:
    text = m.source.line()
    m.push({"00": False, "01": True}[text] if text in ("00", "01") else _integer(text))


def _long(m: Machine, count: int) -> None:
    if not 0 <= count <= LONGEST_INTEGER:
        raise UnsafeError(f"the pickle claims an integer of {count} bytes")
    m.push(int.from_bytes(m.source.take(count), "little", signed=True))


def _discard(m: Machine) -> None:
    if m.stack and m.stack[-1] is MARK:
        m.stack.pop()
    else:
        m.pop()


def _tuple_of(count: int) -> Operation:
    def operation(m: Machine) -> None:
        values = [m.pop() for _ in range(count)]
        m.push(tuple(reversed(values)))

    return operation


def _append(m: Machine) -> None:
    value = m.pop()
    m.extend(m.top(), [value])


def _extend(m: Machine) -> None:
    values = m.pop_to_mark()
    m.extend(m.top(), values)


def _set_item(m: Machine) -> None:
    value, key = m.pop(), m.pop()
    m.set_items(m.top(), [key, value])


def _set_items(m: Machine) -> None:
    flat = m.pop_to_mark()
    m.set_items(m.top(), flat)


def _dict(m: Machine) -> None:
    flat = m.pop_to_mark()
    m.push({})
    m.set_items(m.top(), flat)


def _frozenset(m: Machine) -> None:
    m.push(Call(Name("builtins.frozenset"), (), items=m.pop_to_mark()))


def _stack_global(m: Machine) -> None:
    attribute, module = m.pop(), m.pop()
    m.name(module, attribute)


def _reduce(m: Machine) -> None:
    arguments, function = m.pop(), m.pop()
    m.call(function, arguments)


def _new(m: Machine) -> None:
    arguments, function = m.pop(), m.pop()
    m.make(function, arguments)


def _new_with_keywords(m: Machine) -> None:
    m.pop()
    _new(m)


def _instance(m: Machine) -> None:
    m.name(m.source.line(), m.source.line())
    function = m.pop()
    m.call(function, tuple(m.pop_to_mark()))


def _object(m: Machine) -> None:
    values = m.pop_to_mark()
    if not values:
        raise corrupt("an object without a class")
    m.call(values[0], tuple(values[1:]))


def _build(m: Machine) -> None:
    state, target = m.pop(), m.top()
    if isinstance(target, Call):
        target.state = state  # of a plain dictionary (a state dict's version numbers) it is of no use


def _constant(value: Any) -> Operation:
    return lambda m: m.push(value)


_BY_TEXT: dict[str, Operation] = {
    "\x80": lambda m: _ignore(m.source.take(1)),  # protocol
    "\x95": lambda m: _ignore(m.source.take(8)),  # frame
    "(": lambda m: m.push(MARK),
    "0": _discard,
    "1": lambda m: _ignore(m.pop_to_mark()),
    "2": lambda m: m.push(m.top()),
    "N": _constant(None),
    "\x88": _constant(True),
    "\x89": _constant(False),
    ")": _constant(()),
    "J": lambda m: m.push(m.number(4, "i")),
    "K": lambda m: m.push(m.number(1, "B")),
    "M": lambda m: m.push(m.number(2, "H")),
    "I": _int_or_bool,
    "L": lambda m: m.push(_integer(m.source.line().rstrip("L"))),
    "\x8a": lambda m: _long(m, m.number(1, "B")),
    "\x8b": lambda m: _long(m, m.number(4, "i")),
    "F": lambda m: m.push(_float(m.source.line())),
    "G": lambda m: m.push(struct.unpack(">d", m.source.take(8))[0]),
    "S": lambda m: m.push(m.source.line().strip("'\"")),
    "V": lambda m: m.push(m.source.line()),
    "U": lambda m: m.push(m.text(m.number(1, "B"))),
    "T": lambda m: m.push(m.text(m.number(4, "i"))),
    "X": lambda m: m.push(m.text(m.number(4, "I"))),
    "\x8c": lambda m: m.push(m.text(m.number(1, "B"))),
    "\x8d": lambda m: m.push(m.text(m.number(8, "Q"))),
    "C": lambda m: m.push(m.raw(m.number(1, "B"))),
    "B": lambda m: m.push(m.raw(m.number(4, "I"))),
    "\x8e": lambda m: m.push(m.raw(m.number(8, "Q"))),
    "\x96": lambda m: m.push(m.raw(m.number(8, "Q"))),
    "]": lambda m: m.push([]),
    "}": lambda m: m.push({}),
    "\x8f": lambda m: m.push(Call(Name("builtins.set"), ())),
    "\x91": _frozenset,
    "l": lambda m: m.push(m.pop_to_mark()),
    "t": lambda m: m.push(tuple(m.pop_to_mark())),
    "d": _dict,
    "\x85": _tuple_of(1),
    "\x86": _tuple_of(2),
    "\x87": _tuple_of(3),
    "a": _append,
    "e": _extend,
    "\x90": _extend,
    "s": _set_item,
    "u": _set_items,
    "c": lambda m: m.name(m.source.line(), m.source.line()),
    "\x93": _stack_global,
    "R": _reduce,
    "\x81": _new,
    "\x92": _new_with_keywords,
    "i": _instance,
    "o": _object,
    "b": _build,
    "p": lambda m: m.remember(_integer(m.source.line())),
    "q": lambda m: m.remember(m.number(1, "B")),
    "r": lambda m: m.remember(m.number(4, "I")),
    "\x94": lambda m: m.remember(len(m.memo)),
    "g": lambda m: m.recall(_integer(m.source.line())),
    "h": lambda m: m.recall(m.number(1, "B")),
    "j": lambda m: m.recall(m.number(4, "I")),
    "P": lambda m: m.push(m.persistent(m.source.line())),
    "Q": lambda m: m.push(m.persistent(m.pop())),
}


OPERATIONS = {ord(text): operation for text, operation in _BY_TEXT.items()}
EXTENSIONS = {0x82, 0x83, 0x84}
