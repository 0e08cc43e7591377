"""Which dotted names in a pickle are ordinary, and which show that a file was made to do harm.

Nothing here protects anybody: no name is ever resolved. It lets ``ltk`` refuse a hostile file by name instead of
converting what is left of it.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Any

from ltk.convert.reader.values import Call, Name, on_one_line
from ltk.errors import UnsafeError

# What honest checkpoints hold of the standard library: containers, settings and their types, paths, dates, counters.
_ORDINARY = {
    "argparse": {"Namespace"},
    "builtins": {"set", "frozenset", "dict", "list", "tuple", "int", "float", "complex", "bytes", "bytearray", "str",
                 "bool", "object", "slice", "range", "long", "unicode", "xrange", "type", "reduce", "Ellipsis",
                 "NotImplemented"},
    "collections": {"OrderedDict", "defaultdict", "Counter", "deque"},
    "copyreg": {"_reconstructor", "__newobj__"},
    "datetime": {"datetime", "date", "time", "timedelta", "timezone"},
    "decimal": {"Decimal"},
    "fractions": {"Fraction"},
    "functools": {"partial", "reduce"},
    "logging": {"getLogger", "Logger", "RootLogger"},
    "pathlib": {"Path", "PosixPath", "WindowsPath", "PurePath", "PurePosixPath", "PureWindowsPath"},
    "random": {"Random"},
    "re": {"_compile"},
    "time": {"struct_time"},
    "types": {"SimpleNamespace", "GenericAlias"},
    "typing": {"Any", "Union", "Optional", "List", "Dict", "Tuple", "Set", "FrozenSet", "Type", "Callable", "Literal",
               "Sequence", "Mapping", "Iterable"},
    "uuid": {"UUID"},
    "_codecs": {"encode"},
    "_operator": {"getitem", "or_"},
}  # fmt: skip
_SAME_MODULE = {
    "__builtin__": "builtins", "copy_reg": "copyreg", "pathlib._local": "pathlib", "_functools": "functools",
}  # fmt: skip
# Ordinary as names; a call of one is judged by its arguments (``describes_a_type``).
_JUDGED = {"builtins.type", "builtins.reduce", "functools.reduce", "_operator.getitem", "_operator.or_"}
# Modules outside today's standard library that run what they are given.
_LAUNCHERS = {
    "pip", "setuptools", "pkg_resources", "IPython", "dill", "cloudpickle", "joblib", "fire", "invoke", "sh",
    "paramiko", "nt", "posix", "os2", "commands", "__builtin__", "distutils", "imp", "asynchat", "asyncore", "smtpd",
    "popen2",
}  # fmt: skip
_ARRAY_CLASS = "joblib.numpy_pickle.NumpyArrayWrapper"  # what any file of joblib.dump names
# What honest checkpoints call of torch and numpy. The classes only come to be without a call (opcode NEWOBJ).
_REBUILDERS = "torch._utils._rebuild_"
_FUNCTIONS = {
    "torch._tensor._rebuild_from_type_v2", "torch.serialization._get_layout", "torch.Size", "torch.device",
    "torch.Tensor", "torch.Generator", "torch._C.Generator", "torch.autograd.variable.Variable",
    "torch.nn.parameter.Parameter", "torch.nn.backends.thnn._get_thnn_function_backend",
    "torch.amp.grad_scaler.OptState", "torch.cuda.amp.grad_scaler.OptState", "numpy.dtype",
    "numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar", "numpy.core.multiarray._reconstruct",
    "numpy._core.multiarray._reconstruct", "numpy.core.numeric._frombuffer", "numpy._core.numeric._frombuffer",
    "numpy.random.__RandomState_ctor", "numpy.random._pickle.__randomstate_ctor",
    "numpy.random._pickle.__generator_ctor", "numpy.random._pickle.__bit_generator_ctor",
    "numpy.random.bit_generator.__pyx_unpickle_SeedSequence", "numpy.random._mt19937.MT19937",
    "numpy.random._pcg64.PCG64", "numpy.random._pcg64.PCG64DXSM", "numpy.random._philox.Philox",
    "numpy.random._sfc64.SFC64",
}  # fmt: skip
_CLASSES = (
    "torch.nn.", "torch.optim.", "torch.amp.", "torch.cuda.amp.", "torch.utils.data.dataset.",
    "torch.utils.data.dataloader.", "torch.utils.data.sampler.", "torch.torch_version.TorchVersion",
    "torch.distributed.algorithms.join._JoinConfig",
)  # fmt: skip
# Ordinary functions that call one of their arguments, and its place.
_CALLERS = {
    "torch._tensor._rebuild_from_type_v2": 0, "numpy.random._pickle.__bit_generator_ctor": 0,
    "numpy.random._pickle.__generator_ctor": 1, "numpy.random._pickle.__randomstate_ctor": 1,
}  # fmt: skip
# Modules that no class of a checkpoint lies under: a name that passes through one reaches for more than a class.
_CORRIDORS = {
    "builtins", "cPickle", "ctypes", "importlib", "marshal", "nt", "os", "pickle", "posix", "pty", "runpy", "shutil",
    "socket", "subprocess", "sys",
}  # fmt: skip
_NESTED_LOAD = "torch.storage._load_from_bytes"


@dataclass
class Uses:
    """What a pickle would do with names.

    Attributes:
        named: all names.
        called: those it would call.
        made: classes it would make objects of, without a call (opcode NEWOBJ).
        beyond: those that reach through something else than a class: ``torch.hub.load`` of ``torch.nn.modules.module``.
    """

    named: set[str] = field(default_factory=set)
    called: set[str] = field(default_factory=set)
    made: set[str] = field(default_factory=set)
    beyond: set[str] = field(default_factory=set)

    def name(self, module: str, attribute: str) -> Name:
        """Note a name, and return it."""
        name = Name(f"{module}.{attribute}")
        self.named.add(name)
        if not all(map(_is_class, attribute.split(".")[:-1])):
            self.beyond.add(name)
        return name

    def call(self, function: Name, arguments: Any) -> None:
        """Note a call, and what the function would call in its turn."""
        if not describes_a_type(function, arguments):
            self.called.add(function)
        place = _CALLERS.get(function)
        if place is not None and type(arguments) is tuple and len(arguments) > place:
            inner = arguments[place]
            if isinstance(inner, Call):
                raise UnsafeError("hostile file: unpickling it would call what another call returned")
            if isinstance(inner, Name):
                self.called.add(inner)

    def refuse_hostile(self) -> None:
        """Raise for a file that would run code if it were unpickled.

        Raises:
            UnsafeError: with the names, at most three.
        """
        gadgets = {name for name in self.called if _is_gadget(name)} | {name for name in self.made if _is_maker(name)}
        hostile = sorted({name for name in self.named if _is_launcher(name)} | gadgets | self.beyond)
        if hostile == [_NESTED_LOAD]:
            raise UnsafeError(
                f"hostile file: unpickling it would call {_NESTED_LOAD}, which unpickles what it is given",
                "Nothing of it was run and nothing was written. If you made it with pickle.dump, save it with "
                "torch.save instead; else do not open it with other tools either.",
            )
        if hostile:
            shown = ", ".join(map(on_one_line, hostile[:3]))
            raise UnsafeError(
                f"hostile file: unpickling it would call {shown}",
                "Nothing of it was run and nothing was written. Do not open it with other tools either.",
            )


def describes_a_type(function: str, arguments: Any) -> bool:
    """Tell whether a call only writes down a type: ``type(None)``, ``typing.Optional[int]``, ``int | None``."""
    if type(arguments) is not tuple:
        return False
    plain = _plain(function)
    if plain == "builtins.type":
        return len(arguments) == 1  # with three it makes a class
    if len(arguments) != 2:
        return False
    if plain == "_operator.getitem":
        return isinstance(arguments[0], Name) and arguments[0].startswith("typing.")
    if plain not in ("builtins.reduce", "functools.reduce"):
        return False
    operator, types = arguments
    return operator == "_operator.or_" and type(types) is tuple and len(types) <= 64 and all(map(_is_type, types))


def _is_type(value: Any) -> bool:
    """A name, or a call that was itself judged when it was noted."""
    if isinstance(value, Call):
        return _plain(value.function) in _JUDGED or value.function == "types.GenericAlias"
    return isinstance(value, Name)


def _plain(name: str) -> str:
    """A name with today's spelling of its module."""
    module, _, attribute = name.rpartition(".")
    return f"{_SAME_MODULE.get(module, module)}.{attribute}"


def _is_class(part: str) -> bool:
    """Whether a part of a dotted name is written as classes are."""
    return part.lstrip("_")[:1].isupper()


def _is_launcher(name: str) -> bool:
    """A name of the standard library, or of a package that runs its input, with no business in a checkpoint."""
    module, _, attribute = _plain(name).rpartition(".")
    if attribute in _ORDINARY.get(module, ()) or name == _ARRAY_CLASS:
        return False
    top, *parts = name.split(".")
    return top in sys.stdlib_module_names or top in _LAUNCHERS or any(map(_is_corridor, parts))


def _is_corridor(part: str) -> bool:
    """A part of a dotted name that leads from a class to everything else: ``os``, ``__globals__``."""
    return part in _CORRIDORS or (part.startswith("__") and part.endswith("__"))


def _is_gadget(name: str) -> bool:
    """A call into torch or numpy that loads, compiles or runs something, or of what only describes types."""
    if _plain(name) in _JUDGED:
        return True
    is_theirs = name.partition(".")[0] in ("torch", "numpy")
    return is_theirs and name not in _FUNCTIONS and not name.startswith(_REBUILDERS)


def _is_maker(name: str) -> bool:
    """A class of torch or numpy that no checkpoint has objects of."""
    return _is_gadget(name) and not name.startswith(_CLASSES)


def is_foreign(name: str) -> bool:
    """Tell whether a name belongs to neither Python's containers, torch nor numpy."""
    return name.partition(".")[0] not in {"torch", "numpy", "collections", "builtins", "__builtin__", "_codecs"}
