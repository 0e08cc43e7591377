"""What a user gives a conversion beside the checkpoint, checked before anything is done; imports no torch."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ltk.config_text import parse_override
from ltk.convert.keymaps import FORMATS, TARGETS
from ltk.data.catalogue import get_facts
from ltk.errors import BusyError, UsageError, unknown_name
from ltk.files import read_bytes

_MOST_CLASSES = 1_000_000


def choose_output(path: Path, out: Path | None, *, force: bool) -> Path:
    """Return where to write, before any work is done.

    Args:
        path: the source.
        out: as given; None is the source's name with .safetensors.
        force: overwrite.

    Raises:
        UsageError: the source itself, a folder, or in a folder that does not exist.
        BusyError: it exists.
    """
    if out is None:
        out = path.parent / (Path(path.name.removesuffix(".tar") or "model").stem + ".safetensors")
    if str(out) == "-" or out.is_dir():
        raise UsageError(f"{out} is no file to write to", "Give a file name: --out MODEL.safetensors")
    if not out.parent.is_dir():
        raise UsageError(f"the folder {out.parent} does not exist", "Create it, or give another --out.")
    if out.exists() and path.exists() and out.samefile(path):
        raise UsageError("the output would overwrite its source", "Give another name with --out.")
    if out.exists() and not force:
        raise BusyError(f"{out} exists", "Give another name with --out, or overwrite it with --force.")
    return out


def check_names(form: str | None, dataset: str | None, target: str | None) -> None:
    """Check what is chosen by name.

    Raises:
        UsageError: no such format, data set or target; the nearest names are in the hint.
    """
    if form is not None and form not in FORMATS:
        raise unknown_name("format", form, FORMATS)
    if target is not None and target not in TARGETS:
        raise unknown_name("target", target, TARGETS)
    if dataset is not None:
        get_facts(dataset)


def read_options(pairs: list[str]) -> dict[str, Any]:
    """Return options from NAME=VALUE; values are read as TOML, else taken as text.

    Raises:
        UsageError: no "=".
    """
    options = {}
    for pair in pairs:
        name, equals, _ = pair.partition("=")
        if not equals or not name.strip():
            raise UsageError(f"--set {pair!r} is not NAME=VALUE", "Example: --set gamma=0.7")
        options[name.strip()] = parse_override(f"method.{pair}")[1]
    return options


def read_counts(path: Path) -> tuple[int, ...]:
    """Return the numbers in a text or JSON file: training images per class, in the data set's class order.

    Raises:
        UsageError: not readable, or something else than whole numbers.
    """
    try:
        text = read_bytes(path).decode("utf-8-sig")
    except OSError as error:
        raise UsageError(f"cannot read the class counts {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"cannot read the class counts {path}: {error}") from error
    words = re.split(r"[\s,]+", text.strip("[] \r\n\t"))
    if not all(re.fullmatch(r"[0-9]{1,9}", word, re.ASCII) for word in words) or len(words) > _MOST_CLASSES:
        raise UsageError(f"{path} holds something else than class counts", "Give one whole number per class.")
    counts = tuple(map(int, words))
    if min(counts) < 1:
        raise UsageError(f"{path} holds a class without images")
    return counts
