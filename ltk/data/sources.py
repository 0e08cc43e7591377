"""Where images come from: named data sets, list files, the user's own folder; imports no torch until one is opened."""

from __future__ import annotations

import difflib
import glob
import importlib
import inspect
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ltk.errors import UsageError, unknown_name

if TYPE_CHECKING:
    from ltk.data.base import Source

SOURCES = {
    "digits": "ltk.data.digits:open_digits",
    "cifar10": "ltk.data.cifar:open_cifar",
    "cifar100": "ltk.data.cifar:open_cifar",
    "imagenet": "ltk.data.imagenet:open_imagenet",
    "imagenet-lt": "ltk.data.official:open_official",
    "places-lt": "ltk.data.official:open_official",
    "inat2018": "ltk.data.official:open_official",
    "folder": "ltk.data.folder:open_folder",
    "list": "ltk.data.lists:open_lists",
    "csv": "ltk.data.lists:open_csv",
}


_NEEDS_ROOT = ("folder", "list", "csv")


def default_root() -> Path:
    """Return the data root: the environment's LTK_DATA, else ~/.cache/ltk/data."""
    return Path(os.environ.get("LTK_DATA") or "~/.cache/ltk/data").expanduser()


def open_source(name: str, *, root: Path | None = None, upright: bool = False, **options: Any) -> Source:
    """Open a data set that is on this machine.

    Args:
        name: a key of ``SOURCES``, or the path of a folder of images.
        root: the data root, or for "folder" the folder itself.
        upright: turn images as their EXIF orientation says; all published pipelines ignore it.
        **options: those of the source (see ``open_folder``, ``open_lists``, ``open_csv``, ``open_official``), such as
            ``test=0.2`` for a folder that ltk splits; None means not given.

    Raises:
        UsageError: an unknown name or option.
        DataError: the data set is missing or damaged.
    """
    if name not in SOURCES and root is None and (os.sep in name or Path(name).is_dir()):
        name, root = "folder", Path(name)
    if name not in SOURCES:
        raise unknown_source(name)
    if name in _NEEDS_ROOT and root is None:
        raise UsageError(f"data set {name!r} needs the folder of the images", "Give --root DIR.")
    module, _, function = SOURCES[name].partition(":")
    opener = getattr(importlib.import_module(module), function)
    given = {key: value for key, value in options.items() if value is not None}
    _check_options(name, given, inspect.signature(opener))
    source: Source = opener(name, root or default_root(), **given)
    if upright:
        for split in source.splits.values():
            split.upright = True
    return source


def unknown_source(name: str) -> UsageError:
    """Return the error for a name that is no data set; folders of images may be meant too."""
    near = difflib.get_close_matches(name, glob.glob("*/"), n=2, cutoff=0.5)  # noqa: PTH207 - with the slash
    error = unknown_name("data set", name, [*SOURCES, *near])
    return UsageError(error.message, f"{error.hint} A folder of images is given as photos/ or ./photos.")


def _check_options(name: str, given: Mapping[str, Any], signature: inspect.Signature) -> None:
    options = {key: p for key, p in signature.parameters.items() if key not in ("name", "root")}
    for key in given:
        if key not in options:
            raise unknown_name(f"option of data set {name}", key, options)
    needed = [key for key, parameter in options.items() if parameter.default is parameter.empty and key not in given]
    if needed:
        flags = " and ".join(f"--{key.replace('_', '-')}" for key in needed)
        raise UsageError(f"data set {name!r} needs {flags}", f"Give {flags} FILE.")
