"""Which dotted names in a pickle are ordinary, and which show that a file was made to do harm.

Nothing here protects anybody: no name is ever resolved. It lets ``ltk`` refuse a hostile file by name instead of
converting what is left of it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable

from ltk.errors import UnsafeError

# What honest checkpoints hold of the standard library: containers, settings, paths, dates, counters.
_ORDINARY = {
    "argparse": {"Namespace"},
    "builtins": {"set", "frozenset", "dict", "list", "tuple", "int", "float", "complex", "bytes", "bytearray", "str",
                 "bool", "object", "slice", "range", "long", "unicode", "xrange"},
    "collections": {"OrderedDict", "defaultdict", "Counter", "deque"},
    "copyreg": {"_reconstructor", "__newobj__"},
    "datetime": {"datetime", "date", "time", "timedelta", "timezone"},
    "decimal": {"Decimal"},
    "fractions": {"Fraction"},
    "functools": {"partial"},
    "logging": {"getLogger", "Logger", "RootLogger"},
    "pathlib": {"Path", "PosixPath", "WindowsPath", "PurePath", "PurePosixPath", "PureWindowsPath"},
    "random": {"Random"},
    "re": {"_compile"},
    "time": {"struct_time"},
    "types": {"SimpleNamespace"},
    "uuid": {"UUID"},
    "_codecs": {"encode"},
}  # fmt: skip
_SAME_MODULE = {"__builtin__": "builtins", "copy_reg": "copyreg", "pathlib._local": "pathlib"}
# Modules outside today's standard library that run what they are given.
_LAUNCHERS = {
    "pip", "setuptools", "pkg_resources", "IPython", "dill", "cloudpickle", "joblib", "fire", "invoke", "sh",
    "paramiko", "nt", "posix", "os2", "commands", "__builtin__", "distutils", "imp", "asynchat", "asyncore", "smtpd",
    "popen2",
}  # fmt: skip
# What honest checkpoints call of torch and numpy.
_ORDINARY_CALLS = (
    "torch._utils._rebuild_", "torch._tensor._rebuild_from_type_v2", "torch.serialization._get_layout", "torch.nn.",
    "torch.optim.", "torch.amp.", "torch.cuda.amp.", "torch.utils.data.dataset.", "torch.utils.data.dataloader.",
    "torch.utils.data.sampler.", "torch.Size",
    "torch.device", "torch.Tensor", "torch.Generator", "torch.autograd.variable.Variable", "numpy.dtype",
    "numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar", "numpy.core.multiarray._reconstruct",
    "numpy._core.multiarray._reconstruct", "numpy.core.numeric._frombuffer", "numpy._core.numeric._frombuffer",
    "numpy.random._pickle.__",
)  # fmt: skip

# Modules that no class of a checkpoint lies under: a name that passes through one reaches for more than a class.
_CORRIDORS = {
    "builtins", "ctypes", "importlib", "os", "posix", "nt", "pty", "runpy", "shutil", "socket", "subprocess", "sys",
}  # fmt: skip


def refuse_hostile(called: Iterable[str], named: Iterable[str]) -> None:
    """Raise for a file that would run code if it were unpickled.

    Args:
        called: names the pickle would call.
        named: all names it would import.

    Raises:
        UnsafeError: with the names, at most three.
    """
    hostile = sorted({name for name in named if _is_launcher(name)} | {name for name in called if _is_gadget(name)})
    if hostile:
        shown = ", ".join(name[:80] for name in hostile[:3])
        raise UnsafeError(
            f"hostile file: unpickling it would call {shown}",
            "Nothing of it was run and nothing was written. Do not open it with other tools either.",
        )


def _is_launcher(name: str) -> bool:
    """A name of the standard library, or of a package that runs its input, with no business in a checkpoint."""
    module, _, attribute = name.rpartition(".")
    if attribute in _ORDINARY.get(_SAME_MODULE.get(module, module), ()):
        return False
    top, *parts = name.split(".")
    return top in sys.stdlib_module_names or top in _LAUNCHERS or any(map(_is_corridor, parts))


def _is_corridor(part: str) -> bool:
    """A part of a dotted name that leads from a class to everything else: ``os``, ``__globals__``."""
    return part in _CORRIDORS or (part.startswith("__") and part.endswith("__"))


def _is_gadget(name: str) -> bool:
    """A call into torch or numpy that loads, compiles or runs something."""
    top, *parts = name.split(".")
    if top == "torch" and any(part in sys.stdlib_module_names for part in parts):
        return True
    return top in ("torch", "numpy") and not name.startswith(_ORDINARY_CALLS)


def is_foreign(name: str) -> bool:
    """Tell whether a name belongs to neither Python's containers, torch nor numpy."""
    return name.partition(".")[0] not in {"torch", "numpy", "collections", "builtins", "__builtin__", "_codecs"}
