from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ltk.evaluation.outcomes import Outcome, answer_confidence, assess
from ltk.evaluation.reject import confidence_limits

from .conftest import create_saved


def limit_of(confidence_N: NDArray[Any], correct_N: NDArray[np.bool_], precision: float) -> float:
    """Return the limit of one class that has all answers."""
    images = len(confidence_N)
    outcome = Outcome(np.zeros(images, np.int64), np.where(correct_N, 0, 1), confidence_N, np.zeros(images))
    return float(confidence_limits(outcome, 1, precision)[0])


def test_a_tie_is_accepted_or_refused_as_a_whole() -> None:
    correct_N = np.arange(20) < 12
    assert limit_of(np.ones(20), correct_N, 0.9) == np.inf
    assert limit_of(np.ones(20), correct_N, 0.6) == 1


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=1, max_size=40), st.sampled_from([0.5, 0.8, 1.0]))
def test_what_is_accepted_is_right_often_enough_and_as_much_as_can_be(
    answers: list[tuple[int, bool]], precision: float
) -> None:
    confidence_N, correct_N = np.array([level / 4 for level, _ in answers]), np.array([right for _, right in answers])
    possible = [level for level in set(confidence_N) if correct_N[confidence_N >= level].mean() >= precision]
    assert limit_of(confidence_N, correct_N, precision) == min(possible, default=np.inf)


def test_sure_answers_are_told_apart() -> None:
    """Margins at which float32 knows but one probability, 1: a limit of float64 would let all of them pass."""
    scores_BK = np.array([[0, 17], [0, 20], [0, 25], [0, 30]], np.float32)
    confidence_B = answer_confidence(scores_BK, np.ones(4, np.int64))
    assert (np.diff(confidence_B) > 0).all()
    np.testing.assert_allclose(confidence_B, 1 / (1 + np.exp(-scores_BK[:, 1].astype(float))), rtol=1e-14)


def test_an_outcome_has_the_confidence_of_its_answers() -> None:
    saved = create_saved()
    outcome = assess(saved)
    assert outcome.confidence_N.dtype == np.float64
    assert np.array_equal(outcome.confidence_N, answer_confidence(saved.logits_NK, outcome.predicted_N))


@pytest.mark.parametrize("score", [np.nan, np.inf])
def test_scores_that_are_not_finite_have_no_confidence(score: float) -> None:
    with np.errstate(invalid="ignore"):
        assert np.isnan(answer_confidence(np.array([[0.0, score]]), np.array([1]))).all()
