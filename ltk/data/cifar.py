"""CIFAR-10 and CIFAR-100 from the official archives, in torchvision's layout on disk.

The batches are pickles. They are read only when their MD5 is the published one, by an unpickler that can build arrays
and nothing else.
"""

from __future__ import annotations

import hashlib
import io
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ltk.data.base import ArraySplit, Source
from ltk.data.catalogue import get_facts
from ltk.errors import DataError, UnsafeError
from ltk.files import read_bytes


@dataclass(frozen=True)
class Layout:
    """Where a CIFAR archive unpacks to.

    Attributes:
        archive: file name of the archive.
        md5: of the archive.
        folder: what it unpacks to.
        train: training batches in order, with their MD5.
        test: as ``train``.
        meta: the file of class names, with its MD5.
        label_key: of the labels in a batch.
        names_key: of the class names in ``meta``.
    """

    archive: str
    md5: str
    folder: str
    train: dict[str, str]
    test: dict[str, str]
    meta: dict[str, str]
    label_key: str
    names_key: str

    @property
    def files(self) -> dict[str, str]:
        """All files with their MD5."""
        return self.train | self.test | self.meta


LAYOUTS = {
    "cifar10": Layout(
        archive="cifar-10-python.tar.gz",
        md5="c58f30108f718f92721af3b95e74349a",
        folder="cifar-10-batches-py",
        train={
            "data_batch_1": "c99cafc152244af753f735de768cd75f",
            "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
            "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
            "data_batch_4": "634d18415352ddfa80567beed471001a",
            "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
        },
        test={"test_batch": "40351d587109b95175f43aff81a1287e"},
        meta={"batches.meta": "5ff9c542aee3614f3951f8cda6e48888"},
        label_key="labels",
        names_key="label_names",
    ),
    "cifar100": Layout(
        archive="cifar-100-python.tar.gz",
        md5="eb9058c3a382ffc7106e4002c42a8d85",
        folder="cifar-100-python",
        train={"train": "16019d7e3df5f24257cddd939b257f8d"},
        test={"test": "f0ef6b0ae62326f3e7ffdfab6717acfc"},
        meta={"meta": "7973b15100ade9c7d40fb424638fde48"},
        label_key="fine_labels",
        names_key="fine_label_names",
    ),
}


class _ArrayUnpickler(pickle.Unpickler):
    """Builds numpy arrays out of a pickle and refuses every other name."""

    def find_class(self, module: str, name: str) -> Any:
        if (module.removeprefix("numpy.").removeprefix("_"), name) in {
            ("core.multiarray", "_reconstruct"),
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
        }:
            return np.ndarray.__reduce__(np.empty(0))[0] if name == "_reconstruct" else getattr(np, name)
        raise UnsafeError(f"a CIFAR batch asks for {module}.{name}, which is not data", "Delete it and download again.")


def read_verified(path: Path, md5: str) -> dict[str, Any]:
    """Return the dictionary in a batch file.

    Raises:
        DataError: the file is missing or its MD5 is another.
        UnsafeError: the pickle asks for more than arrays.
    """
    try:
        data = read_bytes(path)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}", "See `ltk data list`.") from error
    found = hashlib.md5(data, usedforsecurity=False).hexdigest()
    if found != md5:
        raise DataError(
            f"{path} is damaged or not the official file (md5 {found}, not {md5})", "Delete it and prepare it again."
        )
    content: dict[str, Any] = _ArrayUnpickler(io.BytesIO(data), encoding="latin1").load()
    return content


def open_cifar(name: str, root: Path) -> Source:
    """Open CIFAR-10 or CIFAR-100.

    Args:
        name: "cifar10" or "cifar100".
        root: the folder that holds ``cifar-10-batches-py`` or ``cifar-100-python``.

    Raises:
        DataError: files are missing or damaged.
    """
    layout, facts = LAYOUTS[name], get_facts(name)
    folder = root / layout.folder
    if not folder.is_dir():
        raise DataError(
            f"{name} is not under {root}: no folder {layout.folder}",
            f"Run `ltk data prepare {name}`, with `--from {layout.archive}` if you have the archive.",
        )
    meta, md5 = next(iter(layout.meta.items()))
    class_names = tuple(read_verified(folder / meta, md5)[layout.names_key])
    parts = {"train": layout.train, "test": layout.test}
    return Source(
        name=name,
        class_names=class_names,
        splits={split: _read_split(folder, files, layout, f"{name}/{split}") for split, files in parts.items()},
        mean=facts.mean,
        std=facts.std,
        native_size=facts.native_size,
        stored_size=facts.stored_size,
        groups=facts.groups,
    )


def _read_split(folder: Path, files: dict[str, str], layout: Layout, prefix: str) -> ArraySplit:
    batches = [read_verified(folder / file, md5) for file, md5 in files.items()]
    images = np.concatenate([batch["data"] for batch in batches]).reshape(-1, 3, 32, 32)
    return ArraySplit(images, np.concatenate([batch[layout.label_key] for batch in batches]), prefix)
