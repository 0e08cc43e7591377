from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix as reference

from ltk.evaluation.confusion import confusion_matrix, top_confusions


@given(st.integers(0, 10_000))
def test_agrees_with_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    predicted_N, target_N = rng.integers(0, 6, 80), rng.integers(0, 6, 80)
    found = confusion_matrix(predicted_N, target_N, 6).toarray()
    assert np.array_equal(found, reference(target_N, predicted_N, labels=range(6)))


def test_top_confusions() -> None:
    target_N = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2])
    predicted_N = np.array([1, 1, -1, 0, 0, 2, 0, 0, 1])
    matrix_KK = confusion_matrix(predicted_N, target_N, 3)
    assert matrix_KK.sum() == 8  # no answer, no cell
    pairs = top_confusions(matrix_KK, np.array([3, 2, 4]), 3)
    assert [(p.true, p.predicted, p.images, p.share) for p in pairs] == [
        (1, 0, 2, 1.0),
        (0, 1, 2, 2 / 3),
        (2, 0, 2, 0.5),
    ]
