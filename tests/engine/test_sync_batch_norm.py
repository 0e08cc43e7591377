"""Batch statistics over all devices: another way to take them, and nothing else."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ltk import distributed
from ltk.config import RunSettings
from ltk.engine.parallel import synchronise_batch_norm
from ltk.errors import UsageError
from ltk.methods import create_method
from ltk.methods.base import Method
from ltk.models.backbones import create_backbone


@pytest.fixture(autouse=True)
def _two_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "world_size", lambda: 2)


def create(backbone: str, method: str = "ce") -> Method:
    torch.manual_seed(0)
    net = create_backbone(backbone, pretrained=False, in_chans=3, image_size=32)
    return create_method(method, net, torch.tensor([5, 3, 2])).eval()


@pytest.mark.parametrize("method", ["ce", "reslt", "gpaco"])
@pytest.mark.parametrize("backbone", ["mobilenetv3_small_050", "regnetx_002", "resnetv2_50", "resnet10t"])
def test_a_network_computes_what_it_did(backbone: str, method: str) -> None:
    """Many networks of timm hold their activations inside their BatchNorm."""
    network = create(backbone, method)
    norms = [name for name, part in network.named_modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    x_BCHW = torch.randn(2, 3, 32, 32)
    before, state = network.predict(x_BCHW).detach(), dict(network.state_dict())
    converted = synchronise_batch_norm(network, RunSettings(device="cuda", sync_bn=True))
    assert [name for name, part in converted.named_modules() if isinstance(part, nn.SyncBatchNorm)] == norms
    assert torch.equal(converted.predict(x_BCHW), before)
    after = converted.state_dict()
    assert after.keys() == state.keys()
    assert all(after[name].data_ptr() == value.data_ptr() for name, value in state.items())


def test_only_where_it_is_asked_for_and_can_be_had() -> None:
    network = create("resnet10t")
    assert synchronise_batch_norm(network, RunSettings(device="cuda")) is network
    with pytest.raises(UsageError, match="CUDA"):
        synchronise_batch_norm(network, RunSettings(device="cpu", sync_bn=True))
    assert not any(isinstance(part, nn.SyncBatchNorm) for part in network.modules())
