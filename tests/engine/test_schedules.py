"""Every published learning-rate course against the official numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ltk.config import ScheduleSettings
from ltk.engine.schedules import lr_factor

GOLDEN = Path(__file__).parents[1] / "golden"

LDAM_LIKE = {"kind": "multistep", "warmup_epochs": 5}
PACO_CIFAR = {
    "kind": "multistep",
    "warmup_epochs": 10,
    "warmup_form": "overshoot",
    "milestones": (321, 361),
    "factors": (0.1, 0.01),
}
BAGMAR = {"kind": "cosine", "warmup_form": "inclusive", "warmup_start": 0.5, "at_epoch_start": True}

CASES: list[tuple[str, int, str, float, dict[str, Any]]] = [
    ("c08_lr_glmc", 0, "lr_used_in_epoch", 0.01, {}),
    ("c08_lr_glmc", 1, "lr_used_in_epoch", 0.1, {"kind": "glmc-large", "warmup_epochs": 10}),
    ("c08_lr_glmc", 2, "lr_used_in_epoch", 0.1, {"kind": "glmc-large", "warmup_epochs": 10}),
    (
        "c08_lr_gcl_cifar",
        0,
        "lr_per_epoch_per_param_group",
        0.1,
        {**LDAM_LIKE, "milestones": (160, 180), "factors": (0.1, 0.01)},
    ),
    ("c08_lr_gcl_cifar", 1, "lr_per_epoch_per_param_group", 0.002, {}),
    (
        "c08_lr_gcl_places",
        0,
        "lr_per_epoch_per_param_group",
        0.2,
        {**LDAM_LIKE, "milestones": (60, 80), "factors": (0.1, 0.01)},
    ),
    ("c08_lr_gcl_places", 1, "lr_per_epoch_per_param_group", 0.002, {}),
    ("c08_lr_paco", 0, "lr_per_epoch", 0.05, PACO_CIFAR),
    ("c08_lr_paco", 1, "lr_per_epoch", 0.02, {"warmup_epochs": 10}),
    ("c08_lr_paco", 2, "lr_per_epoch", 0.02, {"warmup_epochs": 10}),
    ("c08_lr_gpaco", 0, "lr_per_epoch", 0.05, PACO_CIFAR),
    ("c08_lr_gpaco", 1, "lr_per_epoch", 0.04, {"warmup_epochs": 10}),
    (
        "c08_lr_reslt_cifar",
        0,
        "lr_per_epoch",
        0.1,
        {**LDAM_LIKE, "warmup_start": 1 / 3, "milestones": (160, 180), "factors": (0.1, 0.01)},
    ),
    ("c08_lr_reslt_imagenet", 0, "lr_per_epoch", 0.1, {"warmup_epochs": 5}),
    ("c08_lr_reslt_inat", 0, "lr_per_epoch", 0.1, {}),
    ("c08_lr_bagmar", 0, "lr_used_in_epoch_1..E", 0.1, {**BAGMAR, "warmup_epochs": 2}),
    ("c08_lr_bagmar", 2, "lr_used_in_epoch_1..E", 0.1, {**BAGMAR, "warmup_epochs": 37}),
]


@pytest.mark.parametrize(("file", "case", "output", "lr", "schedule"), CASES)
def test_official_courses(file: str, case: int, output: str, lr: float, schedule: dict[str, Any]) -> None:
    expected = json.loads((GOLDEN / f"{file}.json").read_text())["cases"][case]["outputs"][output]
    expected = [value[0] if isinstance(value, list) else value for value in expected]
    settings = ScheduleSettings(**schedule)
    got = [lr * lr_factor(settings, epoch, len(expected)) for epoch in range(len(expected))]
    truncated_pi = file.startswith(("c08_lr_gcl", "c08_lr_reslt"))
    relative, absolute = (1e-6, 1e-9) if truncated_pi else (1e-9, 1e-12)
    assert got == pytest.approx(expected, rel=relative, abs=absolute)


def test_ldam_decays_by_a_hundred_and_ten_thousand() -> None:
    settings = ScheduleSettings(**LDAM_LIKE, milestones=(160, 180), factors=(0.01, 0.0001))
    course = [lr_factor(settings, epoch, 200) for epoch in (0, 4, 5, 159, 160, 179, 180, 199)]
    assert course == pytest.approx([0.2, 1, 1, 1, 0.01, 0.01, 0.0001, 0.0001])


@pytest.mark.parametrize("warmup", [0, 1, 2, 3, 10])
def test_a_warm_up_that_overshoots_passes_one_by_a_tenth_at_most(warmup: int) -> None:
    settings = ScheduleSettings(**{**PACO_CIFAR, "warmup_epochs": warmup})
    course = [lr_factor(settings, epoch, 400) for epoch in range(20)]
    assert max(course) == (1.1 if warmup else 1)
    assert course[warmup + 1 :] == [1] * (19 - warmup)
