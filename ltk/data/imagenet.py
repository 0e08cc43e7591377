"""Full ImageNet (ILSVRC 2012): class folders under train/ and val/; the official validation images are the test set."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ltk.data.base import Source
from ltk.data.catalogue import get_facts
from ltk.data.folder import open_folder
from ltk.errors import DataError


def open_imagenet(name: str, root: Path) -> Source:
    """Open ImageNet.

    Args:
        name: "imagenet".
        root: the data root; images in ``root/imagenet``, ``root/imagenet-lt`` or ``root``.

    Raises:
        DataError: images are missing, or are not the published number.
    """
    facts = get_facts(name)
    bases = (root / name, root / "imagenet-lt", root)
    base = next((base for base in bases if (base / "train").is_dir() and (base / "val").is_dir()), bases[0])
    source = open_folder(name, base, allow_outside=True)  # train/ and val/ are often links to where ImageNet lies
    found = {split: len(images) for split, images in source.splits.items()}
    if found != facts.images or len(source.class_names) != facts.num_classes:
        raise DataError(
            f"{base}: {len(source.class_names)} classes, {found}; ImageNet has {facts.num_classes}, {facts.images}",
            f"`ltk data prepare {name}` says what to place where.",
        )
    return replace(
        source,
        mean=facts.mean,
        std=facts.std,
        native_size=facts.native_size,
        stored_size=facts.stored_size,
        groups=facts.groups,
    )
