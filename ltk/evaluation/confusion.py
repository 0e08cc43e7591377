"""The confusion matrix, kept sparse: with 8,142 classes a dense one has 66 million cells."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array, csr_array

from ltk.evaluation.metrics import IntArray


@dataclass(frozen=True, slots=True)
class Confusion:
    """One pair of classes that is mixed up.

    Attributes:
        true: index of the true class.
        predicted: index of the wrong answer.
        images: how often it happened.
        share: images / test images of the true class.
    """

    true: int
    predicted: int
    images: int
    share: float


def confusion_matrix(predicted_N: IntArray, target_N: IntArray, num_classes: int) -> csr_array:
    """Return counts_KK, true classes in rows; images without an answer (-1) are left out."""
    known_N = predicted_N >= 0
    ones = np.ones(int(known_N.sum()), dtype=np.int64)
    cells = coo_array((ones, (target_N[known_N], predicted_N[known_N])), shape=(num_classes, num_classes))
    return csr_array(cells)  # duplicates are summed


def top_confusions(matrix_KK: csr_array, total_K: IntArray, limit: int) -> list[Confusion]:
    """Return the most frequent confusions, ties by share of the true class.

    Args:
        matrix_KK: counts.
        total_K: test images of each class.
        limit: how many to return.
    """
    cells = coo_array(matrix_KK)
    wrong = cells.row != cells.col
    true, predicted, images = cells.row[wrong], cells.col[wrong], cells.data[wrong]
    share = images / np.maximum(1, total_K[true])
    order = np.lexsort((predicted, true, -share, -images))[:limit]
    return [Confusion(int(true[i]), int(predicted[i]), int(images[i]), float(share[i])) for i in order]
