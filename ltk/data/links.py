"""Links that lead out of the folder of a data set: refused unless they are asked for; imports no torch."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ltk.data.base import count_of, locate
from ltk.data.listfile import show_names
from ltk.errors import DataError, UnsafeError

_HINT = "Use --allow-outside if that is intended."


def check_link(root: Path, relative: str, *, allow_outside: bool = False) -> None:
    """Check where a link inside a data set leads.

    Args:
        root: the data set's folder, which may be a link itself.
        relative: the link, relative to ``root``.
        allow_outside: accept links that lead out of ``root``.

    Raises:
        DataError: it leads to a folder it lies in.
        UnsafeError: it leads out of ``root``.
    """
    try:
        target = (root / relative).resolve()
    except (OSError, RuntimeError):
        return  # a link to itself: reading it reports it
    if (root / relative).parent.resolve().is_relative_to(target):
        raise link_to_above(relative)
    if not allow_outside and not target.is_relative_to(root.resolve()):
        raise UnsafeError(f"{relative} is a link that leads out of {root}", _HINT)


def link_to_above(relative: str) -> DataError:
    """Return the error for a link by which a folder lies in itself."""
    return DataError(f"{relative} is a link to a folder it lies in", "Remove it.")


def find_files(root: Path, paths: Sequence[str], *, allow_outside: bool = False) -> npt.NDArray[np.bool_]:
    """Return which files are there, with one look at each file and one at each folder.

    Args:
        root: folder that ``paths`` are relative to, which may be a link itself.
        paths: of the files, with "/".
        allow_outside: accept links that lead out of ``root``, and do not look for them.

    Raises:
        UnsafeError: files, or the folders they lie in, are links that lead out of ``root``.
    """
    exists_N = np.zeros(len(paths), dtype=bool)
    links = []
    for i, path in enumerate(paths):
        try:
            mode = os.lstat(locate(root, path)).st_mode
        except (OSError, ValueError):
            continue
        if stat.S_ISLNK(mode):
            links.append(path)
            exists_N[i] = os.path.isfile(locate(root, path))  # noqa: PTH113
        else:
            exists_N[i] = stat.S_ISREG(mode)
    if not allow_outside:
        _refuse_outside(root, [*sorted({path.rpartition("/")[0] for path in paths}), *links])
    return exists_N


def _refuse_outside(root: Path, paths: Sequence[str]) -> None:
    home = Path(os.path.realpath(root))
    outside = [path for path in paths if not Path(os.path.realpath(locate(root, path))).is_relative_to(home)]
    if outside:
        links = count_of(len(outside), "link")
        raise UnsafeError(f"listed images lie behind {links} out of {root}: {show_names(outside)}", _HINT)
