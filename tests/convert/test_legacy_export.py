"""Official layouts of models born in ltk: they come back with the same logits, or are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from ltk.checkpoint import load_model, save_model
from ltk.convert.class_order import class_map
from ltk.convert.convert import Request, convert_file, write_conversion
from ltk.convert.export import export_model, write_export
from ltk.data.catalogue import train_counts
from ltk.data.image import ImageSpec
from ltk.description import describe_model
from ltk.errors import UsageError
from ltk.methods import create_method
from ltk.models.backbones import create_backbone
from tests.convert import legacy_models as legacy
from tests.convert.converting import assert_same_logits, convert_tree

COUNTS = [5, 40, 2, 50, 10]


def born(folder: Path, method: str, counts: list[int] | None = None, **options: Any) -> Path:
    """A model file of a network that ltk made."""
    network = create_method(method, create_backbone("cifar_resnet8"), torch.tensor(counts or [1] * 5), **options)
    legacy.filled(network)
    description = describe_model(
        method=method,
        method_options=options,
        backbone={"name": "cifar_resnet8"},
        class_counts=counts,
        class_names=None if counts else list("abcde"),
        image=ImageSpec(32, 32, 3, (0.5,) * 3, (0.5,) * 3).as_json(),
    )
    save_model(folder / "born.safetensors", network, description)
    return folder / "born.safetensors"


def back(path: Path, target: str, request: Request) -> tuple[list[str], Path]:
    """Notes on the export, and the model file it becomes again."""
    export, out = export_model(path, target), path.with_name("back.safetensors")
    write_export(export, path.with_name("export.pth"))
    write_conversion(convert_file(path.with_name("export.pth"), request), out)
    return export.notes, out


@pytest.mark.parametrize("target", ["legacy-gcl-ce", "legacy-bagmar"])
def test_only_the_layer_that_predicts_is_written_as_the_classifier(target: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"a model of glmc cannot be written as {target.removeprefix('legacy-')}"):
        export_model(born(tmp_path, "glmc", COUNTS), target)
    path = born(tmp_path, "focal", COUNTS)
    _, out = back(path, target, Request(class_counts=tuple(COUNTS)))
    assert_same_logits(out, load_model(path).predict, 32)


def test_places_keeps_the_data_sets_order(tmp_path: Path) -> None:
    example = legacy.places("block_state_dict", 365)
    _, first = convert_tree(example.tree, tmp_path)
    notes, out = back(first, "legacy-gcl-parts", Request())
    order = class_map(train_counts("places-lt").tolist(), descending=True)
    assert_same_logits(out, example.forward, 64, order)
    assert "data set's class order" in notes[0]


@pytest.mark.parametrize("form", ["block", "norms"])
def test_reslt_is_numbered_as_its_official_code_does(form: str, tmp_path: Path) -> None:
    path = born(tmp_path, "reslt", COUNTS, form=form)
    target = "legacy-reslt" if form == "block" else "legacy-reslt-cifar"
    options = {"gamma": 0.7} if form == "block" else {}
    notes, out = back(path, target, Request(class_counts=tuple(COUNTS), options=options))
    assert_same_logits(out, load_model(path).predict, 32)
    state = torch.load(tmp_path / "export.pth", weights_only=True)
    rows = state["state_dict"]["module.fc.bias"] if form == "block" else state["module.linear.bias"]
    order = [2, 0, 4, 1, 3] if form == "block" else [0, 1, 2, 3, 4]
    assert torch.equal(rows, load_model(path).state_dict()["classifiers.0.bias"][order])
    assert any("ascending by training images" in note for note in notes) == (form == "block")


def test_without_counts_the_order_stays_and_the_note_says_so(tmp_path: Path) -> None:
    path = born(tmp_path, "reslt", form="block")
    notes, out = back(path, "legacy-reslt", Request(options={"gamma": 0.7}))
    assert_same_logits(out, load_model(path).predict, 32)
    assert any("--class-order file" in note for note in notes)


OTHER = [
    ("norms", {"gamma": 0.5}, "gamma=0.5, the official code 0"),
    ("norms", {"keep_bias": False}, "keep_bias=False, the official code True"),
    ("block", {"keep_bias": True}, "keep_bias=True, the official code False"),
    ("block", {"eval_pool_last": True}, "eval_pool_last=True, the official code False"),
]


@pytest.mark.parametrize(("form", "options", "fault"), OTHER)
def test_evaluation_that_the_official_code_does_not_have(
    form: str, options: dict[str, Any], fault: str, tmp_path: Path
) -> None:
    path = born(tmp_path, "reslt", COUNTS, form=form, **options)
    with pytest.raises(UsageError, match=fault):
        export_model(path, "legacy-reslt" if form == "block" else "legacy-reslt-cifar")


@pytest.mark.parametrize(
    ("method", "target", "options", "told"),
    [
        ("reslt", "legacy-reslt", {"form": "block", "gamma": 0.4}, {"gamma": 0.4}),
        ("gcl", "legacy-gcl", {}, {"scale": 30.0}),
        ("gcl", "legacy-gcl-parts", {}, {"scale": 30.0}),
        ("ldam", "legacy-ldam-drw", {}, {"scale": 30.0}),
    ],
)
def test_what_no_file_carries_is_told(
    method: str, target: str, options: dict[str, Any], told: dict[str, Any], tmp_path: Path
) -> None:
    path = born(tmp_path, method, COUNTS, **options)
    form = "ldam-drw" if method == "ldam" else None
    notes, out = back(path, target, Request(form=form, class_counts=tuple(COUNTS), options=told))
    assert_same_logits(out, load_model(path).predict, 32)
    ((name, value),) = told.items()
    assert f"--set {name}={value}" in notes[0]


def test_a_layout_that_cannot_be_read_back_is_refused(tmp_path: Path) -> None:
    _, out = convert_tree(legacy.ride(30, 0.3).tree, tmp_path)
    with pytest.raises(UsageError, match="a model of reslt cannot be written as legacy-reslt: "):
        export_model(out, "legacy-reslt")
