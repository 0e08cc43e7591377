"""The presets against the record: published figures, published settings, official courses of the learning rate."""

from __future__ import annotations

import csv
import json
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest

from ltk.engine.schedules import lr_factor
from ltk.presets import Preset, list_presets

GOLDEN = Path(__file__).parent / "golden"
PRESETS = {preset.name: preset for preset in list_presets()}
DATASETS = {
    "cifar10": "CIFAR-10-LT",
    "cifar100": "CIFAR-100-LT",
    "imagenet-lt": "ImageNet-LT",
    "inat2018": "iNaturalist 2018",
    "places-lt": "Places-LT",
    "imagenet": "ImageNet (balanced)",
}
NUM_FIGURES = 165
Row = tuple[str, ...]  # data set, imbalance, figure, row, source, confidence, network

SYSTEMS = ("GLMC", "GCL", "PaCo", "GPaCo", "ResLT", "RIDE-ResLT", "BaGMar", "GALA", "multi-task")
NOT_AIMED_AT = {
    # no code of it was ever published
    ("ImageNet-LT", "ResNeXt-50", "GLMC + BS"),
    # another group's re-run with half the epochs: ltk train paco/imagenet-lt_resnext50 --epochs 200
    ("ImageNet-LT", "ResNeXt-50", "PaCo (200 epochs, re-run)"),
    ("iNaturalist 2018", "ResNet-50", "PaCo (200 epochs, re-run)"),
    # the mean of two trained models
    ("ImageNet-LT", "2x ResNeXt-101", "GPaCo"),
    ("iNaturalist 2018", "2x ResNet-152", "GPaCo"),
}
# names of rows of which at least one has no preset, beside those above
BASELINES_WITHOUT = {
    # methods that ltk does not have
    *("BALMS", "MiSLAS", "RIDE", "RIDE-3", "NCM", "Decouple", "MoCo + BS"),
    # recipes of other groups: LADE, RIDE's, SADE's and MiSLAS' own training, and logit adjustment's own
    *("CE", "CE (SADE recipe)", "CE + mixup (MiSLAS stage 1)", "PC softmax (post-hoc LA)"),
    *("Logit adjustment loss", "Logit adjustment post-hoc"),
    # figures of lists and re-runs, whose settings are not known
    *("CB (effective number)", "CB-CE", "CB-focal", "CE + CB", "Focal", "Balanced softmax", "LWS (90/200 epochs)"),
    # the weight decay of the large data sets and the exponent are published in a figure or not at all
    *("WD-tuned CE", "tau-norm"),
}


def read_csv(name: str) -> list[dict[str, str]]:
    with (GOLDEN / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


TARGETS = read_csv("targets.csv")
TARGET_ROWS = {
    (r["dataset"], r["imbalance"], r["top1"], r["method"], r["source"], r["confidence"], r["backbone"]): r
    for r in TARGETS
}


def claims(preset: Preset) -> list[Row]:
    dataset = DATASETS.get(preset.dataset, "")
    if not preset.imb:
        dataset = dataset.replace("-LT", " (balanced)") if preset.dataset.startswith("cifar") else dataset
    place = (dataset, f"{preset.imb:g}" if preset.imb else "-")
    return [(*place, *cells) for cells in preset.published()]


def test_every_figure_is_one_of_the_list() -> None:
    claimed = {row: name for name, preset in PRESETS.items() for row in claims(preset)}
    assert len(claimed) == NUM_FIGURES
    unknown = {name: row for row, name in claimed.items() if row not in TARGET_ROWS}
    assert not unknown


def test_every_row_of_the_five_systems_is_aimed_at() -> None:
    claimed = {row for preset in PRESETS.values() for row in claims(preset)}
    own = {row: r for row, r in TARGET_ROWS.items() if r["method"].startswith(SYSTEMS)}
    missing = {(r["dataset"], r["backbone"], r["method"]) for row, r in own.items() if row not in claimed}
    assert missing == NOT_AIMED_AT


def test_the_rows_without_a_preset_are_those_that_are_named() -> None:
    claimed = {
        row for stage_two in (False, True) for preset in list_presets(stage_two=stage_two) for row in claims(preset)
    }
    missing = {r["method"] for row, r in TARGET_ROWS.items() if row not in claimed}
    assert missing == BASELINES_WITHOUT | {name for _, _, name in NOT_AIMED_AT}


def test_what_nobody_could_check_is_said() -> None:
    words = {"S": "second-hand", "U": "remembered"}
    for name, preset in PRESETS.items():
        notes = [line for line in preset.header() if line.startswith("note:")]
        for figure, _, _, confidence, _ in preset.published():
            if confidence in words:
                assert any(figure in note and words[confidence] in note for note in notes), name
        bare = not preset.published() and preset.dataset != "digits"
        assert bare == any("no published figure" in note for note in notes), name


@pytest.mark.parametrize("expected", read_csv("published_settings.csv"), ids=lambda row: row["preset"])
def test_published_settings(expected: dict[str, str]) -> None:
    config = PRESETS[expected["preset"]].load()
    for key in ("lr", "weight_decay", "batch_size", "epochs"):
        assert getattr(config.optim, key) == float(expected[key]), key
    for setting in expected["method"].split():
        key, _, value = setting.partition("=")
        assert config.method.options.get(key, 0.0) == float(value), key


# presets, golden file, case, output, the rate its factors refer to
COURSES = [
    ("glmc/cifar*", "c08_lr_glmc", 0, "lr_used_in_epoch", 0.01),
    ("glmc/imagenet-lt", "c08_lr_glmc", 1, "lr_used_in_epoch", 0.1),
    ("glmc/inat2018", "c08_lr_glmc", 2, "lr_used_in_epoch", 0.1),
    ("gcl/cifar*", "c08_lr_gcl_cifar", 0, "lr_per_epoch_per_param_group", 0.1),
    ("gcl/places-lt", "c08_lr_gcl_places", 0, "lr_per_epoch_per_param_group", 0.2),
    ("paco/cifar*", "c08_lr_paco", 0, "lr_per_epoch", 0.05),
    ("paco/i[mn]*", "c08_lr_paco", 1, "lr_per_epoch", 0.02),  # Places-LT warms up 5 epochs by default, its case 10
    ("gpaco/cifar*", "c08_lr_gpaco", 0, "lr_per_epoch", 0.05),
    ("gpaco/i[mn]*", "c08_lr_gpaco", 1, "lr_per_epoch", 0.04),
    ("reslt/cifar*", "c08_lr_reslt_cifar", 0, "lr_per_epoch", 0.1),
    ("*reslt/imagenet-lt*", "c08_lr_reslt_imagenet", 0, "lr_per_epoch", 0.1),
    ("reslt/inat2018", "c08_lr_reslt_inat", 0, "lr_per_epoch", 0.1),
    ("bagmar/cifar*", "c08_lr_bagmar", 0, "lr_used_in_epoch_1..E", 0.1),
    ("*/cifar*_strong", "c08_lr_bagmar", 0, "lr_used_in_epoch_1..E", 0.1),
    ("balanced-softmax/cifar100-imb100_balms", "c08_lr_bagmar", 2, "lr_used_in_epoch_1..E", 0.1),
    *(
        (f"{recipe}/cifar*-imb*0", "c03_ldam_drw_weights_lr", 1, "lr_per_epoch", 0.1)
        for recipe in ("ce", "mixup", "focal", "class-balanced", "ldam", "ldam-drw", "balanced-softmax")
    ),
    ("logit-adjustment/cifar*", "c03_ldam_drw_weights_lr", 1, "lr_per_epoch", 0.1),
]


@pytest.mark.parametrize(("pattern", "file", "case", "output", "lr"), COURSES)
def test_official_course(pattern: str, file: str, case: int, output: str, lr: float) -> None:
    recorded: list[Any] = json.loads((GOLDEN / f"{file}.json").read_text())["cases"][case]["outputs"][output]
    expected = [(value[0] if isinstance(value, list) else value) / lr for value in recorded]
    matching = [preset for name, preset in PRESETS.items() if fnmatchcase(name, pattern)]
    assert matching
    for preset in matching:
        optim = preset.load().optim
        got = [lr_factor(optim.schedule, epoch, optim.epochs) for epoch in range(optim.epochs)]
        assert got == pytest.approx(expected, rel=1e-6, abs=1e-8), preset.name
