"""The presets of second stages: they name things that exist, state every setting, and aim at the published rows."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from ltk.config_text import create_config
from ltk.data.catalogue import FACTS
from ltk.engine.schedules import lr_factor
from ltk.methods import get_method_class
from ltk.methods.classifier_recipes import RECIPES
from ltk.presets import STAGE_TWO, Preset, choose_preset, list_presets
from ltk.resolve import apply_options
from tests.test_preset_figures import TARGET_ROWS, claims
from tests.test_presets import STATED, class_counts, line_of

PRESETS = list_presets(stage_two=True)
NUM_PRESETS = 51
COST = re.compile(r"cost: (\d+) epochs x ([\d,]+) images x 1 view, the classifier alone")
OWN_ROWS = ("cRT", "LWS", "tau-norm", "WD + tau-norm", "MaxNorm", "GLMC + MaxNorm", "Balanced softmax decoupled")
NOT_AIMED_AT = {
    # the exponent of weight balancing's re-run is not in its text
    ("CIFAR-100-LT", "100", "47.73"),
    ("CIFAR-100-LT", "50", "52.53"),
    ("CIFAR-100-LT", "10", "63.80"),
    # two figures in one row of a list
    ("iNaturalist 2018", "-", "65.9/69.5"),
}
CONFIDENCES = {"S": "second-hand", "U": "remembered"}
GOLDEN = Path(__file__).parent / "golden"

each_preset = pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.name)


def recipe_of(preset: Preset) -> str:
    return preset.recipe.removeprefix(STAGE_TWO)


def test_every_recipe_has_presets_for_digits_and_for_large_images() -> None:
    assert len(PRESETS) == NUM_PRESETS
    assert {recipe_of(preset) for preset in PRESETS} == set(RECIPES)
    names = {preset.name for preset in PRESETS}
    assert {f"{STAGE_TWO}{recipe}/{dataset}" for recipe in RECIPES for dataset in ("digits", "imagenet-lt")} <= names
    assert not names & {preset.name for preset in list_presets()}


def given_on_the_command_line(preset: Preset) -> dict[str, float]:
    """The options that turn the default preset into a variant; the command chooses no variant by itself."""
    options = shlex.split(line_of(preset, "command:"))[6:]
    return {flag.removeprefix("--"): float(value) for flag, value in zip(options[::2], options[1::2], strict=True)}


@each_preset
def test_it_is_what_its_name_says(preset: Preset) -> None:
    config, recipe = preset.load(), recipe_of(preset)
    options = get_method_class(config.method.name).Options(**config.method.options).model_dump()
    assert options["recipe"] == recipe
    assert config.data.dataset == preset.dataset
    assert config.data.imb == (FACTS["digits"].imb if preset.dataset == "digits" else preset.imb)
    assert not (config.parent.cache and options["batch_norm"] == "train")
    choice = choose_preset(preset.recipe, preset.dataset, preset.imb)
    assert choice.exact
    assert (choice.preset.name == preset.name) is not bool(preset.variant)
    given = {f"method.{name}": value for name, value in given_on_the_command_line(preset).items()}
    reached = apply_options(choice.preset.read(), given, ()).config
    assert reached == create_config(preset.read())


@each_preset
def test_it_states_every_setting(preset: Preset) -> None:
    tree = preset.read()
    assert list(tree) == ["data", "views", "parent", "method", "optim"]
    assert list(tree["parent"]) == ["cache"]
    assert tree["optim"].keys() == STATED
    trained = {"rule", "batch_norm", "mixup_alpha"}
    assert (trained if RECIPES[recipe_of(preset)].trains else {"tau", "keep_bias"}) <= tree["method"].keys()


@each_preset
def test_header(preset: Preset) -> None:
    header = preset.header()
    kinds = [line.partition(":")[0] for line in header[1:]]
    order = ["paper", "published", "data", "cost", "command", "note"]
    assert kinds == sorted(kinds, key=order.index)
    command = shlex.split(line_of(preset, "command:").removeprefix("command:"))
    assert command[:5] == ["ltk", "finetune-classifier", "RUN", "--method", recipe_of(preset)]
    assert bool(given_on_the_command_line(preset)) is bool(preset.variant)
    bare = not preset.published() and preset.dataset != "digits"
    assert bare == any("no published figure" in line for line in header[1:])
    for figure, _, _, confidence, _ in preset.published():
        word = CONFIDENCES.get(confidence)
        assert word is None or any(figure in line and word in line for line in header if line.startswith("note:"))


@each_preset
def test_cost(preset: Preset) -> None:
    if not RECIPES[recipe_of(preset)].trains:
        assert line_of(preset, "cost:") == "cost: nothing is trained"
        return
    stated = COST.fullmatch(line_of(preset, "cost:"))
    assert stated
    config = preset.load()
    cut = preset.imb or preset.dataset == "digits"
    images = sum(class_counts(preset.dataset, config.data.imb)) if cut else FACTS[preset.dataset].images["train"]
    assert stated.groups() == (str(config.optim.epochs), f"{images:,}")


def test_figures_are_those_of_the_list_and_all_of_them() -> None:
    claimed = {row for preset in PRESETS for row in claims(preset)}
    assert claimed <= TARGET_ROWS.keys()
    own = {row for row in TARGET_ROWS if row[3].startswith(OWN_ROWS) or row[3] == "GCL"}
    assert {row[:3] for row in own - claimed} == NOT_AIMED_AT


@pytest.mark.parametrize(("file", "dataset"), [("c08_lr_gcl_cifar", "cifar"), ("c08_lr_gcl_places", "places-lt")])
def test_official_course_of_gcl(file: str, dataset: str) -> None:
    expected = json.loads((GOLDEN / f"{file}.json").read_text())["cases"][1]["outputs"]["lr_per_epoch_per_param_group"]
    matching = [preset for preset in PRESETS if preset.name.startswith(f"{STAGE_TWO}gcl/{dataset}")]
    assert matching
    for preset in matching:
        optim = preset.load().optim
        rates = [optim.lr * lr_factor(optim.schedule, epoch, optim.epochs) for epoch in range(optim.epochs)]
        assert rates == pytest.approx([group[0] for group in expected], rel=1e-9)


def test_official_course_of_crt() -> None:
    """Kang et al.: a cosine stepped at the start of each epoch; BagofTricks: warm-up from a third, then steps."""
    large, small = (
        next(p for p in PRESETS if p.name == f"{STAGE_TWO}crt/{name}").load().optim
        for name in ("imagenet-lt", "cifar100-imb100")
    )
    rates = [large.lr * lr_factor(large.schedule, epoch, large.epochs) for epoch in (0, 1, 8, 9)]
    assert rates == pytest.approx([0.19510565, 0.1809017, 0.00489435, 0], abs=1e-8)
    factors = [lr_factor(small.schedule, epoch, small.epochs) for epoch in (4, 9, 10, 19, 20, 29)]
    assert factors == [1, 1, 0.1, 0.1, 0.01, 0.01]
    assert 1 / 3 < lr_factor(small.schedule, 0, small.epochs) < 0.5
