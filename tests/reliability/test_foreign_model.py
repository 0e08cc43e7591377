"""Model files of ltk's own format from strangers: what they say of their network is checked before it is built."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from ltk.checkpoint import load_model, read_tensors, write_tensors
from ltk.description import build_from_metadata, describe_model
from ltk.engine.build import build_method, plan_data
from ltk.errors import DataError, UnsafeError
from ltk.resolve import resolve_config
from tests.reliability.processes import Launcher

BACKBONE = {"name": "cifar_resnet8", "options": {"width": 4}}
IMAGE = {"size": 8, "stored": 8, "channels": 1, "mean": [0.3], "std": [0.4]}


def backbone(**options: Any) -> dict[str, str]:
    return {"backbone": json.dumps(BACKBONE | {"options": {"width": 4} | options})}


def image(**changes: Any) -> dict[str, str]:
    return {"image": json.dumps(IMAGE | changes)}


UNSAFE = {
    "weights from the net": backbone(pretrained=True),
    "weights from a path": backbone(pretrained="/tmp/x"),
    "a checkpoint": backbone(checkpoint_path="/tmp/evil.pth"),
    "a folder": backbone(cache_dir="/tmp/evil"),
    "a module": {"method": "antigravity:x"},
}
BAD = {
    "a table of weights": backbone(pretrained_cfg_overlay={"file": "/tmp/evil.pth"}),
    "weights from the hub": {"backbone": json.dumps(BACKBONE | {"name": "hf-hub:timm/resnet18"})},
    "a local folder": {"backbone": json.dumps(BACKBONE | {"name": "local-dir:/tmp"})},
    "an imported class that is no method": {"method": "subprocess:Popen"},
    "no method": {"method": ""},
    "a name twice": backbone(name="resnet18"),
    "channels twice": backbone(in_chans=3),
    "size twice": backbone(image_size=3),
    "far too wide": backbone(width=1_000_000),
    "too wide for this memory": backbone(width=20_000),
    "negative width": backbone(width=-4),
    "width as text": backbone(width="x"),
    "another network": {"backbone": json.dumps({"name": "resnet18", "options": {}})},
    "list for a name": {"backbone": json.dumps({"name": ["x"], "options": {}})},
    "list for a backbone": {"backbone": "[]"},
    "no name": {"backbone": "{}"},
    "options as a list": {"method_options": "[1]"},
    "unknown method option": {"method_options": '{"foo": 1}'},
    "option that is nan": {"method_options": '{"mixup_alpha": NaN}'},
    "no JSON": {"method_options": "{"},
    "endless JSON": {"class_counts": "[" * 100_000},
    "huge images": image(size=1_000_000),
    "huge stored images": image(stored=1_000_000),
    "no pixels": image(size=0),
    "size as text": image(size="x"),
    "no channels": image(channels=0, mean=[], std=[]),
    "two means": image(mean=[0.1, 0.2]),
    "std of zero": image(std=[0]),
    "std of nan": image(std=[float("nan")]),
    "list for an image": {"image": "[]"},
    "no classes": {"class_counts": "[]", "class_names": "[]"},
    "one class more": {"class_counts": json.dumps([1] * 11), "class_names": "null"},
    "other names than counts": {"class_names": '["a"]'},
    "numbers for names": {"class_names": json.dumps([1] * 10)},
    "counts of zero": {"class_counts": json.dumps([0] * 10)},
    "counts without end": {"class_counts": json.dumps([10**30] * 10)},
    "more classes than numbers": {"class_counts": json.dumps([1] * 1_000_000), "class_names": "null"},
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound model file."""
    options = {"model.backbone": "cifar_resnet8", "model.width": 4, "run.device": "cpu"}
    plan = plan_data(resolve_config("ce", dataset="digits", options=options).config)
    method, description = build_method(plan.config, plan.manifest.counts, plan.image, plan.manifest.class_names)
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    write_tensors(path, method.inference_state(), description | {"ltk_format": "model/1"})
    assert json.loads(description["backbone"]) == BACKBONE
    assert load_model(path).predict(torch.zeros(1, 1, 8, 8)).shape == (1, 10)
    return path


def spoil(model: Path, change: dict[str, str], path: Path) -> Path:
    tensors, metadata = read_tensors(model)
    write_tensors(path, tensors, metadata | change)
    return path


@pytest.mark.parametrize("name", UNSAFE)
def test_a_file_has_nothing_fetched(model: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(UnsafeError):
        load_model(spoil(model, UNSAFE[name], tmp_path / "m"))


@pytest.mark.parametrize("name", BAD)
def test_a_description_that_cannot_be_is_refused(model: Path, tmp_path: Path, name: str) -> None:
    path = spoil(model, BAD[name], tmp_path / "m")
    began = time.process_time()
    with pytest.raises(DataError) as caught:
        load_model(path)
    assert str(path) in caught.value.message
    assert time.process_time() - began < 5


ENDLESS = {
    "blocks": {"backbone": json.dumps({"name": "resnet18", "options": {"layers": [60_000, 1, 1, 1]}})},
    "absurd blocks": {"backbone": json.dumps({"name": "resnet18", "options": {"layers": [3_000_000, 1, 1, 1]}})},
    "layers": {"backbone": json.dumps({"name": "vit_tiny_patch16_224", "options": {"depth": 60_000}})},
    "absurd layers": {"backbone": json.dumps({"name": "vit_tiny_patch16_224", "options": {"depth": 3_000_000}})},
    "experts": {
        "backbone": json.dumps({"name": "resnet18", "options": {}}),
        "method": "reslt",
        "method_options": '{"form": "block", "experts": 1000000}',
    },
}


@pytest.mark.parametrize("name", ENDLESS)
def test_a_few_bytes_cannot_ask_for_endless_modules(model: Path, tmp_path: Path, name: str) -> None:
    _, metadata = read_tensors(model)
    description = metadata | {"image": json.dumps(IMAGE | {"size": 32})} | ENDLESS[name]
    write_tensors(tmp_path / "m", {"x": torch.zeros(16)}, description)
    began = time.process_time()
    with pytest.raises(DataError, match="describes a network"):
        load_model(tmp_path / "m")
    assert time.process_time() - began < 3


@pytest.mark.parametrize("method", ["paco", "glmc", "ce"])
@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "aimv2_large_patch14_224", "resnet50"])
def test_a_network_with_many_modules_for_each_tensor_passes(name: str, method: str) -> None:
    image = IMAGE | {"size": 224, "stored": 256}
    metadata = describe_model(
        method=method,
        method_options={},
        backbone={"name": name},
        class_counts=[1] * 10,
        class_names=None,
        image=image,
    )
    with torch.device("meta"):
        tensors = build_from_metadata(metadata).inference_state()
        assert build_from_metadata(metadata, tensors).inference_state().keys() == tensors.keys()


@pytest.mark.parametrize("part", ["method", "backbone", "class_counts", "class_names", "method_options", "image"])
def test_a_description_with_a_part_missing_is_refused(model: Path, tmp_path: Path, part: str) -> None:
    tensors, metadata = read_tensors(model)
    del metadata[part]
    write_tensors(tmp_path / "m", tensors, metadata)
    with pytest.raises(DataError, match=part):
        load_model(tmp_path / "m")


@pytest.mark.parametrize("header", [b"[]", b"{", b"[" * 100_000, b'{"__metadata__":[]}', b"\xff", b""])
def test_headers_that_are_none(tmp_path: Path, header: bytes) -> None:
    (tmp_path / "m").write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(DataError):
        load_model(tmp_path / "m")


def test_where_weights_came_from_is_not_written_down() -> None:
    options = {"model.backbone": "cifar_resnet8", "model.width": 4, "run.device": "cpu", "data.dataset": "digits"}
    config = resolve_config("ce", dataset="digits", options=options).config
    fetched = config.model.model_copy(update={"options": {"pretrained_cfg": "x"}})
    plan = plan_data(config.model_copy(update={"model": fetched}))
    _, description = build_method(plan.config, plan.manifest.counts, plan.image)
    assert json.loads(description["backbone"]) == BACKBONE


@pytest.mark.parametrize("command", ["eval", "finetune-classifier", "convert"])
@pytest.mark.parametrize("change", [UNSAFE["a checkpoint"], BAD["no JSON"], BAD["huge images"]], ids=str)
def test_the_command_line_says_so(
    launcher: Launcher, model: Path, tmp_path: Path, command: str, change: dict[str, str]
) -> None:
    options = {"convert": ("--to", "timm")}.get(command, ("--dataset", "digits"))
    path = spoil(model, change, tmp_path / "m.safetensors")
    done = launcher.run(command, path, *options, cwd=tmp_path)
    assert done.code == (UnsafeError if change == UNSAFE["a checkpoint"] else DataError).exit_code, done.err
    assert str(path) in done.err
    assert "Traceback" not in done.err
    assert list(tmp_path.iterdir()) == [path]
