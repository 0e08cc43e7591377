"""The recorded official checkpoints, rebuilt from their manifests: logits to 1e-4."""

from __future__ import annotations

import json
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ltk.checkpoint import load_model, read_tensors
from ltk.convert.class_order import Numbering, class_map
from ltk.convert.convert import Conversion, Request, convert_file, write_conversion
from ltk.data.catalogue import train_counts

GOLDEN = Path(__file__).parents[1] / "golden"
FILES = {
    "c10_ckpt_bagmar_r32_c100": ("bagmar", "logits"),
    "c10_ckpt_gcl_r32_c10_stage1": ("gcl", "logits"),
    "c10_ckpt_gcl_r32_c10_stage2": ("gcl-parts", "logits"),
    "c10_ckpt_gcl_r50_imagenet": ("gcl", "logits"),
    "c10_ckpt_glmc_r32_c100": ("glmc", "logits"),
    "c10_ckpt_paco_r32_c100": ("paco", "logits"),
    "c10_ckpt_reslt_r32_c100": ("reslt-cifar", "logits_sum"),
    "c10_ckpt_reslt_r10_imagenet": ("reslt", "logits_sum gamma=0.3"),
}


def filled(shape: list[int], dtype: str, rule: str, seed: int | None) -> Tensor:
    """A tensor by the manifest's rule."""
    kind = getattr(torch, dtype)
    if seed is not None:
        values = np.random.RandomState(seed).standard_normal(shape) * 0.05
        values = 1 + values if rule == "norm_weight" else np.abs(values) + 1 if rule == "running_var" else values
        return torch.from_numpy(np.asarray(values)).to(kind)
    if rule == "arange_mod_num_classes":
        return (torch.arange(int(np.prod(shape))) % 100).reshape(shape)
    return torch.full(shape, {"const100": 100, "zeros": 0}[rule], dtype=kind)


def rebuild(name: str, folder: Path) -> Path:
    """Write the file a manifest describes."""
    recorded = json.loads((GOLDEN / f"{name}.json").read_text())
    tree: dict[str, Any] = {"epoch": 1, "best_acc1": torch.tensor(3.0)}
    for part in recorded["parts"]:
        weights = OrderedDict((key, filled(*row)) for key, *row in part["manifest"])
        if not part["path"]:
            tree = weights
            break
        node = tree
        for key in part["path"][:-1]:
            node = node.setdefault(key, {})
        node[part["path"][-1]] = weights
    path = folder / f"{name}.pth"
    torch.save(tree, path)
    return path


def recorded_case(name: str) -> tuple[dict[str, Any], Tensor]:
    """The recorded outputs, and the input."""
    case = json.loads((GOLDEN / f"{name}.json").read_text())["cases"][0]
    side = case["inputs"]["H,W"]
    x = np.random.RandomState(7).standard_normal((2, 3, side, side)).astype(np.float32)
    return case["outputs"], torch.from_numpy(x)


def convert(name: str, folder: Path, request: Request | None = None) -> tuple[Conversion, Path]:
    source, out = rebuild(name, folder), folder / "model.safetensors"
    request = request or Request(numbering=Numbering("file"))
    if name.endswith("stage2"):
        source, request = rebuild("c10_ckpt_gcl_r32_c10_stage1", folder), Request(classifier=source)
    conversion = convert_file(source, request)
    write_conversion(conversion, out)
    return conversion, out


@torch.no_grad()
def assert_close(out: Path, x: Tensor, expected: Any) -> None:
    expected = torch.as_tensor(expected)
    assert (load_model(out).predict(x) - expected).abs().max() <= 1e-4 * expected.abs().max()


@pytest.mark.parametrize("name", FILES)
def test_recorded_logits(name: str, tmp_path: Path) -> None:
    form, key = FILES[name]
    conversion, out = convert(name, tmp_path)
    outputs, x = recorded_case(name)
    assert conversion.recognition.name == form
    assert_close(out, x, outputs[key])
    # the balance: every source tensor has one row, every target tensor one source
    paths = [row.source for row in conversion.account.rows]
    assert len(paths) == len(set(paths))
    assert conversion.account.random == conversion.account.filled == []
    tensors, _ = read_tensors(out)
    assert set(tensors) == {row.target for row in conversion.account.rows if row.target}


def test_recorded_features(tmp_path: Path) -> None:
    _, out = convert("c10_ckpt_bagmar_r32_c100", tmp_path)
    outputs, x = recorded_case("c10_ckpt_bagmar_r32_c100")
    with torch.no_grad():
        features = load_model(out).features(x)
    assert torch.allclose(features, torch.tensor(outputs["feature[:, :64]"]), rtol=0, atol=1e-4)


def test_reslt_in_the_order_of_the_data_set_and_with_another_gamma(tmp_path: Path) -> None:
    name = "c10_ckpt_reslt_r10_imagenet"
    outputs, x = recorded_case(name)
    order = class_map(train_counts("imagenet-lt").tolist(), descending=False)
    conversion, out = convert(name, tmp_path, Request())
    assert_close(out, x, torch.tensor(outputs["logits_sum gamma=0.3"])[:, order])
    assert "ascending" in " ".join(conversion.notes)
    _, out = convert(name, tmp_path, Request(numbering=Numbering("file"), options={"gamma": 0.7}))
    assert_close(out, x, outputs["logits_sum gamma=0.7"])


def test_metadata_says_where_the_model_comes_from(tmp_path: Path) -> None:
    _, out = convert("c10_ckpt_glmc_r32_c100", tmp_path)
    _, metadata = read_tensors(out)
    source = json.loads(metadata["source"])
    assert metadata["ltk_format"] == "model/1"
    assert metadata["method"] == "glmc"
    assert json.loads(metadata["backbone"]) == {"name": "cifar_resnet32", "options": {"width": 64}}
    assert json.loads(metadata["image"])["mean"] == [0.4914, 0.4822, 0.4465]
    assert source["file"] == "c10_ckpt_glmc_r32_c100.pth"
    assert len(source["sha256"]) == 64
    assert source["format"] == "glmc"
    assert source["mapping"]["state_dict/module.fc_cb.weight"] == "fc_cb.weight"
    assert source["facts"] == {"epoch": 1}
