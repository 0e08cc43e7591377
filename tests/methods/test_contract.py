"""Every method on every kind of backbone: a finite step that changes what is learnt, and a state that round-trips."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from ltk.config import OptimSettings
from ltk.draws import fold, make_key
from ltk.engine.optim import create_optimizer
from ltk.engine.step import TrainStep
from ltk.methods import METHODS, create_method
from ltk.methods.base import Method
from ltk.models.backbones import Backbone, create_backbone
from ltk.types import Batch, Progress

SIZE, CLASSES, IMAGES = 32, 5, 8
COUNTS = torch.tensor([40, 20, 10, 5, 2])
# Residual branches at full strength: at the start of some of timm's, at zero, nothing behind them would learn yet.
BACKBONES: dict[str, dict[str, Any]] = {
    "cifar_resnet8": {"width": 4},
    "resnet18": {"layers": [1, 1, 1, 1], "channels": [8, 8, 16, 16], "zero_init_last": False},
    "convnext_atto": {"depths": [1, 1, 1, 1], "dims": [8, 8, 16, 16], "ls_init_value": 1.0},
    "vit_tiny_patch16_224": {"embed_dim": 16, "depth": 1, "num_heads": 2, "patch_size": 8},
}
OPTIONS: dict[str, dict[str, Any]] = {
    "paco": {"queue_size": 16, "embedding": 8},
    "gpaco": {"queue_size": 16, "embedding": 8},
    "glmc": {"embedding": 8},
}


# What a method leaves out of a network: ResLT pools the map itself, before the norm of ConvNeXt's head.
UNUSED = {("reslt", "convnext_atto"): {"backbone.net.head.norm.weight", "backbone.net.head.norm.bias"}}


def build(method: str, backbone: str) -> Method:
    torch.manual_seed(0)
    net: Backbone = create_backbone(backbone, image_size=SIZE, **BACKBONES[backbone])
    return create_method(method, net, COUNTS, **OPTIONS.get(method, {}))


def run_step(method: Method) -> torch.Tensor:
    optimizer = create_optimizer(OptimSettings(lr=0.5, weight_decay=0), method.parameters())
    step = TrainStep(method.train(), optimizer, precision="fp32", device=torch.device("cpu"), clip=0)
    batches = {}
    for i, (name, stream) in enumerate(method.streams.items()):
        index = torch.arange(IMAGES)
        generator = torch.Generator().manual_seed(i)
        views = tuple(torch.randn(IMAGES, 3, SIZE, SIZE, generator=generator) for _ in range(stream.views))
        batches[name] = Batch(views, index % CLASSES, index, fold(make_key(i), index))
    return step(batches, Progress(torch.tensor(1.0), 4, make_key(0)), 0).loss.detach()


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("method", METHODS)
def test_one_step(method: str, backbone: str) -> None:
    net = build(method, backbone)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    loss = run_step(net)
    assert torch.isfinite(loss)
    learnt = {name for name, parameter in net.named_parameters() if parameter.requires_grad}
    moved = {name for name in learnt if not torch.equal(before[name], net.state_dict()[name])}
    assert learnt - moved == UNUSED.get((method, backbone), set())
    logits = net.eval().predict(torch.randn(3, 3, SIZE, SIZE))
    assert logits.shape == (3, CLASSES)
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize("method", METHODS)
def test_the_exported_state_predicts_the_same(method: str) -> None:
    net = build(method, "cifar_resnet8")
    run_step(net)
    twin = build(method, "cifar_resnet8")
    exported = net.inference_state()
    missing, unexpected = twin.load_state_dict(exported, strict=False)
    assert unexpected == []
    assert all(name.startswith(twin.training_only) for name in missing)
    x = torch.randn(3, 3, SIZE, SIZE)
    assert torch.equal(net.eval().predict(x), twin.eval().predict(x))
    full = build(method, "cifar_resnet8")
    full.load_state_dict(net.state_dict())
    assert all(torch.equal(value, full.state_dict()[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize("method", METHODS)
def test_one_step_in_half_precision_stays_close(method: str) -> None:
    """Losses are computed in full precision under bf16 autocast."""
    full = run_step(build(method, "resnet18"))
    net = build(method, "resnet18")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = run_step(net)
    assert half.dtype == torch.float32
    assert float(half) == pytest.approx(float(full), rel=0.03, abs=0.03)
