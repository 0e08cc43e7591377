"""The same image in two splits or under two labels: equal pixels, and perceptual hashes that hardly differ."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from ltk.data.base import Split, count_of
from ltk.data.files import FileSplit
from ltk.errors import UsageError

Advance = Callable[[int], None]
_BLOCK = 256
_HASH_SIDE = 32  # pixels: what the perceptual hash looks at
_HASH_BITS = 64


@dataclass(frozen=True)
class Finding:
    """One result of a check.

    Attributes:
        level: "error" makes the data unfit, "warning" is for the user to judge, "ok" was looked at.
        text: what was found.
        items: the images or classes concerned.
    """

    level: Literal["error", "warning", "ok"]
    text: str
    items: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scan:
    """A split read once.

    Attributes:
        faults: position and reason of each image that cannot be read.
        digests: SHA-256 of each image's pixels.
        hashes_N: 64-bit perceptual hashes; empty unless asked for.
    """

    faults: list[tuple[int, str]]
    digests: list[bytes]
    hashes_N: npt.NDArray[np.uint64]


def scan_split(split: Split, size: int, *, perceptual: bool, advance: Advance = lambda images: None) -> Scan:
    """Read every image of a split from its file.

    Args:
        split: the images.
        size: side in pixels at which pixels are compared.
        perceptual: compute perceptual hashes (needs the library ImageHash).
        advance: called with the number of images done since the last call.

    Raises:
        UsageError: ImageHash is not installed.
    """
    from ltk.data.decode import try_read_images, useful_threads

    faults: list[tuple[int, str]] = []
    digests: list[bytes] = []
    hashes: list[int] = []
    for start in range(0, len(split), _BLOCK):
        own = range(start, min(start + _BLOCK, len(split)))
        if isinstance(split, FileSplit):
            paths = [split.path(i) for i in own]
            images, unread = try_read_images(paths, size, upright=split.upright, threads=useful_threads(size))
            faults += [(start + i, reason) for i, reason in unread]
        else:
            images = split.read(own, size)
        pixels_NCHW = images.numpy()
        digests += [hashlib.sha256(image.tobytes()).digest() for image in pixels_NCHW]
        if perceptual:
            hashes += perceptual_hashes(pixels_NCHW)
        advance(len(own))
    return Scan(faults, digests, np.array(hashes, dtype=np.uint64))


def perceptual_hashes(pixels_NCHW: npt.NDArray[np.uint8]) -> list[int]:
    """Return the 64-bit DCT hash (pHash) of each image.

    Raises:
        UsageError: ImageHash is not installed.
    """
    try:
        import imagehash
    except ImportError as error:
        raise UsageError(
            "near duplicates need the library ImageHash", "pip install 'ltk[data-checks]', or leave --near out."
        ) from error
    from PIL import Image

    hashes = []
    for image in pixels_NCHW:
        grey = Image.fromarray(image.transpose(1, 2, 0) if len(image) == 3 else image[0]).convert("L")
        bits = imagehash.phash(grey.resize((_HASH_SIDE, _HASH_SIDE), Image.Resampling.BILINEAR)).hash
        hashes.append(int.from_bytes(np.packbits(bits).tobytes(), "big"))
    return hashes


def find_near(
    left_N: npt.NDArray[np.uint64], right_M: npt.NDArray[np.uint64], distance: int
) -> list[tuple[int, int, int]]:
    """Return (i, j, bits) of all pairs whose hashes differ in at most ``distance`` of 64 bits."""
    set_bits = np.array([bin(word).count("1") for word in range(1 << 16)], dtype=np.uint8)
    words_M4 = np.ascontiguousarray(right_M).view(np.uint16).reshape(-1, 4)
    pairs = []
    for i, own in enumerate(np.ascontiguousarray(left_N).view(np.uint16).reshape(-1, 4)):
        differing_M = np.zeros(len(words_M4), dtype=np.uint8)
        for word in range(4):
            differing_M += set_bits[words_M4[:, word] ^ own[word]]
        pairs += [(i, int(j), int(differing_M[j])) for j in np.flatnonzero(differing_M <= distance)]
    return pairs


def check_duplicates(
    splits: Mapping[str, Split], scans: Mapping[str, Scan], *, distance: int | None, strict: bool
) -> Iterable[Finding]:
    """Report the same image in two splits or under two labels.

    Args:
        splits: the images.
        scans: what ``scan_split`` found.
        distance: largest number of differing bits of near duplicates; None looks for equal pixels alone.
        strict: call duplicates errors instead of warnings.
    """
    level: Literal["error", "warning"] = "error" if strict else "warning"
    found: dict[bytes, list[tuple[str, int]]] = defaultdict(list)
    for split, scan in scans.items():
        broken = {i for i, _ in scan.faults}
        for i, digest in enumerate(scan.digests):
            if i not in broken:
                found[digest].append((split, i))
    twice = [places for places in found.values() if len(places) > 1]
    across = [places for places in twice if len({split for split, _ in places}) > 1]
    torn = [places for places in twice if len({int(splits[s].labels_N[i]) for s, i in places}) > 1]
    for text, groups in ("in two splits", across), ("with two labels", torn):
        names = tuple(" = ".join(splits[s].names[i] for s, i in places) for places in groups)
        yield Finding(level if names else "ok", f"{count_of(len(names), 'image')} {text} (equal pixels)", names)
    if distance is not None:
        yield _check_near(splits, scans, distance, level)


def _check_near(
    splits: Mapping[str, Split], scans: Mapping[str, Scan], distance: int, level: Literal["error", "warning"]
) -> Finding:
    names: list[str] = []
    held_out = [split for split in scans if split != "train"]
    for split in held_out:
        for i, j, bits in find_near(scans[split].hashes_N, scans["train"].hashes_N, distance):
            if scans[split].digests[i] != scans["train"].digests[j]:
                names.append(f"{splits[split].names[i]} ~ {splits['train'].names[j]} ({bits} of {_HASH_BITS} bits)")
    text = f"{count_of(len(names), 'pair')} of near duplicates between train and {' or '.join(held_out)}"
    return Finding(level if names else "ok", text, tuple(names))
