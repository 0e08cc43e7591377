"""Whatever changes a result is a rule on the card: only runs that differ in nothing but the seed are pooled."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import BaseModel
from safetensors.torch import save_file

from ltk.config import RunConfig
from ltk.engine.build import build, plan_data
from ltk.engine.card import describe_protocol
from ltk.engine.fit import fit
from ltk.engine.position import Position
from ltk.evaluation.compare import compare_entries
from ltk.evaluation.logits import SavedLogits
from ltk.evaluation.pipeline import Judge
from ltk.evaluation.protocol import protocol_differences, recipe_key
from ltk.evaluation.runs import read_run
from ltk.models.backbones import create_backbone
from ltk.resolve import resolve_config

CreateSaved = Callable[..., SavedLogits]
CreateRun = Callable[..., Path]
LATER = (
    "method_name", "image_size", "stored_size", "mean", "std", "upright", "full_resolution", "model_options",
    "view_options",
)  # fmt: skip
CHEAP = {"run.device": "cpu", "run.precision": "fp32", "run.threads": 1, "run.engine": "eager"}
BASE: dict[str, Any] = {
    **CHEAP,
    "data.dataset": "folder",
    "data.imb": 2,
    "data.val": 1,
    "data.image_size": 16,
    "views.recipes": ["rrc-flip"],
    "model.backbone": "cifar_resnet8",
    "model.width": 4,
    "optim.batch_size": 4,
    "optim.epochs": 4,
    "optim.lr": 0.1,
}
CHANGES: dict[str, Any] = {
    "preset": "ce/other",
    "data.dataset": {"data.dataset": "digits", "data.root": None},
    "data.imb": 3,
    "data.imb_type": "step",
    "data.subset": "first-n",
    "data.subset_seed": 7,
    "data.head": 6,
    "data.val": 2,
    "data.image_size": 12,
    "data.full_resolution": False,
    "data.mean": [0.4, 0.4, 0.4],
    "data.std": [0.3, 0.3, 0.3],
    "data.source.test": 0.5,
    "data.source.min_per_class": 4,
    "data.source.seed": 5,
    "data.source.upright": True,
    "views.recipes": ["crop-flip"],
    "views.options": {"scale_min": 0.5},
    "model.backbone": "cifar_resnet14",
    "model.width": 6,
    "model.options": {"model.backbone": "resnet10t", "model.width": None, "model.options": {"drop_rate": 0.3}},
    "model.pretrained": "weights.safetensors",
    "method.name": "balanced-softmax",
    "optim.optimizer": "adamw",
    "optim.lr": 0.2,
    "optim.momentum": 0.8,
    "optim.nesterov": True,
    "optim.weight_decay": 0.01,
    "optim.batch_size": 5,
    "optim.lr_rule": {"optim.lr_rule": "linear", "optim.reference_batch": 8},
    "optim.reference_batch": {"optim.lr_rule": "linear", "optim.reference_batch": 2},
    "optim.epochs": 5,
    "optim.drop_last": True,
    "optim.clip": 1.0,
    "optim.ema": 0.9,
    "optim.schedule.kind": "constant",
    "optim.schedule.warmup_epochs": 1,
    "optim.schedule.warmup_start": 0.5,
    "optim.schedule.warmup_form": "overshoot",
    "optim.schedule.milestones": {"optim.schedule.milestones": [2], "optim.schedule.factors": [0.1]},
    "optim.schedule.factors": {"optim.schedule.milestones": [2], "optim.schedule.factors": [0.2]},
    "optim.schedule.at_epoch_start": True,
    "run.precision": "bf16",
    "run.sync_bn": True,
    "run.eval_every": 2,
}
NO_RULE = {
    **dict.fromkeys(("run.seed", "parent.path", "parent.sha256"), "what seeds differ in"),
    **dict.fromkeys(("run.device", "run.engine", "run.threads", "run.workers", "run.timeout"), "the machine's"),
    **dict.fromkeys(("run.save_every", "run.save_steps", "run.log", "run.profile"), "what is written"),
    "run.on_nan": "when training stops",
    "run.eval_batch_size": "rounding",
    "data.groups": "the judge's, see test_runs_of_other_groups_are_not_pooled",
    **dict.fromkeys(("data.root", "data.source.train_list", "data.source.val_list"), "images: the fingerprint"),
    **dict.fromkeys(("data.source.test_list", "data.source.csv", "data.source.group_col"), "images: the fingerprint"),
    **dict.fromkeys(("data.source.group_regex", "data.source.allow_outside"), "images: the fingerprint"),
    "data.source.skip_missing": "images: the fingerprint",
    **dict.fromkeys(("parent.checkpoint", "parent.cache", "parent.tuned"), "a second stage's, see test_stage_two.py"),
}


def walk(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from walk(kind, f"{prefix}{name}.")
        else:
            yield prefix + name


def test_every_setting_is_a_rule_or_said_to_be_none() -> None:
    assert sorted(walk(RunConfig)) == sorted([*CHANGES, *NO_RULE])


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("photos")
    pixels = np.random.default_rng(0).integers(0, 256, (45, 20, 24, 3), dtype=np.uint8)
    for i, image in enumerate(pixels):
        path = root / f"class {i % 3}" / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(image).save(path)
    return root


def describe(options: dict[str, Any]) -> dict[str, Any]:
    """The card of a run that was never trained."""
    tree: dict[str, Any] = {}
    for key, value in options.items():
        *sections, name = key.split(".")
        place = tree
        for section in sections:
            place = place.setdefault(section, {})
        place[name] = value
    built = build(plan_data(RunConfig.model_validate(tree)))
    epochs = built.plan.config.optim.epochs
    place_at_end = Position(epoch=epochs, update=epochs * built.loader.steps, images=epochs * built.loader.length)
    return dict(json.loads(json.dumps(describe_protocol(built, place_at_end))))


@pytest.fixture(scope="module")
def described(photos: Path) -> dict[str, Any]:
    return describe({**BASE, "data.root": photos})


@pytest.mark.parametrize("key", CHANGES)
def test_a_setting_that_changes_the_result_changes_the_recipe(
    key: str, described: dict[str, Any], photos: Path, tmp_path: Path
) -> None:
    value, base = CHANGES[key], {**BASE, "data.root": photos}
    if key == "model.pretrained":
        value = write_weights(tmp_path / value)
    card = describe({**base, **(value if isinstance(value, dict) and "views" not in key else {key: value})})
    plain = described
    if key == "model.options":
        plain = describe({**base, **value, "model.options": {}})
    if key == "optim.schedule.factors":
        plain = describe({**base, **CHANGES["optim.schedule.milestones"]})
    if key == "optim.reference_batch":
        plain = describe({**base, **CHANGES["optim.lr_rule"]})
    assert recipe_key(card) != recipe_key(plain)
    if key not in ("preset", "method.name"):
        assert protocol_differences({"a": card, "b": plain})


def test_a_seed_changes_no_recipe(described: dict[str, Any], photos: Path) -> None:
    assert recipe_key(describe({**BASE, "data.root": photos, "run.seed": 1})) == recipe_key(described)


def write_weights(path: Path, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    net = create_backbone("cifar_resnet8", width=4, in_chans=3, image_size=16).net
    save_file({name: tensor.contiguous() for name, tensor in net.state_dict().items()}, path)
    return path


def test_weights_of_one_name_are_told_apart(photos: Path, tmp_path: Path) -> None:
    cards, base = [], {**BASE, "data.root": photos}
    for seed in (0, 1):
        (tmp_path / f"run-{seed}").mkdir()
        path = write_weights(tmp_path / f"run-{seed}" / "last.safetensors", seed)
        cards.append(describe({**base, "model.pretrained": path}))
    (row,) = protocol_differences(dict(zip("ab", cards, strict=True)))
    assert row.key == "init"
    assert cards[0]["init"].startswith("weights of last.safetensors (sha256 ")
    copy = tmp_path / "last.safetensors"
    copy.write_bytes((tmp_path / "run-0" / "last.safetensors").read_bytes())
    assert describe({**base, "model.pretrained": copy})["init"] == cards[0]["init"]


def train(out: Path, **options: Any) -> Path:
    fixed = {**CHEAP, "optim.epochs": 1, "model.width": 4}
    return fit(resolve_config("ce", dataset="digits", options={**fixed, **options}).config, out=out).folder


def age(run: Path) -> Path:
    """Take from the card what the cards of older versions leave out."""
    card = json.loads((run / "card.json").read_text())
    (run / "card.json").write_text(json.dumps({key: value for key, value in card.items() if key not in LATER}))
    return run


def test_an_old_card_is_completed_from_the_configuration_beside_it(tmp_path: Path) -> None:
    new, old = (train(tmp_path / name, **{"run.seed": seed}) for seed, name in enumerate(("new", "old")))
    age(old)
    assert recipe_key(read_run(old).rules) == recipe_key(read_run(new).rules)
    cards = {"new": read_run(new).rules}
    for key, value in {"data.image_size": 6, "views.options": {"padding": 2}}.items():
        cards[key] = read_run(age(train(tmp_path / key, **{key: value}))).rules
    assert len({recipe_key(card) for card in cards.values()}) == 3
    assert {row.key for row in protocol_differences(cards)} == {"image_size", "stored_size", "view_options"}


def test_old_cards_tell_files_of_weights_by_their_paths(create_run: CreateRun, saved: SavedLogits) -> None:
    runs = [create_run(name, saved, init="weights of last.safetensors") for name in ("a", "b", "c")]
    for run, parent in zip(runs, ("one", "two", "two"), strict=True):
        (run / "config.toml").write_text(f'[model]\npretrained = "/runs/{parent}/last.safetensors"\n')
    keys = [recipe_key(read_run(run).rules) for run in runs]
    assert keys[0] != keys[1] == keys[2]


def test_a_configuration_that_is_none_tells_nothing(create_run: CreateRun, saved: SavedLogits) -> None:
    run = create_run("a", saved)
    (run / "config.toml").write_text('[data]\nunknown = "key"\n')
    assert read_run(run).rules == read_run(run).card


def test_runs_of_other_groups_are_not_pooled(create_run: CreateRun, create_saved: CreateSaved) -> None:
    runs = [
        create_run(f"{seed}", create_saved(groups=groups), seed=seed)
        for seed, groups in enumerate([(100, 20), (55, 20)])
    ]
    entries = [Judge().evaluate(run).entry() for run in runs]
    assert len(compare_entries(entries, entries[0].groups).recipes) == 2
    entries = [Judge(groups="100,20").evaluate(run).entry() for run in runs]
    assert len(compare_entries(entries, entries[0].groups).recipes) == 1


def test_unfinished_runs_of_other_rates_are_not_pooled(tmp_path: Path) -> None:
    rules = []
    for seed, rate in enumerate((0.1, 0.1, 0.2)):
        run = train(tmp_path / f"{seed}", **{"run.seed": seed, "optim.lr": rate})
        (run / "card.json").unlink()
        rules.append(read_run(run).rules)
    first, second, third = map(recipe_key, rules)
    assert first == second != third
    assert [row.key for row in protocol_differences({"a": rules[0], "b": rules[2]})] == ["lr"]
