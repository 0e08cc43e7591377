"""The logits of one run on one split, saved once; every number of an evaluation is computed from them.

Suffixes: N images, K classes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from safetensors import SafetensorError, safe_open

from ltk.data.limits import GroupRule
from ltk.errors import DataError, DivergedError, unknown_name
from ltk.evaluation.metrics import IntArray
from ltk.files import check_checkpoint, disk_faults, open_file
from ltk.run_files import CHECKPOINT_FOLDER, LOGITS
from ltk.settings import Settings

_CHUNK_VALUES = 1 << 22  # 16 MB of float32 at a time
_SPLITS = ("train", "val", "test")
_BLANK = b"0" * 64
_DIGEST, _WEIGHTS, _PIXELS = "sha256", "weights_sha256", "pixels"
# Each with its type, in the words of safetensors, and its number of dimensions.
_ARRAYS = {
    "logits_NK": ("F32", 2),
    "target_N": ("I64", 1),
    "index_N": ("I64", 1),
    "weight_norm_K": ("F32", 1),
    "bias_K": ("F32", 1),
}
_DTYPES: dict[str, type[np.generic]] = {"F32": np.float32, "I64": np.int64}


class _Metadata(Settings, strict=True):
    class_names: list[str]
    class_counts: list[Annotated[int, Field(ge=0)]]
    groups: Literal["tertile"] | Annotated[list[int], Field(min_length=2, max_length=2)]


@dataclass(frozen=True, slots=True)
class SavedLogits:
    """What a run says about every image of a split.

    Attributes:
        logits_NK: float32, as ``Method.predict`` gives them.
        target_N: int64 class labels.
        index_N: int64 positions in the split, for naming an image.
        class_names: K names.
        class_counts: K numbers of training images.
        groups: the groups that belong to the data set: limits such as (100, 20), or "tertile".
        fingerprint: of the names and labels of the split's images; the same images have equal ones.
        checkpoint: which checkpoint of the run gave the logits.
        weight_norm_K: length of each class's weight vector, where the classifier is one linear layer on the features.
        bias_K: its bias, where it has one.
        weights_sha256: checksum of the file of weights that gave the logits; empty where it is not known.
        pixels: side in pixels and checksum of the images as they were read, see ``ltk.evaluation.pixels``; empty where
            it is not known.
    """

    logits_NK: NDArray[np.float32]
    target_N: IntArray
    index_N: IntArray
    class_names: tuple[str, ...]
    class_counts: tuple[int, ...]
    groups: GroupRule = (100, 20)
    fingerprint: str = ""
    checkpoint: str = "last"
    weight_norm_K: NDArray[np.float32] | None = field(default=None)
    bias_K: NDArray[np.float32] | None = field(default=None)
    weights_sha256: str = ""
    pixels: str = ""

    def __post_init__(self) -> None:
        images, classes = self.logits_NK.shape
        if not images:
            raise DataError("the split has no images", "Choose another split.")
        if not (len(self.class_names) == len(self.class_counts) == classes):
            raise DataError(
                f"{classes} logits per image, {len(self.class_names)} class names, {len(self.class_counts)} counts",
                "The logits and the split come from different data.",
            )
        if not (len(self.target_N) == len(self.index_N) == images):
            raise DataError(f"{images} rows of logits, {len(self.target_N)} labels, {len(self.index_N)} positions")
        if any(part is not None and part.shape != (classes,) for part in (self.weight_norm_K, self.bias_K)):
            raise DataError(f"{classes} logits per image, another number of classifier weights or biases")
        if self.target_N.min() < 0 or self.target_N.max() >= classes:
            raise DataError(f"labels reach from {self.target_N.min()} to {self.target_N.max()}, classes are {classes}")

    @property
    def num_classes(self) -> int:
        """K."""
        return int(self.logits_NK.shape[1])

    def chunks(self) -> Iterator[slice]:
        """Yield ranges of rows that keep temporaries small."""
        yield from row_chunks(*self.logits_NK.shape)

    def require_finite(self) -> None:
        """Check every logit.

        Raises:
            DivergedError: some are nan or infinite.
        """
        bad = sum(int((~np.isfinite(self.logits_NK[rows])).any(axis=1).sum()) for rows in self.chunks())
        if bad:
            raise DivergedError(
                f"{bad} of {len(self.target_N)} images have logits that are not finite ({self.checkpoint})",
                "Training diverged; evaluate an earlier checkpoint with --checkpoint best.",
            )


def row_chunks(rows: int, columns: int) -> Iterator[slice]:
    """Yield ranges of rows of a matrix, about 4 million values each."""
    step = max(1, _CHUNK_VALUES // max(1, columns))
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def save_logits(saved: SavedLogits, path: Path) -> None:
    """Write logits as a sealed file of tensors: whole or not at all.

    Args:
        saved: what to write.
        path: file to write or replace; its folder is made.

    Raises:
        EnvironmentFault: the disk does not take it.
    """
    import torch  # reading does without

    from ltk.checkpoint import write_tensors

    values = {name: getattr(saved, name) for name in _ARRAYS}
    tensors = {name: torch.from_numpy(np.ascontiguousarray(v)) for name, v in values.items() if v is not None}
    metadata = {
        "fingerprint": saved.fingerprint,
        "class_names": json.dumps(saved.class_names),
        "class_counts": json.dumps([int(n) for n in saved.class_counts]),
        "groups": json.dumps(saved.groups),
        "checkpoint": saved.checkpoint,
        **({_WEIGHTS: saved.weights_sha256} if saved.weights_sha256 else {}),
        **({_PIXELS: saved.pixels} if saved.pixels else {}),
    }
    with disk_faults(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_tensors(path, tensors, metadata)


def logits_path(run: Path, split: str, checkpoint: str = "last") -> Path:
    """Return where the logits of a run's checkpoint on a split are kept.

    Raises:
        UsageError: no run has such a checkpoint or split.
    """
    check_checkpoint(checkpoint)
    if split not in _SPLITS:
        raise unknown_name("split", split, _SPLITS)
    return run / LOGITS / (f"{split}.safetensors" if checkpoint == "last" else f"{split}-{checkpoint}.safetensors")


def load_current_logits(run: Path, split: str, checkpoint: str = "last") -> SavedLogits | None:
    """Return saved logits unless there are none or they are of other weights than the checkpoint; needs no torch.

    Logits that do not say of which weights they are must not be older than the checkpoint.

    Raises:
        DataError: they are torn or altered.
    """
    path, weights = logits_path(run, split, checkpoint), run / CHECKPOINT_FOLDER / f"{checkpoint}.safetensors"
    if not path.exists() or (weights.exists() and not _are_of(path, weights)):
        return None
    return load_logits(path)


def _are_of(path: Path, weights: Path) -> bool:
    metadata = read_metadata(path)
    if _WEIGHTS in metadata:
        return bool(metadata[_WEIGHTS] == read_checksum(weights))
    return path.stat().st_mtime >= weights.stat().st_mtime


def read_checksum(path: Path) -> str:
    """Return the checksum that stands in the header of a sealed file; empty where it cannot be read."""
    try:
        return read_metadata(path).get(_DIGEST, "")
    except DataError:
        return ""


def read_metadata(path: Path) -> dict[str, str]:
    """Return what stands in the header of a sealed file beside its tensors.

    Raises:
        DataError: it cannot be read.
    """
    return dict(_read_header(path)[0].get("__metadata__", {}))


def load_logits(path: Path) -> SavedLogits:
    """Read saved logits into memory and check them against their checksum.

    Raises:
        DataError: no such file, or it is torn or altered.
    """
    header, length = _read_header(path)
    metadata = header.pop("__metadata__", {})
    stored = metadata.get(_DIGEST, "")
    arrays: dict[str, Any] = {}
    for name, entry in header.items():
        if (entry["dtype"], len(entry["shape"])) != _ARRAYS.get(name):
            raise _damaged(path, f"it holds {name} as {entry['dtype']} {entry['shape']}")
    with path.open("rb") as file:
        digest = hashlib.sha256(file.read(length).replace(stored.encode(), _BLANK, 1))
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        begin, end = entry["data_offsets"]
        dtype = np.dtype(_DTYPES[entry["dtype"]])
        flat = np.fromfile(path, dtype, (end - begin) // dtype.itemsize, offset=length + begin)
        digest.update(flat.data)
        arrays[name] = flat.reshape(entry["shape"])
    if digest.hexdigest() != stored:
        raise _damaged(path, "its content does not match its checksum")
    return _unpack(arrays, metadata, path)


def _unpack(arrays: dict[str, Any], metadata: dict[str, str], path: Path) -> SavedLogits:
    try:
        told = _Metadata.model_validate({name: json.loads(metadata[name]) for name in _Metadata.model_fields})
        return SavedLogits(
            **arrays,
            class_names=tuple(told.class_names),
            class_counts=tuple(told.class_counts),
            groups=told.groups if isinstance(told.groups, str) else (told.groups[0], told.groups[1]),
            fingerprint=metadata["fingerprint"],
            checkpoint=metadata["checkpoint"],
            weights_sha256=metadata.get(_WEIGHTS, ""),
            pixels=metadata.get(_PIXELS, ""),
        )
    except (KeyError, TypeError) as error:
        raise _damaged(path, f"it lacks {error}") from error
    except (ValueError, RecursionError) as error:
        raise _damaged(path, "its names, counts or groups of classes are none") from error


def _read_header(path: Path) -> tuple[dict[str, Any], int]:
    """The header, and where the data begin.

    The library checks the file; its tensors are read apart, because it keeps the whole file mapped beside the copy
    it makes, twice the memory, and a mapped file that shrinks kills the process.
    """
    try:
        with open_file(path) as file, safe_open(path, framework="np"):
            length = int.from_bytes(file.read(8), "little")
            return json.loads(file.read(length)), 8 + length
    except FileNotFoundError as error:
        raise DataError(f"no saved logits at {path}", "Run ltk eval on the run that should have them.") from error
    except (SafetensorError, OSError) as error:
        raise _damaged(path, str(error).splitlines()[0]) from error


def _damaged(path: Path, reason: str) -> DataError:
    return DataError(f"{path} is damaged: {reason}", "Delete it; ltk eval computes the logits again.")
