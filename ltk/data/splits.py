"""Which images a run trains, selects and tests on: the manifest and its fingerprint."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, ValidationError

from ltk.data.base import IntArray, Source, Split, count_of
from ltk.data.lists import note_absent
from ltk.data.longtail import (
    IMBALANCE_KINDS,
    SUBSET_RULES,
    imbalance_counts,
    select_subset,
)
from ltk.data.tail_split import check_drawn, check_seed, split_tail_safe
from ltk.errors import DataError, UsageError, unknown_name
from ltk.files import read_json, write_text
from ltk.settings import Settings, first_fault

_Index = Annotated[int, Field(ge=0, lt=1 << 31)]


class _Stored(Settings, strict=True):
    """A manifest as JSON; see ``Manifest``."""

    format: Literal["ltk.split/1"]
    dataset: str
    imb: float | None
    imb_type: str
    subset: str
    seed: int
    val: float
    class_names: list[str]
    counts: list[_Index]
    indices: dict[str, _Index | list[_Index]]
    origin: dict[str, str]
    fingerprint: str


@dataclass(frozen=True)
class Manifest:
    """Which images a run trains, selects and tests on.

    Attributes:
        dataset: name of the source.
        imb: imbalance factor of the cut; None when the training set is used as it is.
        imb_type: curve of the cut.
        subset: rule that chose the images.
        seed: of the subset rule and the hold-out.
        val: images per class (or share) of the cut held out for validation.
        class_names: K names.
        counts: K training images per class, after cut and hold-out.
        indices: per split, positions in the source's split named by ``origin``.
        origin: per split, the source's split it is taken from.
        fingerprint: sha256 over class names and, split by split, image names and labels in order.
    """

    dataset: str
    imb: float | None
    imb_type: str
    subset: str
    seed: int
    val: float
    class_names: tuple[str, ...]
    counts: tuple[int, ...]
    indices: Mapping[str, IntArray]
    origin: Mapping[str, str]
    fingerprint: str

    def open(self, source: Source) -> dict[str, Split]:
        """Return the splits of ``source`` that this manifest describes.

        Raises:
            DataError: the images or classes of the source are not those of the manifest.
        """
        try:
            splits = {name: source.splits[self.origin[name]].subset(self.indices[name]) for name in self.indices}
            found = fingerprint(source.class_names, splits)
        except (KeyError, IndexError):
            found = ""
        if found != self.fingerprint:
            raise DataError(
                f"the images of {source.name} are not those of the manifest ({self.fingerprint[:12]})",
                "Files were added, removed or renamed, or the root differs; see `ltk data verify`.",
            )
        return splits

    def write(self, path: Path) -> None:
        """Write as JSON; a split that takes everything is stored as its length."""
        indices = {k: len(v) if np.array_equal(v, np.arange(len(v))) else v.tolist() for k, v in self.indices.items()}
        fields = {**self.__dict__, "indices": indices, "origin": dict(self.origin), "format": "ltk.split/1"}
        write_text(path, json.dumps(fields))

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """Read what ``write`` wrote.

        Raises:
            DataError: not such a file.
        """
        try:
            stored = _Stored.model_validate(read_json(path))
        except ValidationError as error:
            raise DataError(f"{path} is not a split manifest: {first_fault(error)}") from error
        own = stored.indices.items()
        indices = {k: np.arange(v) if isinstance(v, int) else np.array(v, np.int64) for k, v in own}
        lists = {"class_names": tuple(stored.class_names), "counts": tuple(stored.counts), "indices": indices}
        return cls(**(stored.model_dump(exclude={"format", *lists}) | lists))


def fingerprint(class_names: tuple[str, ...], splits: Mapping[str, Split]) -> str:
    """Return sha256 (hex) over class names and, split by split, image names and labels in order."""
    digest = hashlib.sha256("\0".join(class_names).encode(errors="surrogateescape"))
    for name in sorted(splits):
        digest.update(f"\n{name}\n".encode())
        lines = (f"{image}\0{label}\n" for image, label in zip(splits[name].names, splits[name].labels_N, strict=True))
        digest.update("".join(lines).encode(errors="surrogateescape"))
    return digest.hexdigest()


def create_manifest(
    source: Source,
    *,
    imb: float | None = None,
    imb_type: str = "exp",
    subset: str = "ldam",
    seed: int | None = None,
    val: float = 0,
    head: int | None = None,
) -> Manifest:
    """Choose the images of a run.

    Args:
        source: the data set.
        imb: cut the training set to this imbalance factor; None takes it as it is.
        imb_type: "exp", "step" or "none" (which takes it as it is).
        subset: a key of ``SUBSET_RULES``.
        seed: of the subset rule and the hold-out; the official one of the rule when None.
        val: images per class (>= 1) or share of each class (< 1) of the cut held out for validation, see
            ``split_tail_safe``.
        head: images of the largest class; by default as many as the smallest class of the source has.

    Raises:
        DataError: no image can be held out.
        UsageError: unknown names, options out of range, or ``val`` for a source with its own validation split.
    """
    _check_choice(imb_type, subset, seed)
    labels = source.splits["train"].labels_N
    if imb is None or imb_type == "none":
        kept = np.arange(len(labels))
    else:
        present = np.bincount(labels, minlength=source.num_classes)
        counts = imbalance_counts(int(head or present.min()), source.num_classes, imb, imb_type)
        kept = select_subset(labels, counts, subset, seed)
    origin = {name: name for name in source.splits}
    indices = {name: np.arange(len(split)) for name, split in source.splits.items()} | {"train": kept}
    if val:
        if "val" in source.splits:
            raise UsageError(f"{source.name} has its own validation split", "Leave --val out.")
        held_out = _hold_out(source, kept, val, seed or 0)
        indices |= {"train": kept[~np.isin(kept, held_out)], "val": held_out}
        origin["val"] = "train"
    splits = {name: source.splits[origin[name]].subset(indices[name]) for name in indices}
    return Manifest(
        dataset=source.name,
        imb=imb if imb_type != "none" else None,
        imb_type=imb_type,
        subset=subset,
        seed=SUBSET_RULES[subset] if seed is None else seed,
        val=val,
        class_names=source.class_names,
        counts=tuple(np.bincount(splits["train"].labels_N, minlength=source.num_classes).tolist()),
        indices=indices,
        origin=origin,
        fingerprint=fingerprint(source.class_names, splits),
    )


def note_held_out(manifest: Manifest, source: Source) -> tuple[str, ...]:
    """Return notes on the classes that are too small for the validation images that were asked for."""
    if not manifest.val:
        return ()
    labels_N = source.splits[manifest.origin["val"]].labels_N[manifest.indices["val"]]
    absent = note_absent(source.class_names, {"val": labels_N})
    small = int((np.bincount(labels_N, minlength=source.num_classes) < manifest.val).sum())
    if manifest.val < 1 or not small:
        return absent
    return (
        f"val: {small} of {count_of(source.num_classes, 'class')} cannot spare {manifest.val:g} images, and hold out"
        " fewer, so that training keeps at least as many (a number below 1 is a share of each class)",
        *absent,
    )


def _check_choice(imb_type: str, subset: str, seed: int | None) -> None:
    """Check what matters only with a cut, with or without one."""
    if imb_type not in IMBALANCE_KINDS:
        raise unknown_name("imbalance type", imb_type, IMBALANCE_KINDS)
    if subset not in SUBSET_RULES:
        raise unknown_name("subset rule", subset, SUBSET_RULES)
    if seed is not None:
        check_seed(seed)


def _hold_out(source: Source, kept: IntArray, val: float, seed: int) -> IntArray:
    """Return the validation images among ``kept``, each once: a rule that draws with replacement repeats some."""
    _, first = np.unique(kept, return_index=True)
    distinct = kept[np.sort(first)]
    images = source.splits["train"].subset(distinct)
    parts = split_tail_safe(images.labels_N, {"val": val}, seed=seed, lots=images.lots, num_classes=source.num_classes)
    check_drawn(parts, images.lots)
    return distinct[parts["val"]]
