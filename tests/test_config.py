"""Configurations: every fault is named at once, every key is written and read back."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
import torch

from ltk import draws
from ltk.config import RunConfig
from ltk.config_text import create_config, dump_config, parse_override, read_toml, with_overrides
from ltk.engine.schedules import lr_factor
from ltk.errors import UsageError
from ltk.methods.baselines.reweighting import deferred_weights
from ltk.presets import list_presets
from ltk.resolve import resolve_config
from ltk.types import Progress


def test_toml_round_trip() -> None:
    config = resolve_config("glmc", dataset="digits", overrides=["model.width=8", "views.options.padding=2"]).config
    assert create_config(tomllib.loads(dump_config(config))) == config


def test_files_of_other_editors(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text('preset = "\u00e4"\n', encoding="utf-8-sig")
    assert read_toml(path) == {"preset": "\u00e4"}
    path.write_text('preset = ""\n', encoding="utf-16")
    with pytest.raises(UsageError) as caught:
        read_toml(path)
    assert (caught.value.message, caught.value.hint) == (f"{path} is not UTF-8 text (byte 0)", "Save it as UTF-8.")


def test_a_configuration_is_text(tmp_path: Path) -> None:
    config = create_config({"data": {"dataset": "folder", "root": tmp_path / "ro\udcffot"}})
    with pytest.raises(UsageError, match=r'^root = ".*/ro\\xffot" is not UTF-8$'):
        dump_config(config)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.b=1", 1),
        ("a.b=5e-4", 5e-4),
        ("a.b = true", True),
        ('a.b="x"', "x"),
        ("a.b=word", "word"),
        ("a.b=[1, 2]", [1, 2]),
        ("a.b=x=y", "x=y"),
    ],
)
def test_override_values(text: str, expected: object) -> None:
    assert parse_override(text) == ("a.b", expected)


@pytest.mark.parametrize("text", ["lr=1", "nothing", ".a=1", "a.=1", ""])
def test_bad_overrides(text: str) -> None:
    with pytest.raises(UsageError):
        parse_override(text)


def test_overrides_leave_the_original_alone() -> None:
    tree = {"optim": {"lr": 1.0}}
    assert with_overrides(tree, [("optim.lr", 2.0), ("a.b.c", 3)]) == {"optim": {"lr": 2.0}, "a": {"b": {"c": 3}}}
    assert tree == {"optim": {"lr": 1.0}}


def test_all_faults_are_told_at_once_with_nearest_names() -> None:
    with pytest.raises(UsageError) as fault:
        create_config({"optim": {"momentun": 0.9, "lr": "fast", "epochs": 0}, "dataa": {}})
    for part in (
        "optim.momentun: unknown key, did you mean momentum?",
        "optim.lr",
        "optim.epochs",
        "did you mean data",
    ):
        assert part in fault.value.message


@pytest.mark.parametrize(
    "tree",
    [
        {"optim": {"lr": float("nan")}},
        {"optim": {"lr": float("inf")}},
        {"optim": {"weight_decay": -1}},
        {"optim": {"epochs": 5, "schedule": {"warmup_epochs": 6}}},
        {"optim": {"epochs": 1, "schedule": {"at_epoch_start": True}}},
        {"optim": {"schedule": {"milestones": [3], "factors": []}}},
        {"optim": {"schedule": {"kind": "multistep"}}},
        {"optim": {"schedule": {"kind": "multistep", "milestones": [3], "factors": [-1]}}},
        {"optim": {"nesterov": True, "momentum": 0}},
        {"optim": {"nesterov": True, "optimizer": "adamw"}},
        {"optim": {"schedule": {"milestones": [5, 3], "factors": [1, 2]}}},
        {"run": {"seed": -1}},
        {"run": {"device": "tpu"}},
        {"method": {"name": "nope"}},
    ],
)
def test_values_out_of_range(tree: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        create_config(tree)


def test_method_options_stand_beside_the_name() -> None:
    config = create_config({"method": {"name": "glmc", "contrast_weight": 2}})
    assert config.method.options == {"contrast_weight": 2}


def test_epochs_move_milestones_in_proportion() -> None:
    resolved = resolve_config("ce", dataset="digits", options={"optim.epochs": 12})
    assert resolved.config.optim.schedule.warmup_epochs == 1
    assert any("warm-up" in line for line in resolved.notes)


def test_epochs_move_milestones_however_they_are_given() -> None:
    named = resolve_config("ldam-drw", dataset="cifar100", imb=100, options={"optim.epochs": 100})
    for spelling in ("1e2", "100.0", '"100"'):
        override = f"optim.epochs={spelling}"
        assert resolve_config("ldam-drw", dataset="cifar100", imb=100, overrides=[override]) == named
    chosen = resolve_config("ldam-drw", dataset="cifar100", imb=100, overrides=["optim.epochs=100"])
    assert named.config == chosen.config
    assert chosen.config.optim.schedule.milestones == (80, 90)
    own = resolve_config(
        "ldam-drw", dataset="cifar100", imb=100, overrides=["optim.epochs=100", "optim.schedule.milestones=[50, 60]"]
    )
    assert own.config.optim.schedule.milestones == (50, 60)
    large = resolve_config("glmc", dataset="imagenet-lt", options={"optim.epochs": 5})
    assert [round(lr_factor(large.config.optim.schedule, epoch, 5), 2) for epoch in range(5)] == [1, 1, 1.1, 0.65, 0.35]


@pytest.mark.parametrize("preset", [each.name for each in list_presets()])
def test_a_single_epoch_has_the_full_rate(preset: str) -> None:
    resolved = resolve_config(preset, options={"optim.epochs": 1})
    assert lr_factor(resolved.config.optim.schedule, 0, 1) == 1
    assert any("at the full learning rate" in line for line in resolved.notes)


@pytest.mark.parametrize("epochs", range(2, 60))
def test_deferred_weights_start_with_the_first_milestone(epochs: int) -> None:
    resolved = resolve_config("ldam-drw/cifar100-imb100", options={"optim.epochs": epochs})
    first = resolved.config.optim.schedule.milestones[0]
    key = draws.make_key(0)
    starts = [deferred_weights(torch.zeros(1), Progress(torch.tensor(epoch), epochs, key)) for epoch in range(epochs)]
    assert [float(weight) for weight in starts] == [1] * first + [0] * (epochs - first)


def test_every_key_is_described() -> None:
    def walk(model: type) -> None:
        for name, field in model.model_fields.items():  # type: ignore[attr-defined]
            if hasattr(field.annotation, "model_fields"):
                walk(field.annotation)
            else:
                assert field.description, name

    walk(RunConfig)


def test_another_network_leaves_the_width_of_the_presets() -> None:
    overrides = ["model.backbone=resnet10t", "model.options.drop_rate=0.1"]
    other = resolve_config("ce", dataset="digits", overrides=overrides).config.model
    assert (other.width, other.options) == (None, {"drop_rate": 0.1})
    deeper = {"model.backbone": "cifar_resnet14"}
    assert resolve_config("ce", dataset="digits", options=deeper).config.model.width == 16
    assert resolve_config("ce", dataset="digits", options=deeper, overrides=["model.width=8"]).config.model.width == 8


@pytest.mark.parametrize(
    "key",
    ["optim.epochs", "optim.batch_size", "optim.schedule.warmup_epochs", "data.head", "data.source.min_per_class"]
    + [f"run.{name}" for name in ("threads", "eval_every", "eval_batch_size", "save_every", "save_steps", "timeout")],
)
def test_no_number_is_endless(key: str) -> None:
    create_config(with_overrides({}, [(key, 7)]))
    with pytest.raises(UsageError, match=key):
        create_config(with_overrides({}, [(key, int("9" * 400))]))
