from __future__ import annotations

import hashlib
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ltk.data import cifar
from ltk.data.cifar import LAYOUTS, read_verified
from ltk.data.sources import open_source
from ltk.errors import DataError, UnsafeError


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def write(path: Path, content: dict[str, Any]) -> str:
    path.write_bytes(pickle.dumps(content, protocol=4))
    return md5(path)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """CIFAR-10 with 4 images in each batch, in the official layout."""
    layout = LAYOUTS["cifar10"]
    folder = tmp_path / layout.folder
    folder.mkdir()
    sums = {}
    for i, name in enumerate([*layout.train, *layout.test]):
        data = np.full((4, 3072), i, dtype=np.uint8)
        data[1, :1024] = 200  # red
        sums[name] = write(folder / name, {"data": data, "labels": [i, 1, 2, 3], "filenames": []})
    names = [f"class {i}" for i in range(10)]
    tiny = replace(
        layout,
        train={name: sums[name] for name in layout.train},
        test={name: sums[name] for name in layout.test},
        meta={"batches.meta": write(folder / "batches.meta", {"label_names": names})},
    )
    monkeypatch.setitem(cifar.LAYOUTS, "cifar10", tiny)
    return tmp_path


def test_batches_are_read_in_order(root: Path) -> None:
    source = open_source("cifar10", root=root)
    train = source.splits["train"]
    assert train.labels_N.tolist() == [y for i in range(5) for y in (i, 1, 2, 3)]
    assert source.splits["test"].labels_N.tolist() == [5, 1, 2, 3]
    assert source.class_names[3] == "class 3"
    assert train.names[7] == "cifar10/train/7"
    images = train.read([4, 5], 32)
    assert images[0].unique().tolist() == [1]
    assert images[1].float().mean(dim=(1, 2)).tolist() == [200, 1, 1]
    assert train.read([0], 8).shape == (1, 3, 8, 8)


def test_damaged_batches_are_refused_before_they_are_unpickled(root: Path) -> None:
    path = root / "cifar-10-batches-py/data_batch_3"
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(DataError, match=r"data_batch_3 is damaged or not the official file \(md5"):
        open_source("cifar10", root=root)
    path.unlink()
    with pytest.raises(DataError, match=r"cannot read .*data_batch_3: No such file"):
        open_source("cifar10", root=root)


def test_missing_cifar_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cifar100 is not under") as caught:
        open_source("cifar100", root=tmp_path)
    assert "ltk data prepare cifar100" in caught.value.hint
    assert "--from cifar-100-python.tar.gz" in caught.value.hint


class Hostile:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("hostile"),)


def test_a_batch_that_asks_for_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "batch"
    path.write_bytes(pickle.dumps({"data": Hostile()}))
    with pytest.raises(UnsafeError, match="which is not data"):
        read_verified(path, md5(path))
    assert not (tmp_path / "hostile").exists()
    pickle.loads(path.read_bytes())  # the payload works
    assert (tmp_path / "hostile").exists()


def test_batches_of_python_2_are_read(tmp_path: Path) -> None:
    path = tmp_path / "batch"
    path.write_bytes(
        b"\x80\x02}U\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x03K\x02\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R"
        b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x06\x00\x01\x80\x03\xff\x05tbs."
    )
    data = read_verified(path, md5(path))["data"]
    assert data.dtype == np.uint8
    assert data.tolist() == [[0, 1], [128, 3], [255, 5]]
