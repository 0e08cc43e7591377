"""What `ltk data verify` looks at: files that do not open, wrong counts, the same image in train and test."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from itertools import chain
from pathlib import Path

import numpy as np

from ltk.data.base import Source, Split, count_of
from ltk.data.catalogue import FACTS, train_counts
from ltk.data.checksums import check_checksums
from ltk.data.duplicates import Advance, Finding, Scan, check_duplicates, scan_split
from ltk.data.files import FileSplit
from ltk.data.kinds import find_kinds, report_kinds
from ltk.data.official import describe_list, find_list
from ltk.data.official_lists import OFFICIAL
from ltk.data.pack import pack_folders, verify_pack
from ltk.data.sources import default_root


def check_counts(source: Source) -> Iterable[Finding]:
    """Compare a named data set with its published counts, and name classes with very few images."""
    facts = FACTS.get(source.name)
    for split, images in source.splits.items():
        expected = facts.images.get(split) if facts else None
        if expected is not None and expected != len(images):
            yield Finding("error", f"{split} has {len(images):,} images, published are {expected:,}")
        else:
            yield Finding("ok", f"{split}: {len(images):,} images" + (" as published" if expected else ""))
    counts = np.bincount(source.splits["train"].labels_N, minlength=source.num_classes)
    published = train_counts(source.name) if facts else counts
    if facts and published.sum() == facts.images["train"]:
        wrong = np.flatnonzero(counts != published).tolist()
        names = tuple(f"{source.class_names[c]}: {counts[c]}" for c in wrong)
        text = (
            f"training counts of {count_of(len(wrong), 'class')} differ from the published ones"
            if wrong
            else "class counts agree"
        )
        yield Finding("error" if wrong else "ok", text, names)
    tiny = np.flatnonzero(counts <= 2).tolist()
    if tiny:
        names = tuple(f"{source.class_names[c]} ({counts[c]})" for c in tiny)
        yield Finding("warning", f"one or two training images of {count_of(len(tiny), 'class')}", names)
    yield from (Finding("warning", note) for note in source.notes)


def check_packs(root: Path) -> Iterable[Finding]:
    """Compare the packs of a data set with the checksums they were written with."""
    for path in chain.from_iterable(sorted(folder.glob("*.json")) for folder in pack_folders(root)):
        bad = verify_pack(path)
        if bad:
            yield Finding(
                "error", f"pack {path.stem} is damaged in {count_of(len(bad), 'block')}; delete it and pack again"
            )
        else:
            yield Finding("ok", f"pack {path.stem}: checksums agree")


def check_files(splits: Mapping[str, Split], scans: Mapping[str, Scan]) -> Iterable[Finding]:
    """Report the images that cannot be read."""
    for split, scan in scans.items():
        images = splits[split]
        where = images.paths if isinstance(images, FileSplit) else images.names
        names = tuple(f"{where[i]}: {reason}" for i, reason in scan.faults)
        if names:
            yield Finding("error", f"{split}: {count_of(len(names), 'image')} cannot be read", names)
        else:
            yield Finding("ok", f"{split}: every image can be read")


def check_kinds(splits: Mapping[str, Split], scans: Mapping[str, Scan]) -> Iterable[Finding]:
    """Count the readable image files that are converted on reading."""
    found: dict[str, list[str]] = defaultdict(list)
    for name, split in splits.items():
        if not isinstance(split, FileSplit):
            continue
        broken = {i for i, _ in scans[name].faults}  # among them pipes, which must not be opened
        for i in sorted(set(range(len(split))) - broken):
            for kind in find_kinds(split.path(i)):
                found[kind].append(split.paths[i])
    return report_kinds(found, upright=any(split.upright for split in splits.values()))


def check_against_pack(split: FileSplit, scan: Scan, size: int) -> Iterable[Finding]:
    """Compare what the files decode to now with what was packed: flipped bits in a JPEG decode without complaint."""
    pack = split.pack(size)
    if pack is None:
        return
    broken = {i for i, _ in scan.faults}
    packed = (hashlib.sha256(pack.read(np.array([i])).tobytes()).digest() for i in range(len(split)))
    differing = [i for i, digest in enumerate(packed) if digest != scan.digests[i] and i not in broken]
    names = tuple(split.paths[i] for i in differing)
    if names:
        yield Finding("error", f"{count_of(len(names), 'image')} with other pixels than when packed", names)


def verify_source(
    source: Source,
    root: Path | None,
    *,
    deep: bool = False,
    near: int | None = None,
    strict: bool = False,
    checksums: Path | None = None,
    advance: Advance = lambda images: None,
) -> list[Finding]:
    """Check a data set: counts, lists, packs, every image, and duplicates when asked for.

    Args:
        source: the data set.
        root: the data root it was opened from; None for the default.
        deep: look for equal pixels in two splits or under two labels.
        near: also look for near duplicates between train and the other splits, up to this many differing bits of 64.
        strict: call duplicates errors instead of warnings.
        checksums: file of SHA-256 to compare the image files with; written when it is not there.
        advance: called with the number of images done since the last call.

    Raises:
        UsageError: near duplicates are asked for and ImageHash is not installed.
        DataError: the file of checksums is something else.
    """
    findings = [*check_counts(source), *check_lists(source.name, root or default_root())]
    for folder in {split.root for split in source.splits.values() if isinstance(split, FileSplit)}:
        findings += check_packs(folder)
    scans = {
        name: scan_split(split, source.stored_size, perceptual=near is not None, advance=advance)
        for name, split in source.splits.items()
    }
    findings += check_files(source.splits, scans)
    findings += chain.from_iterable(
        check_against_pack(split, scans[name], source.stored_size)
        for name, split in source.splits.items()
        if isinstance(split, FileSplit)
    )
    findings += check_kinds(source.splits, scans)
    if checksums:
        findings += check_checksums(source.splits, scans, checksums)
    if deep or near is not None:
        findings += check_duplicates(source.splits, scans, distance=near, strict=strict)
    return findings


def check_lists(name: str, root: Path) -> Iterable[Finding]:
    """Say for each list of an official data set whether its checksum is that of a published copy."""
    if name not in OFFICIAL:
        return
    for split in OFFICIAL[name].files:
        path = find_list(name, split, root)
        if path is not None:
            yield Finding("ok", f"{path.name}: {describe_list(name, path)}")
