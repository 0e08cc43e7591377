from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ltk.evaluation.assessment import create_assessment
from ltk.evaluation.groups import create_groups
from ltk.evaluation.logits import SavedLogits
from ltk.evaluation.metrics import wilson_interval
from ltk.evaluation.outcomes import assess
from ltk.evaluation.posthoc import no_adjustment
from ltk.evaluation.summary import summarise


def test_rows(saved: SavedLogits) -> None:
    summary = summarise(saved, create_groups(saved.class_counts, saved.groups))
    right_N = saved.logits_NK.argmax(axis=1) == saved.target_N
    assert [row.group for row in summary.rows] == ["all", "many", "medium", "few"]
    assert [row.classes for row in summary.rows] == [4, 1, 2, 1]
    assert [row.images for row in summary.rows] == [160, 40, 80, 40]
    assert [row.train_images for row in summary.rows] == [320, 200, 110, 10]
    assert summary["all"].top1 == right_N.mean()
    assert summary["medium"].top1 == right_N[40:120].mean()
    assert summary["few"].interval == wilson_interval(right_N[120:].sum(), 40)
    assert summary["all"].top5 is None  # five of four classes say nothing
    assert summary.as_dict()["few"]["images"] == 40


def test_top_five_with_more_classes(saved: SavedLogits) -> None:
    logits_NK = np.random.default_rng(0).normal(size=(160, 8)).astype(np.float32)
    wide = replace(saved, logits_NK=logits_NK, class_names=tuple("abcdefgh"), class_counts=(200,) * 8)
    summary = summarise(wide, create_groups(wide.class_counts, (100, 20)))
    expected = np.mean([t in row.argsort()[-5:] for row, t in zip(logits_NK, wide.target_N, strict=True)])
    assert summary["all"].top5 == pytest.approx(expected)
    assert (summary["few"].classes, summary["few"].top1, summary["few"].interval) == (0, None, None)


def test_a_class_without_test_images_is_not_zero(saved: SavedLogits) -> None:
    kept = saved.target_N != 3
    part = replace(saved, logits_NK=saved.logits_NK[kept], target_N=saved.target_N[kept], index_N=saved.index_N[kept])
    groups = create_groups(part.class_counts, part.groups)
    assessment = create_assessment(part, assess(part), groups, no_adjustment(4), with_classwise=True)
    assert assessment.classes[3].accuracy is None
    assert assessment.classes[3].interval is None
    assert assessment.summary["few"].top1 is None
    assert "class 3" not in [row.name for row in assessment.worst]
    payload = assessment.as_dict()
    assert payload["per_class"][3] == {
        "index": 3, "name": "class 3", "group": "few", "n_train": 10, "n_test": 0, "correct": 0,
        "accuracy": None, "interval": None,
    }  # fmt: skip
    assert payload["splits"]["few"]["top1"] is None
    assert payload["calibration"]["classwise_ece"] > 0


def test_worst_classes(saved: SavedLogits) -> None:
    assessment = create_assessment(
        saved, assess(saved), create_groups(saved.class_counts, (100, 20)), no_adjustment(4), worst=2
    )
    accuracies = sorted(row.accuracy for row in assessment.classes if row.accuracy is not None)
    assert [row.accuracy for row in assessment.worst] == accuracies[:2]
    assert assessment.worst_accuracy == pytest.approx(np.mean(accuracies[:2]))
    assert assessment.confusions[0].images >= assessment.confusions[1].images
    low, high = assessment.balanced_interval or (1.0, 0.0)
    assert low < (assessment.summary["all"].balanced or 0) < high
