"""Files of tensors that are either whole or refused: models, training checkpoints, logits.

Every file is a plain safetensors file. Its metadata holds the sha256 of the file with the digest's own 64 characters
set to zeros, so that any flipped bit, cut or splice is found while any safetensors reader can still open it. Writing
goes to a temporary file in the same folder, is flushed to the disk and renamed: a kill at any moment leaves the old
file or the new one. Nothing is pickled.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors import torch as safetensors_torch
from torch import Tensor

from ltk.description import build_from_metadata
from ltk.errors import DataError, LtkError
from ltk.files import disk_faults, open_atomic, read_bytes, sync_folder
from ltk.run_files import CHECKPOINT_FOLDER, LAST, MODEL, PREVIOUS

if TYPE_CHECKING:
    from ltk.methods.base import Method

MODEL_FORMAT = "model/1"
CHECKPOINT_FORMAT = "checkpoint/1"
_FRESH = f".new-{LAST}"
_DIGEST_KEY = "sha256"
_BLANK = "0" * 64
_FLUSH_EVERY = 25_000_000  # bytes between hints to the disk to begin
_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint64: "U64",
    torch.uint32: "U32",
    torch.uint16: "U16",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


@dataclass(frozen=True)
class Checkpoint:
    """Everything a run needs to go on.

    Attributes:
        tensors: by dotted name: ``model.*``, ``optim.*``, ``meter.*``, ``rng.*``.
        state: JSON-able counters and settings.
        metadata: the model's description, see ``ltk.description``.
    """

    tensors: dict[str, Tensor]
    state: dict[str, Any]
    metadata: dict[str, str] = field(default_factory=dict)

    def part(self, prefix: str) -> dict[str, Tensor]:
        """Return the tensors under ``prefix.``, the prefix taken off."""
        start = prefix + "."
        return {name[len(start) :]: tensor for name, tensor in self.tensors.items() if name.startswith(start)}


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors and string metadata atomically, with a digest.

    The library's own writer copies everything first; here the tensors' own memory is written while one thread takes
    the digest and another lets the disk begin, so that a safe save costs little more than a plain one.

    Raises:
        EnvironmentFault: the disk does not take it.
    """
    alone = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    names = sorted(alone, key=lambda name: (-alone[name].element_size(), name))  # widest first: all stay aligned
    header = _header({name: alone[name] for name in names}, {**metadata, _DIGEST_KEY: _BLANK})
    bodies = [alone[name].reshape(-1).view(torch.uint8).numpy().data for name in names]
    digest = hashlib.sha256(header)
    flushed = 0
    with open_atomic(path) as file, ThreadPoolExecutor(2) as helpers:
        tasks: list[Future[None]] = [helpers.submit(_add_to, digest, bodies)]
        file.write(header)
        for body in bodies:
            file.write(body)
            if file.tell() - flushed > _FLUSH_EVERY:
                flushed = file.tell()
                tasks.append(helpers.submit(os.fdatasync, file.fileno()))
        for task in tasks:
            task.result()
        file.seek(header.index(_BLANK.encode()))
        file.write(digest.hexdigest().encode())


def _add_to(digest: hashlib._Hash, bodies: Iterable[memoryview]) -> None:
    for body in bodies:
        digest.update(body)


def _header(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """Length and JSON header of a safetensors file (github.com/huggingface/safetensors, "Format")."""
    entries: dict[str, Any] = {"__metadata__": {_DIGEST_KEY: metadata[_DIGEST_KEY], **metadata}}
    end = 0
    for name, tensor in tensors.items():
        begin, end = end, end + tensor.numel() * tensor.element_size()
        entries[name] = {"dtype": _DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [begin, end]}
    text = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read tensors and metadata, and check the digest.

    Args:
        path: a file of ``write_tensors``.

    Raises:
        DataError: missing, cut, damaged, or without ltk's digest.
    """
    try:
        data = read_bytes(path)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    if data[8:9] not in (b"{", b""):
        raise _not_ours(path)
    try:
        end = 8 + int.from_bytes(data[:8], "little")
        header = json.loads(data[8:end])
        metadata = dict(header.get("__metadata__", {}))
        digest = metadata.pop(_DIGEST_KEY, None)
        if digest is None:
            raise _not_ours(path)
        if _digest_of(data, end, digest) != digest:
            raise DataError(f"{path} is damaged: its content does not match its checksum", "Use another copy.")
        return safetensors_torch.load(data), metadata
    except (ValueError, AttributeError, TypeError, RecursionError, SafetensorError) as error:
        raise DataError(
            f"{path} is not a whole safetensors file: {error}", "It may be cut short or damaged."
        ) from error


def _not_ours(path: Path) -> DataError:
    return DataError(f"{path} was not written by ltk", "Convert it first: ltk convert FILE")


def _digest_of(data: bytes, end: int, digest: str) -> str:
    sha = hashlib.sha256(data[:end].replace(digest.encode(), _BLANK.encode(), 1))
    sha.update(memoryview(data)[end:])
    return sha.hexdigest()


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write ``last`` and keep the one before it as ``previous``.

    Raises:
        EnvironmentFault: the disk does not take it; the checkpoints there stay whole.
    """
    metadata = checkpoint.metadata | {"ltk_format": CHECKPOINT_FORMAT, "state": json.dumps(checkpoint.state)}
    write_tensors(folder / _FRESH, checkpoint.tensors, metadata)
    _rotate(folder)


def _rotate(folder: Path) -> None:
    """Let ``last`` become ``previous`` and the fresh checkpoint ``last``; a kill in between is made good on resume."""
    with disk_faults(folder):
        if (folder / LAST).exists():
            (folder / LAST).replace(folder / PREVIOUS)
        (folder / _FRESH).replace(folder / LAST)
        sync_folder(folder)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read one training checkpoint.

    Raises:
        DataError: damaged, or not a checkpoint.
    """
    tensors, metadata = read_tensors(path)
    if metadata.get("ltk_format") != CHECKPOINT_FORMAT:
        raise DataError(f"{path} is {metadata.get('ltk_format', 'no ltk file')}, not {CHECKPOINT_FORMAT}")
    return Checkpoint(tensors, read_state(metadata, path) or {}, {k: v for k, v in metadata.items() if k != "state"})


def read_state(metadata: Mapping[str, str], path: Path) -> dict[str, Any] | None:
    """Return the counters and settings in the metadata of a training checkpoint; None for a model, which has none.

    Raises:
        DataError: they are none.
    """
    if "state" not in metadata:
        return None
    try:
        state = json.loads(metadata["state"])
    except (ValueError, RecursionError):
        state = None
    if not isinstance(state, dict):
        raise DataError(f"{path} is damaged: it does not say where training stands", "Use another copy.")
    return state


def load_newest(folder: Path) -> tuple[Checkpoint, list[str]]:
    """Return the newest whole checkpoint of a run, now its ``last``, and what had to be passed over.

    Raises:
        DataError: there is none.
    """
    complaints: list[str] = []
    for path in (folder / _FRESH, folder / LAST, folder / PREVIOUS):
        if not path.exists():
            continue
        try:
            checkpoint = load_checkpoint(path)
        except DataError as error:
            complaints.append(error.message)
            continue
        if path.name == _FRESH:
            _rotate(folder)
        return checkpoint, complaints
    detail = "; ".join(complaints) or "it holds none"
    raise DataError(f"no usable checkpoint in {folder}: {detail}", "Start the run again with another --out.")


def save_model(path: Path, method: Method, metadata: Mapping[str, str]) -> None:
    """Write what inference needs of a method, and how to rebuild it."""
    write_tensors(path, method.inference_state(), {**metadata, "ltk_format": MODEL_FORMAT})


def load_model(path: Path | str) -> Method:
    """Return the network of an ltk file or run, in eval mode.

    Its ``predict(x_BCHW)`` returns logits_BK of already normalised float images.

    Args:
        path: a model or checkpoint file, or a run directory (its last checkpoint).

    Raises:
        DataError: missing, damaged, or not written by ltk.
    """
    method, _ = load_model_and_metadata(Path(path))
    return method


def load_model_and_metadata(path: Path) -> tuple[Method, dict[str, str]]:
    """As ``load_model``, and the file's metadata."""
    path = find_model_file(path)
    tensors, metadata = read_tensors(path)
    kind = metadata.get("ltk_format")
    if kind == CHECKPOINT_FORMAT:
        checkpoint = Checkpoint(tensors, {})
        tensors = {**checkpoint.part("model"), **checkpoint.part("ema")}
    elif kind != MODEL_FORMAT:
        raise _not_ours(path)
    try:
        method = build_from_metadata(metadata, tensors)
        missing, unexpected = method.load_state_dict(tensors, strict=False)
    except LtkError as error:
        raise type(error)(f"{path}: {error.message}", error.hint) from error
    except RuntimeError as error:
        raise DataError(f"{path} does not fit its own description: {str(error).splitlines()[-1].strip()}") from error
    absent = [name for name in missing if not name.startswith(method.training_only or ("\0",))]
    if absent or unexpected:
        raise DataError(f"{path} does not fit its own description: missing {absent[:3]}, unexpected {unexpected[:3]}")
    return method.eval(), metadata


def find_model_file(path: Path) -> Path:
    """Return the file that holds the last weights of a run; a file is returned as it is.

    Raises:
        DataError: a folder without a checkpoint.
    """
    if not path.is_dir():
        return path
    for candidate in (path / CHECKPOINT_FOLDER / LAST, path / CHECKPOINT_FOLDER / PREVIOUS, path / MODEL):
        if candidate.exists():
            return candidate
    raise DataError(f"no checkpoint in {path}", "Give a run directory or a .safetensors file.")
