"""The order in which official codes number the classes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ltk.convert.class_order import Numbering, class_map, number_classes
from ltk.errors import UsageError


@pytest.mark.golden("c01_class_map", "c01_class_map_inat")
def test_recorded_maps(case: dict[str, Any]) -> None:
    counts = case["inputs"]["counts_by_original_class_id"]
    descending = case["params"]["order"] == "descending"
    outputs = case["outputs"]
    assert class_map(counts, descending=descending).tolist() == outputs["class_map_numpy_1.23.5"]
    assert class_map(counts, descending=descending, ties="stable").tolist() == outputs["class_map_stable"]


@pytest.mark.parametrize("ties", ["official", "stable"])
def test_maps_are_orders_by_size(ties: Any) -> None:
    rng = np.random.default_rng(0)
    for size in (1, 2, 16, 17, 18, 333):
        counts = rng.integers(1, 9, size).tolist()
        for descending in (False, True):
            numbers = class_map(counts, descending=descending, ties=ties)
            sizes = np.array(counts)[np.argsort(numbers)]
            assert sorted(numbers) == list(range(size))
            assert np.array_equal(sizes, np.sort(sizes)[::-1] if descending else np.sort(sizes))


def test_what_is_done_to_the_rows() -> None:
    def decide(order: Any, published: str, dataset: str | None, counts: Any, classes: int) -> Any:
        return number_classes(Numbering(order), published, dataset, counts, classes)

    assert decide("auto", "data set", "imagenet-lt", None, 1000).class_map is None
    assert decide("file", "ascending", "imagenet-lt", None, 1000).class_map is None
    assert decide("auto", "ascending", "imagenet-lt", None, 1000).class_map[:3].tolist() == [380, 890, 980]
    assert decide("auto", "ascending", None, (5, 1, 3), 3).class_map.tolist() == [2, 0, 1]
    assert decide("descending", "data set", None, (5, 1, 3), 3).class_map.tolist() == [0, 2, 1]
    unknown = decide("auto", "ascending", None, None, 3)
    assert unknown.class_map is None
    assert "--class-counts" in unknown.notes[0]
    for wrong in (("ascending", "data set", None, None, 3), ("auto", "ascending", None, (5, 1), 3)):
        with pytest.raises(UsageError, match="class counts"):
            decide(*wrong)
    with pytest.raises(UsageError, match="places-lt has 365 classes, the file has 3"):
        decide("auto", "ascending", "places-lt", None, 3)
