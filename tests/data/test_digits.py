from __future__ import annotations

import numpy as np
import pytest

from ltk.data.catalogue import get_facts, train_counts
from ltk.data.sources import open_source


def test_digits_are_those_of_scikit_learn() -> None:
    datasets = pytest.importorskip("sklearn.datasets")
    bunch = datasets.load_digits()
    source = open_source("digits")
    images = np.concatenate([split.read(range(len(split)), 8).numpy()[:, 0] for split in source.splits.values()])
    labels = np.concatenate([split.labels_N for split in source.splits.values()])
    assert np.bincount(labels).tolist() == np.bincount(bunch.target).tolist()
    expected = np.round(bunch.images * 255 / 16).astype(np.uint8)
    key = lambda pixels, label: pixels.tobytes() + bytes([label])  # noqa: E731
    assert sorted(map(key, images, labels.tolist())) == sorted(map(key, expected, bunch.target.tolist()))


def test_the_test_set_is_balanced_and_apart() -> None:
    source = open_source("digits")
    assert np.bincount(source.splits["test"].labels_N).tolist() == [50] * 10
    train, test = (split.read(range(len(split)), 8) for split in (source.splits["train"], source.splits["test"]))
    assert (len(train), len(test)) == (1297, 500)
    assert np.bincount(source.splits["train"].labels_N).tolist() == train_counts("digits").tolist()


def test_constants_are_those_of_the_training_images() -> None:
    source = open_source("digits")
    images = source.splits["train"].read(range(1297), 8).double() / 255
    assert images.mean().item() == pytest.approx(source.mean[0], abs=1e-3)
    assert images.std().item() == pytest.approx(source.std[0], abs=1e-3)
    assert (source.channels, source.groups, get_facts("digits").imb) == (1, (40, 12), 50)
