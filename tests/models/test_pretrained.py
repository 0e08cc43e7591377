from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from ltk.engine.fit import fit
from ltk.errors import DataError
from ltk.models.backbones import create_backbone
from ltk.resolve import resolve_config

OPTIONS = {"optim.epochs": 1, "run.device": "cpu", "model.width": 2}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that ltk trained: cifar_resnet8, 2 wide."""
    out = tmp_path_factory.mktemp("pretrained") / "run"
    fit(resolve_config("ce", dataset="digits", options=OPTIONS).config, out=out)
    return out / "model.safetensors"


def test_the_backbone_of_a_model_file_is_taken(model: Path) -> None:
    from ltk.checkpoint import load_model

    expected = load_model(model).backbone.state_dict()
    found = create_backbone("cifar_resnet8", pretrained=model, width=2, in_chans=1).state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_a_state_dict_is_taken_without_its_classifier(tmp_path: Path, suffix: str) -> None:
    net = timm.create_model("cifar_resnet8", width=2, num_classes=7)
    tensors = {name: value for name, value in net.state_dict().items() if "num_batches" not in name}
    path = tmp_path / f"net.{suffix}"
    save_file(tensors, path) if suffix == "safetensors" else torch.save({"state_dict": tensors}, path)
    found = create_backbone("cifar_resnet8", pretrained=path, width=2)
    assert torch.equal(found.state_dict()["net.conv1.weight"], tensors["conv1.weight"])


def test_timm_reads_its_own_files(tmp_path: Path) -> None:
    net = timm.create_model("resnet10t", num_classes=5)
    save_file(net.state_dict(), tmp_path / "net.safetensors")
    found = create_backbone("resnet10t", pretrained=tmp_path / "net.safetensors")
    assert torch.equal(found.state_dict()["net.layer1.0.conv1.weight"], net.state_dict()["layer1.0.conv1.weight"])


def test_another_network_is_refused_with_its_shapes(model: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"35 of 42 tensors do not fit: conv1\.weight is \(2, 1, 3, 3\), not"):
        create_backbone("cifar_resnet8", pretrained=model, width=4, in_chans=1)
    with pytest.raises(DataError, match=r"layer1\.1\.conv1\.weight is missing"):
        create_backbone("cifar_resnet14", pretrained=model, width=2, in_chans=1)
    (tmp_path / "x.pth").write_bytes(b"no weights")
    with pytest.raises(DataError, match=r"cannot read the weights .*x\.pth"):
        create_backbone("cifar_resnet8", pretrained=tmp_path / "x.pth")
    with pytest.raises(DataError, match="no weight file"):
        create_backbone("cifar_resnet8", pretrained=tmp_path / "absent")
