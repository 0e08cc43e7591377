from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from ltk.checkpoint import read_tensors, write_tensors
from ltk.errors import DataError, DivergedError
from ltk.evaluation.logits import (
    SavedLogits,
    load_current_logits,
    load_logits,
    logits_path,
    row_chunks,
    save_logits,
)


def test_round_trip(saved: SavedLogits, tmp_path: Path) -> None:
    full = replace(saved, weight_norm_K=np.arange(4, dtype=np.float32), bias_K=np.ones(4, np.float32), groups="tertile")
    for given in (saved, full):
        save_logits(given, tmp_path / "logits" / "test.safetensors")
        found = load_logits(tmp_path / "logits" / "test.safetensors")
        assert np.array_equal(found.logits_NK, given.logits_NK)
        assert np.array_equal(found.target_N, given.target_N)
        assert np.array_equal(found.index_N, given.index_N)
        assert (found.class_names, found.class_counts) == (given.class_names, given.class_counts)
        assert (found.groups, found.fingerprint, found.checkpoint) == (given.groups, "f" * 64, "last")
        assert (found.bias_K is None) == (given.bias_K is None)
    assert [path.name for path in (tmp_path / "logits").iterdir()] == ["test.safetensors"]


def test_the_file_is_sealed_like_all_files_of_ltk(saved: SavedLogits, tmp_path: Path) -> None:
    path = tmp_path / "test.safetensors"
    save_logits(saved, path)
    tensors, metadata = read_tensors(path)
    assert np.array_equal(tensors["logits_NK"].numpy(), saved.logits_NK)
    assert json.loads(metadata["class_counts"]) == list(saved.class_counts)
    with safe_open(path, framework="np") as file:
        assert set(file.keys()) == {"logits_NK", "target_N", "index_N"}


@pytest.mark.parametrize("place", [40, -1, -4000])
def test_a_flipped_bit_is_found(saved: SavedLogits, tmp_path: Path, place: int) -> None:
    path = tmp_path / "test.safetensors"
    save_logits(saved, path)
    data = bytearray(path.read_bytes())
    data[place] ^= 4
    path.write_bytes(data)
    with pytest.raises(DataError, match="damaged") as caught:
        load_logits(path)
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("change", [lambda d: d[:-5], lambda d: d + b"x", lambda d: d[:3], lambda d: b""])
def test_a_torn_file_is_found(saved: SavedLogits, tmp_path: Path, change: object) -> None:
    assert callable(change)
    path = tmp_path / "test.safetensors"
    save_logits(saved, path)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(DataError, match="damaged"):
        load_logits(path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"class_names": "\0"}, "names, counts or groups"),
        ({"class_names": "{}"}, "names, counts or groups"),
        ({"class_counts": '["x", 1, 2, 3]'}, "names, counts or groups"),
        ({"class_counts": "[" * 5000}, "names, counts or groups"),
        ({"groups": '"\\u0000"'}, "names, counts or groups"),
        ({"groups": "[1]"}, "names, counts or groups"),
    ],
)
def test_metadata_of_another_type_is_damage(
    saved: SavedLogits, tmp_path: Path, change: dict[str, str], words: str
) -> None:
    path = tmp_path / "test.safetensors"
    save_logits(saved, path)
    tensors, metadata = read_tensors(path)
    write_tensors(path, tensors, metadata | change)
    with pytest.raises(DataError, match=f"damaged: its {words}"):
        load_logits(path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("logits_NK", torch.zeros(160, 4, dtype=torch.float64)),
        ("logits_NK", torch.zeros(160)),
        ("target_N", torch.zeros(160, dtype=torch.int32)),
        ("bias_K", torch.zeros(())),
        ("x", torch.zeros(3)),
    ],
)
def test_a_file_of_other_tensors_is_damage(saved: SavedLogits, tmp_path: Path, name: str, value: torch.Tensor) -> None:
    """Such as a checkpoint under the name of logits."""
    path = tmp_path / "test.safetensors"
    save_logits(saved, path)
    tensors, metadata = read_tensors(path)
    write_tensors(path, tensors | {name: value}, metadata)
    with pytest.raises(DataError, match=f"damaged: it holds {name} as "):
        load_logits(path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no saved logits"):
        load_logits(tmp_path / "test.safetensors")


def test_current_logits_are_younger_than_their_checkpoint(saved: SavedLogits, tmp_path: Path) -> None:
    assert load_current_logits(tmp_path, "test") is None
    path = logits_path(tmp_path, "test")
    save_logits(saved, path)
    assert load_current_logits(tmp_path, "test") is not None
    assert load_current_logits(tmp_path, "test", "best") is None
    weights = tmp_path / "checkpoints" / "last.safetensors"
    weights.parent.mkdir()
    weights.write_bytes(b"")
    os.utime(weights, (path.stat().st_mtime + 5,) * 2)
    assert load_current_logits(tmp_path, "test") is None


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_logits_that_are_not_finite_are_refused(saved: SavedLogits, value: float) -> None:
    logits_NK = saved.logits_NK.copy()
    logits_NK[3, 1] = logits_NK[7, 0] = value
    with pytest.raises(DivergedError, match="2 of 160 images") as caught:
        replace(saved, logits_NK=logits_NK).require_finite()
    assert caught.value.exit_code == 7
    saved.require_finite()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"class_names": ("a",)}, "1 class names"),
        ({"class_counts": (1, 2, 3)}, "3 counts"),
        ({"bias_K": np.zeros(3, np.float32)}, "another number of classifier weights"),
        ({"target_N": np.arange(3)}, "3 labels"),
        ({"target_N": np.full(160, 4)}, "reach from 4 to 4"),
        ({"target_N": np.full(160, -1)}, "reach from -1"),
        ({"logits_NK": np.zeros((0, 4), np.float32)}, "no images"),
    ],
)
def test_parts_that_do_not_fit_are_refused(saved: SavedLogits, change: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        replace(saved, **change)  # type: ignore[arg-type]


def test_chunks_cover_all_rows_once() -> None:
    parts = [range(1000)[rows] for rows in row_chunks(1000, 50_000)]
    assert len(parts) > 5
    assert [i for part in parts for i in part] == list(range(1000))
