from __future__ import annotations

import hashlib
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltk.data.limits import check_imbalance, parse_groups
from ltk.data.longtail import (
    assign_groups,
    imbalance_counts,
    rank_classes,
    select_subset,
)
from ltk.errors import UsageError

IMAGES = {"CIFAR-10": (5000, 10), "CIFAR-100": (500, 100)}

# Positions within the class, class after class, as little-endian int64: MD5 for imbalance 10, 50, 100 and 200.
PUBLISHED_SUBSETS = {
    ("ldam", "CIFAR-10"): (
        "a64f5bbb67efbf09e71ea58324271639",
        "bcd31839e8d38b40d0aa20aec312a977",
        "c4898eb0e2e7c5a7325ec73f4bd9f4db",
        "db0df8ad94f8632771bda82011bc271b",
    ),
    ("ldam", "CIFAR-100"): (
        "8eb9b1786d057611518ce1d71d932bbe",
        "1753ab057554b62d2b1ee275b05b819e",
        "c054eaa77ba578571b0fc29087f93121",
        "92475124ed8da83086ef01097a1c4fbe",
    ),
    ("glmc", "CIFAR-10"): (
        "4bab9b204e20ec96e4faca9f3d657e2f",
        "341f309711a7d9d67d55953021c3ed2f",
        "471f11c82216bd49b0e69f1c7d227cf2",
        "97870b8986ffa13fe57090ce07ea095b",
    ),
    ("glmc", "CIFAR-100"): (
        "03d26625f8e72e1e48dc5dc32d6de608",
        "12ce7bbaec35a076cd543e00751b60a3",
        "0dd07f8cf482410672e4ec8b87d897e7",
        "c869ccb5e10bd9f3efeb0057e6a57fe5",
    ),
}


def is_cifar(case: dict[str, Any]) -> bool:
    return case["inputs"].get("dataset") in IMAGES


@pytest.mark.golden("c01_counts_ldam_gcl", "c01_counts_glmc", "c01_counts_lt_project", where=is_cifar)
def test_counts_are_the_official_ones(case: dict[str, Any]) -> None:
    n_max, num_classes = IMAGES[case["inputs"]["dataset"]]
    params = case["params"]
    imb = params.get("imbalance") or params["imbalance_ratio"]
    counts = imbalance_counts(n_max, num_classes, imb, params.get("imb_type", "exp"))
    assert counts.tolist() == case["outputs"]["counts"]
    assert counts.sum() == case["outputs"]["total"]


def is_toy(case: dict[str, Any]) -> bool:
    return "targets" in case["inputs"]


@pytest.mark.golden("c01_counts_ldam_gcl", where=is_toy)
def test_ldam_keeps_the_official_images(case: dict[str, Any]) -> None:
    labels, params = case["inputs"]["targets"], case["params"]
    num_classes = max(labels) + 1
    counts = imbalance_counts(len(labels) // num_classes, num_classes, 1 / params["imb_factor"], params["imb_type"])
    official = case["outputs"]["counts"]
    assert counts[: len(official)].tolist() == official  # the official step loses the last of an odd number of classes
    kept = select_subset(labels, counts, "ldam", params["rand_number"])
    assert kept[: sum(official)].tolist() == case["outputs"]["kept_indices"]
    assert len(official) in (num_classes, num_classes - 1)


@pytest.mark.golden("c01_counts_glmc", where=is_toy)
def test_glmc_keeps_the_official_images(case: dict[str, Any]) -> None:
    labels, params = case["inputs"]["targets"], case["params"]
    num_classes = max(labels) + 1
    counts = imbalance_counts(len(labels) // num_classes, num_classes, 1 / params["imbanlance_rate"])
    assert counts.tolist() == case["outputs"]["counts"]
    assert select_subset(labels, counts, "glmc", params["np_random_seed"]).tolist() == case["outputs"]["kept_indices"]


@pytest.mark.parametrize(("rule", "dataset"), PUBLISHED_SUBSETS)
def test_subsets_have_the_published_checksums(rule: str, dataset: str) -> None:
    n_max, num_classes = IMAGES[dataset]
    labels = np.repeat(np.arange(num_classes), n_max)
    for imb, md5 in zip((10, 50, 100, 200), PUBLISHED_SUBSETS[rule, dataset], strict=True):
        kept = select_subset(labels, imbalance_counts(n_max, num_classes, imb), rule)
        assert hashlib.md5((kept % n_max).astype("<i8").tobytes()).hexdigest() == md5


def test_glmc_before_may_2023_repeats_images() -> None:
    for n_max, num_classes, distinct in ((5000, 10, 9374), (500, 100, 8602)):
        labels = np.repeat(np.arange(num_classes), n_max)
        kept = select_subset(labels, imbalance_counts(n_max, num_classes, 100), "glmc-replacement")
        assert len(np.unique(kept)) == distinct


def test_first_n_keeps_the_file_order() -> None:
    assert select_subset([1, 0, 1, 0, 1], [1, 2], "first-n").tolist() == [1, 0, 2]


def test_the_global_generator_is_left_alone() -> None:
    np.random.seed(5)
    expected = np.random.RandomState(5).rand()
    select_subset([0, 0, 1, 1], [2, 1], "ldam")
    assert np.random.rand() == expected


@given(
    n_max=st.integers(1, 6000),
    num_classes=st.integers(1, 200),
    imb=st.floats(1, 1000),
    kind=st.sampled_from(["exp", "step", "none"]),
)
def test_counts_fall_from_the_head_to_the_tail(n_max: int, num_classes: int, imb: float, kind: str) -> None:
    try:
        counts = imbalance_counts(n_max, num_classes, imb, kind)
    except UsageError:
        assert n_max < imb * 1.001
        return
    assert len(counts) == num_classes
    assert counts[0] == n_max
    assert (np.diff(counts) <= 0).all()
    if kind != "none" and num_classes > 1:
        assert counts[-1] == pytest.approx(n_max / imb, abs=1)


@pytest.mark.parametrize(
    ("imb", "words"),
    [
        (0, "at least 1"),
        (-1, "at least 1"),
        (math.nan, "at least 1"),
        (math.inf, "at least 1"),
        (1e-9, "below 1"),
        (0.01, "Use 100, not 0.01"),
    ],
)
def test_useless_imbalance_is_refused(imb: float, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_imbalance(imb)
    assert words in caught.value.message + caught.value.hint
    assert caught.value.exit_code == 2


def test_a_tail_without_images_is_refused_with_the_table() -> None:
    with pytest.raises(UsageError, match=r"leaves 2 of 4 classes .* 20 4 0 0") as caught:
        imbalance_counts(20, 4, 100)
    assert "at most 20" in caught.value.hint


def test_more_images_than_present_are_refused_with_the_table() -> None:
    with pytest.raises(UsageError, match="class 1: 3 asked, 2 present"):
        select_subset([0, 0, 0, 1, 1], [3, 3])


def test_unknown_names_are_answered_with_the_nearest() -> None:
    with pytest.raises(UsageError) as caught:
        select_subset([0], [1], "ldma")
    assert "'ldam'" in caught.value.hint
    with pytest.raises(UsageError, match="imbalance type"):
        imbalance_counts(10, 2, 2, "exponential")


def has_groups(case: dict[str, Any]) -> bool:
    return "num_classes" in case["outputs"]


@pytest.mark.golden("c01_counts_lt_project", where=has_groups)
def test_packaged_class_counts_and_their_groups(case: dict[str, Any]) -> None:
    from ltk.data.catalogue import train_counts

    name = {"ImageNet_LT": "imagenet-lt", "Places_LT": "places-lt", "iNaturalist18": "inat2018"}
    counts = train_counts(name[case["inputs"]["file"].split("/")[1].removesuffix(".json")])
    expected = case["outputs"]
    assert (len(counts), counts.sum(), counts.max(), counts.min()) == tuple(
        expected[key] for key in ("num_classes", "total", "max", "min")
    )
    assert (np.arange(len(counts)) * counts).sum() == expected["sum_of_i_times_count"]
    assert counts[:10].tolist() == expected["first_10"]
    assert np.bincount(assign_groups(counts)).tolist() == expected["OLTR many>100/medium 20..100/few<20"]
    assert np.bincount(assign_groups(counts, (100, 21))).tolist() == expected["GLMC many>100/medium 21..100/few<=20"]


@pytest.mark.golden("c01_class_map", "c01_class_map_inat")
def test_ranks_are_the_stable_class_map(case: dict[str, Any]) -> None:
    counts = case["inputs"]["counts_by_original_class_id"]
    rank_K = rank_classes(counts, largest_first="desc" in case["params"]["order"])
    assert rank_K.tolist() == case["outputs"]["class_map_stable"]
    differing = np.flatnonzero(rank_K != np.array(case["outputs"]["class_map_numpy_1.23.5"]))
    assert len({counts[c] for c in differing}) < len(differing) or not len(differing)  # only ties differ


def test_group_limits_are_inclusive_in_the_middle() -> None:
    assert assign_groups([101, 100, 20, 19]).tolist() == [0, 1, 1, 2]


def test_tertiles_are_thirds_by_rank() -> None:
    assert assign_groups([5, 50, 500, 4, 40, 400], "tertile").tolist() == [2, 1, 0, 2, 1, 0]


def test_groups_are_parsed() -> None:
    assert parse_groups("40,12") == (40, 12)
    assert parse_groups("tertile") == "tertile"
    for text in ("40", "12,40", "a,b", "40,0", "quartile"):
        with pytest.raises(UsageError):
            parse_groups(text)
