"""Opening ImageNet-LT, Places-LT and iNaturalist 2018: official lists, checked and mapped to the layout found on disk.

The lists of Places-LT are in circulation in three spellings. All name the same images in the same order; each path is
reduced to "part/class/file", which names the image, and written again in the way the images lie on this disk.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ltk.data.base import IntArray, Source
from ltk.data.catalogue import get_facts, train_counts
from ltk.data.listfile import ImageList, derive_class_names, parse_list
from ltk.data.lists import note_absent, open_listed
from ltk.data.official_lists import OFFICIAL, join_place, parse_place
from ltk.errors import DataError
from ltk.files import read_bytes

_PROBES = 200


def find_base(name: str, root: Path) -> Path:
    """Return the folder that holds the images: ``root/<name>`` or ``root`` itself.

    Raises:
        DataError: neither holds them.
    """
    folders = [folder for accepted in OFFICIAL[name].archives.values() for folder in accepted]
    for base in (*(root / home for home in OFFICIAL[name].homes), root):
        if any((base / folder).is_dir() for folder in folders):
            return base
    expected = " or ".join(f"{folder}/" for folder in folders)
    raise DataError(
        f"{name} is not under {root}: no {expected} there or in {root / name}",
        f"`ltk data prepare {name}` says what to place where.",
    )


def find_list(name: str, split: str, root: Path) -> Path | None:
    """Return where a list file lies; None when it is missing."""
    folders = (root / "lists", root / name, root / name / "lists", root)
    paths = (folder / OFFICIAL[name].files[split] for folder in folders)
    return next((path for path in paths if path.is_file()), None)


def read_official(name: str, split: str, path: Path | None) -> ImageList:
    """Read a list and check its length, and for the training list the published class counts.

    Raises:
        DataError: it is missing, or not the published list.
    """
    facts = get_facts(name)
    if path is None:
        raise DataError(
            f"no list {OFFICIAL[name].files[split]} ({facts.images[split]:,} lines) under the data root",
            f"`ltk data prepare {name}` says where to get it and place it; or give --{split}-list FILE.",
        )
    content = parse_list(path, facts.num_classes)
    if len(content.names) != facts.images[split]:
        raise DataError(
            f"{path} has {len(content.names):,} images, the {split} list of {name} has {facts.images[split]:,}",
            "Fetch it again; for a list of your own use --dataset list.",
        )
    if split == "train":
        _check_counts(path, np.bincount(content.labels_N, minlength=facts.num_classes), train_counts(name))
    return content


def _check_counts(path: Path, found_K: IntArray, published_K: IntArray) -> None:
    wrong = np.flatnonzero(found_K != published_K)
    if len(wrong):
        shown = ", ".join(f"class {c}: {found_K[c]}, published {published_K[c]}" for c in wrong[:5])
        raise DataError(
            f"{path}: {len(wrong)} class counts are not the published ones ({shown})",
            "Fetch it again; for a list of your own use --dataset list.",
        )


def describe_list(name: str, path: Path) -> str:
    """Return what the checksum of a list says: which published copy it is, or that it is unknown."""
    md5 = hashlib.md5(read_bytes(path), usedforsecurity=False).hexdigest()
    return f"md5 {md5}: {OFFICIAL[name].md5.get(md5, 'not among the known copies')}"


def find_classes(name: str, lists: dict[str, ImageList]) -> dict[str, ImageList]:
    """Reduce listed paths to "part/class/file", the same for every spelling of a list.

    A path that does not say its class (Places' original test list) takes it from another image of the same label.
    """
    places = {split: [OFFICIAL[name].parse(n) for n in content.names] for split, content in lists.items()}
    class_of: dict[int, str] = {}
    for split, content in lists.items():
        for (_, class_name, _), label in zip(places[split], content.labels_N.tolist(), strict=True):
            if class_name:
                class_of.setdefault(label, class_name)
    reduced = {}
    for split, content in lists.items():
        labels = content.labels_N.tolist()
        names = [join_place((p, c or class_of[y], f)) for (p, c, f), y in zip(places[split], labels, strict=True)]
        reduced[split] = ImageList(names, content.labels_N)
    return reduced


def find_paths(name: str, names: Sequence[str], base: Path) -> list[str]:
    """Return where images lie under ``base``: of the known layouts, the one that finds most of a sample.

    Args:
        name: of the data set.
        names: "part/class/file" of each image.
        base: the folder of the images.
    """
    places = [parse_place(n) for n in names]
    probes = [places[i] for i in np.linspace(0, len(places) - 1, _PROBES).astype(int)]
    layouts = OFFICIAL[name].layouts
    hits = {key: sum((base / spell(place)).is_file() for place in probes) for key, spell in layouts.items()}
    spell = layouts[max(hits, key=lambda key: hits[key])]
    return [spell(place) for place in places]


def open_official(
    name: str,
    root: Path,
    *,
    train_list: Path | None = None,
    val_list: Path | None = None,
    test_list: Path | None = None,
    skip_missing: bool = False,
) -> Source:
    """Open ImageNet-LT, Places-LT or iNaturalist 2018.

    Args:
        name: "imagenet-lt", "places-lt" or "inat2018".
        root: the data root; images in ``root/<name>`` or ``root``, lists in ``root/lists``.
        train_list: the training list, when it lies elsewhere.
        val_list: as ``train_list``.
        test_list: as ``train_list``.
        skip_missing: leave out listed files that do not exist, and say so in the notes.

    Raises:
        DataError: images or lists are missing, or are not the published ones.
    """
    base = find_base(name, root)
    given = {"train": train_list, "val": val_list, "test": test_list}
    files = {split: given[split] or find_list(name, split, root) for split in OFFICIAL[name].files}
    lists = find_classes(name, {split: read_official(name, split, file) for split, file in files.items()})
    paths = {split: find_paths(name, content.names, base) for split, content in lists.items()}
    splits, notes = open_listed(base, lists, paths=paths, skip_missing=skip_missing, allow_outside=True)
    facts, train = get_facts(name), splits["train"]
    class_names = derive_class_names(train.names, train.labels_N)
    return Source(
        name=name,
        class_names=class_names,
        splits=splits,
        mean=facts.mean,
        std=facts.std,
        native_size=facts.native_size,
        stored_size=facts.stored_size,
        groups=facts.groups,
        notes=notes + note_absent(class_names, {split: kept.labels_N for split, kept in splits.items()}),
    )
