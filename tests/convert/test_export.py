"""Weights of ltk under the names of timm, torchvision and the official codes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from safetensors.torch import load_file

from ltk.checkpoint import load_model
from ltk.convert.convert import Request, convert_file, write_conversion
from ltk.convert.export import export_model, write_export
from ltk.errors import DataError, UsageError
from tests.convert import legacy_models as legacy
from tests.convert.converting import convert_tree
from tests.convert.legacy_models import Legacy, resnet

TWO_EACH = (2, 2, 2, 2)


@torch.no_grad()
def same(net: Any, out: Path, size: int = 64) -> bool:
    x = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(2))
    wanted = load_model(out).predict(x)
    return bool((net.eval()(x) - wanted).abs().max() <= 1e-4 * wanted.abs().max())


@pytest.mark.parametrize(
    "create",
    [
        lambda: legacy.glmc(resnet(False, TWO_EACH), 10, small=False),
        lambda: legacy.moco(resnet(False, TWO_EACH), 10, generalised=False),
    ],
)
def test_timm_and_torchvision_load_strictly(create: Callable[[], Legacy], tmp_path: Path) -> None:
    _, out = convert_tree(create().tree, tmp_path)
    write_export(export_model(out, "timm"), tmp_path / "timm.safetensors")
    net = timm.create_model("resnet18", num_classes=10)
    net.load_state_dict(load_file(tmp_path / "timm.safetensors"), strict=True)
    assert same(net, out)
    write_export(export_model(out, "torchvision"), tmp_path / "tv.pth")
    net = torchvision.models.resnet18(num_classes=10)
    net.load_state_dict(torch.load(tmp_path / "tv.pth", weights_only=True), strict=True)
    assert same(net, out)


def test_nets_that_ltk_registers_with_timm(tmp_path: Path) -> None:
    _, out = convert_tree(legacy.glmc(resnet(False, TWO_EACH, True), 10).tree, tmp_path)
    export = export_model(out, "timm")
    net = timm.create_model("cifar_stem_resnet18", num_classes=10)
    net.load_state_dict(dict(export.content), strict=True)
    assert same(net, out, 32)
    assert "ltk.models.backbones" in export.notes[0]
    with pytest.raises(UsageError, match="torchvision has no cifar_stem_resnet18"):
        export_model(out, "torchvision")


def test_what_is_no_linear_layer_gives_its_features(tmp_path: Path) -> None:
    _, out = convert_tree(legacy.gcl(resnet(False, TWO_EACH), 10).tree, tmp_path)
    with pytest.raises(UsageError, match="does not predict by one linear layer") as caught:
        export_model(out, "timm")
    assert "timm-features" in caught.value.hint
    net = timm.create_model("resnet18", num_classes=0)
    net.load_state_dict(dict(export_model(out, "timm-features").content), strict=True)
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(net.eval()(x), load_model(out).features(x), atol=1e-5)


def bagmar(body: Any, head: Any) -> Any:
    return {"state_dict_best": {"feat_model": body, "classifier": head}}


ROUND_TRIPS: dict[str, Callable[[], Legacy]] = {
    "glmc": lambda: legacy.glmc(resnet(False, TWO_EACH, True), 10),
    "gcl": lambda: legacy.gcl(resnet(), 20),
    "gcl-ce": lambda: legacy.gcl(resnet(), 20, with_bias=True),
    "paco": lambda: legacy.moco(resnet(), 11, generalised=False),
    "gpaco": lambda: legacy.moco(resnet(), 11, generalised=True),
    "bagmar": lambda: legacy.apart(resnet(), 9, bagmar),
    "reslt": lambda: legacy.reslt(1000, 0.3, 3),
}


@pytest.mark.parametrize("form", ROUND_TRIPS)
def test_official_layouts_come_back_as_they_were(form: str, tmp_path: Path) -> None:
    first, out = convert_tree(ROUND_TRIPS[form]().tree, tmp_path, Request(training_state=True))
    write_export(export_model(out, f"legacy-{form}"), tmp_path / "again.pth")
    original = torch.load(tmp_path / "old.pth", weights_only=False)
    exported = torch.load(tmp_path / "again.pth", weights_only=True)
    if "state_dict" in original:
        given, wanted = exported["state_dict"], original["state_dict"]
        for name in wanted:
            if "linear_k" not in name:
                assert torch.equal(given[name], wanted[name]), name
    second = convert_file(tmp_path / "again.pth", Request(training_state=True))
    assert second.recognition.name == form
    assert all(torch.equal(first.account.tensors[name], value) for name, value in second.account.tensors.items())


def test_reslt_on_cifar_comes_back(tmp_path: Path) -> None:
    from tests.convert.test_golden_files import rebuild

    source, out = rebuild("c10_ckpt_reslt_r32_c100", tmp_path), tmp_path / "model.safetensors"
    write_conversion(convert_file(source, Request()), out)
    write_export(export_model(out, "legacy-reslt-cifar"), tmp_path / "again.pth")
    exported, wanted = torch.load(tmp_path / "again.pth", weights_only=True), torch.load(source, weights_only=True)
    assert exported.keys() == wanted.keys()
    assert all(torch.equal(exported[name], wanted[name]) for name in wanted)


def test_what_cannot_be_written(tmp_path: Path) -> None:
    _, out = convert_tree(legacy.reslt(30, 0.3, 2).tree, tmp_path, Request(options={"branches": 2}))
    with pytest.raises(UsageError, match="third branch"):
        export_model(out, "legacy-reslt")
    _, out = convert_tree(legacy.ride(30, 0.3).tree, tmp_path)
    with pytest.raises(UsageError, match="other tensors"):
        export_model(out, "timm-features")
    _, out = convert_tree(legacy.gcl(resnet(), 20).tree, tmp_path)
    with pytest.raises(UsageError, match="a model of gcl cannot be written as paco"):
        export_model(out, "legacy-paco")
    for target in ("tim", "legacy-ride-reslt"):
        with pytest.raises(UsageError, match=f"unknown target '{target}'"):
            export_model(out, target)
    with pytest.raises(UsageError, match="nested"):
        write_export(export_model(out, "legacy-gcl"), tmp_path / "x.safetensors")


def test_a_network_that_gives_nan_is_not_written(tmp_path: Path) -> None:
    tree = legacy.gcl(resnet(), 20).tree
    name = next(key for key in tree["state_dict"] if key.endswith("running_var"))
    tree["state_dict"][name][0] = float("nan")
    _, broken = convert_tree(tree, tmp_path, Request(allow_nonfinite=True))
    with pytest.raises(DataError, match="nan or infinity"):
        export_model(broken, "timm-features")
    with pytest.raises(UsageError, match="nan or infinity"):
        export_model(broken, "legacy-gcl")
