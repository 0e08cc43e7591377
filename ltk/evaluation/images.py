"""The images that a configuration names, or that a run was trained with, opened."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ltk.config import DataSettings
from ltk.data.base import Source, Split
from ltk.data.limits import GroupRule, parse_groups
from ltk.data.sources import open_source
from ltk.data.splits import Manifest
from ltk.errors import DataError
from ltk.run_files import MODEL, SPLIT


def open_configured_source(data: DataSettings) -> Source:
    """Open the data set a configuration names."""
    return open_source(data.dataset, root=data.root, **data.source.model_dump(exclude_none=True))


def resolve_groups(data: DataSettings, source: Source) -> GroupRule:
    """Return the many/medium/few rule: as configured, else the data set's own."""
    return source.groups if data.groups == "auto" else parse_groups(data.groups)


@dataclass(frozen=True)
class OpenedImages:
    """The images of a run.

    Attributes:
        manifest: which they are.
        splits: opened.
        groups: the many/medium/few rule.
    """

    manifest: Manifest
    splits: Mapping[str, Split]
    groups: GroupRule


def open_images(run: Path, data: DataSettings, root: Path | None) -> OpenedImages:
    """Open the images of a run.

    Args:
        run: its directory.
        data: what its configuration says of them.
        root: where they are now; None: where the run found them.

    Raises:
        DataError: they are not there, or others are.
    """
    source = _open_again(run, data, root)
    manifest, model = Manifest.read(run / SPLIT), run / MODEL
    try:
        return OpenedImages(manifest, manifest.open(source), resolve_groups(data, source))
    except DataError as error:
        if not model.exists():
            raise
        place = data.move(root).root if root else data.root
        again = ["ltk", "eval", str(model), "--dataset", data.dataset, *(["--root", str(place)] if place else [])]
        hint = f"{error.hint} The network is whole; to judge it on the images as they are now: {shlex.join(again)}"
        raise DataError(error.message, hint) from error


def _open_again(run: Path, data: DataSettings, root: Path | None) -> Source:
    """Open the data set of a run, whose images may have moved since."""
    if root is not None:
        return open_configured_source(data.move(root))
    try:
        return open_configured_source(data)
    except DataError as error:
        moved = f"If the images of the run have moved: ltk eval {shlex.quote(str(run))} --root DIR"
        raise DataError(error.message, f"{error.hint}; {moved}" if error.hint else moved) from error
