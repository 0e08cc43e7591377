"""Networks in the official layouts with a forward pass of their own, written from torchvision's parts."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

Tree = dict[str, Any]
Forward = Callable[[Tensor], Tensor]
ONE_EACH = (1, 1, 1, 1)
RESIDUAL = {"conv1": 0, "bn1": 1, "conv2": 3, "bn2": 4, "conv3": 6, "bn3": 7}


@dataclass
class Legacy:
    """A checkpoint and what the official evaluation makes of it."""

    tree: Tree
    forward: Forward


def filled(module: nn.Module, seed: int = 0) -> nn.Module:
    """Small random weights and plausible batch statistics, in eval mode."""
    generator = torch.Generator().manual_seed(seed)
    for name, value in module.state_dict().items():
        if value.is_floating_point():
            noise = torch.randn(value.shape, generator=generator) * 0.05
            value.copy_(
                noise.abs() + 1 if name.endswith("running_var") else noise + ("bn" in name and "weight" in name)
            )
        else:
            value.fill_(9)
    return module.eval()


def resnet(
    bottleneck: bool = False, layers: Iterable[int] = (1, 1, 1, 1), small: bool = False, **options: Any
) -> ResNet:
    """A torchvision ResNet; ``small`` has the stem for 32x32 images."""
    net = ResNet(Bottleneck if bottleneck else BasicBlock, list(layers), num_classes=1, **options)
    if small:
        net.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        net.maxpool = nn.Identity()  # type: ignore[assignment]
    return filled(net)  # type: ignore[return-value]


def feature_map(net: ResNet, x: Tensor) -> Tensor:
    """The map after the last stage."""
    x = net.maxpool(F.relu(net.bn1(net.conv1(x))))
    return net.layer4(net.layer3(net.layer2(net.layer1(x))))


def pooled(net: ResNet, x: Tensor) -> Tensor:
    """Pooled features."""
    return feature_map(net, x).mean((2, 3))


def width(net: ResNet) -> int:
    """Channels of the pooled features."""
    return net.fc.in_features


def trunk(net: ResNet) -> Tree:
    """The state dict without the classifier."""
    return {name: value for name, value in net.state_dict().items() if not name.startswith("fc.")}


def linear(inputs: int, outputs: int, seed: int = 5) -> nn.Linear:
    """A linear layer with random weights."""
    return filled(nn.Linear(inputs, outputs), seed)  # type: ignore[return-value]


def prefixed(prefix: str, state: Any) -> Tree:
    """A state dict with a prefix on every name."""
    return {prefix + name: value for name, value in dict(state).items()}


def saved(state: Tree, **more: Any) -> Tree:
    """What most official scripts save."""
    return {
        "epoch": 200,
        "arch": "x",
        "state_dict": OrderedDict(prefixed("module.", state)),
        "best_acc1": torch.tensor(1.0),
    } | more


def glmc_name(name: str) -> str:
    """The name of a tensor in GLMC's ResNets with the CIFAR stem."""
    name = name.replace("downsample", "shortcut")
    name = re.sub(r"^conv1\.", "conv1.0.", name)
    name = re.sub(r"^bn1\.", "conv1.1.", name)
    name = re.sub(r"^layer(\d)", lambda match: f"conv{int(match[1]) + 1}_x", name)
    return re.sub(r"\.((?:conv|bn)[123])\.", lambda match: f".residual_function.{RESIDUAL[match[1]]}.", name)


def glmc(net: ResNet, classes: int, small: bool = True, embedding: int = 256) -> Legacy:
    """GLMC: two classifiers, projection and prediction."""
    fc, fc_cb = linear(width(net), classes), linear(width(net), classes, 6)
    projection, contrast = linear(width(net), embedding), linear(embedding, embedding)
    state = {glmc_name(name) if small else name: value for name, value in trunk(net).items()}
    heads = {"fc.": fc, "fc_cb.": fc_cb, "projection_head.0.": projection, "contrast_head.0.": contrast}
    for prefix, layer in heads.items():
        state |= prefixed(prefix, layer.state_dict())
    return Legacy(
        {"epoch": 1, "state_dict": prefixed("module.", state), "best_acc1": 50.0}, lambda x: fc_cb(pooled(net, x))
    )


def cosine(features: Tensor, weight_DK: Tensor) -> Tensor:
    """NormedLinear."""
    return F.normalize(features, dim=1) @ F.normalize(weight_DK, dim=0)


def gcl(net: ResNet, classes: int, with_bias: bool = False) -> Legacy:
    """GCL or LDAM-DRW: cosine classifier, or a linear one for cross-entropy."""
    if with_bias:
        layer = linear(width(net), classes)
        return Legacy(saved(trunk(net) | prefixed("linear.", layer.state_dict())), lambda x: layer(pooled(net, x)))
    weight = torch.randn(width(net), classes, generator=torch.Generator().manual_seed(3))
    return Legacy(saved(trunk(net) | {"linear.weight": weight}), lambda x: cosine(pooled(net, x), weight))


def places(block_key: str, classes: int, with_bias: bool = False) -> Legacy:
    """GCL on Places-LT: a trunk without its last block, that block, and a classifier, each in a dictionary."""
    net, layer = resnet(bottleneck=True, layers=(1, 1, 1, 2)), linear(2048, classes)
    weight = torch.randn(2048, classes, generator=torch.Generator().manual_seed(3))
    whole = trunk(net)
    body = {name: value for name, value in whole.items() if not name.startswith("layer4.1.")}
    block = {"layer5." + name.removeprefix("layer4.1."): value for name, value in whole.items() if name not in body}
    head = prefixed("fc.", layer.state_dict()) if with_bias else {"fc.weight": weight}
    tree = {"epoch": 90, "arch": "resnet152_fe", "best_acc1": torch.tensor(34.0), "optimizer": {"state": {}}}
    parts = {"model_state_dict": body, block_key: block, "classifier_state_dict": head}
    tree |= {key: prefixed("module.", part) for key, part in parts.items()}
    return Legacy(tree, lambda x: layer(pooled(net, x)) if with_bias else cosine(pooled(net, x), weight))


def moco(net: ResNet, classes: int, generalised: bool, rename: Callable[[str], str] = str) -> Legacy:
    """PaCo (two encoders, BatchNorm in the MLP) or GPaCo (one encoder, three layers)."""
    size, layer = width(net), linear(width(net), classes)
    hidden = [nn.Linear(size, size), nn.ReLU(), nn.Linear(size, size), nn.ReLU()]
    paco = [nn.Linear(size, size), nn.BatchNorm1d(size), nn.ReLU()]
    mlp = filled(nn.Sequential(*(hidden if generalised else paco), nn.Linear(size, 32)))
    encoder = {rename(name): value for name, value in trunk(net).items()} | prefixed("fc.", mlp.state_dict())
    queue = torch.randn(64, 32, generator=torch.Generator().manual_seed(8))
    state = {"queue": queue, "queue_l": torch.arange(64) % classes, "queue_ptr": torch.tensor([16])}
    state |= prefixed("encoder_q.", encoder) | prefixed("linear.", layer.state_dict())
    if not generalised:
        other = {name: value + 1 for name, value in encoder.items()}
        state |= prefixed("encoder_k.", other) | prefixed("linear_k.", layer.state_dict())
    return Legacy(saved(state), lambda x: layer(pooled(net, x)))


def reslt_head(features: Tensor, weight_KD: Tensor, gamma: float, branches: int) -> Tensor:
    """Sum of the branches' logits with scaled rows and without bias."""
    rows = weight_KD / weight_KD.norm(dim=1, keepdim=True) ** gamma
    parts = features.chunk(3, dim=1)[:branches]
    return torch.stack([part @ rows.t() for part in parts]).sum(0)


def reslt(classes: int, gamma: float, branches: int) -> Legacy:
    """ResLT on ImageNet-LT or iNaturalist: evaluation pools before the 1x1 block."""
    net = resnet()
    size = width(net)
    block = filled(nn.Sequential(nn.Conv2d(size, 3 * size, 1, bias=False), nn.BatchNorm2d(3 * size)))
    layer = linear(size, classes)
    state = trunk(net) | prefixed("finalBlock.", block.state_dict()) | prefixed("fc.", layer.state_dict())

    def forward(x: Tensor) -> Tensor:
        features = F.relu(block(feature_map(net, x).mean((2, 3), keepdim=True))).flatten(1)
        return reslt_head(features, layer.weight, gamma, branches)

    return Legacy(saved(state), forward)


def ride(classes: int, gamma: float, naming: str = "blocks.{e}.{i}") -> Legacy:
    """RIDE-ResLT: stem and two stages shared, the rest once per expert."""
    nets: list[Any] = [filled(resnet(), seed) for seed in (0, 1, 2)]
    size, shared = 512, nets[0]
    state = {name: value for name, value in trunk(shared).items() if not name.startswith(("layer3", "layer4"))}
    heads: list[tuple[ResNet, Any, nn.Linear]] = []
    for e, net in enumerate(nets):
        block: Any = filled(nn.Sequential(nn.Conv2d(size, 3 * size, 1, bias=False), nn.BatchNorm2d(3 * size)), e)
        layer = linear(size, classes, e)
        for stage in (3, 4):
            state |= prefixed(f"layer{stage}s.{e}.", net.get_submodule(f"layer{stage}").state_dict())
        for i in (0, 1):
            state |= prefixed(naming.format(e=e, i=i) + ".", block[i].state_dict())
        state |= prefixed(f"linears.{e}.", layer.state_dict())
        heads.append((net, block, layer))

    def forward(x: Tensor) -> Tensor:
        x = shared.layer2(shared.layer1(shared.maxpool(F.relu(shared.bn1(shared.conv1(x))))))
        logits = []
        for net, block, layer in heads:
            features = F.relu(block(net.layer4(net.layer3(x)).mean((2, 3), keepdim=True))).flatten(1)
            logits.append(reslt_head(features, layer.weight, gamma, 3))
        return torch.stack(logits).mean(0)

    return Legacy(saved(prefixed("backbone.", state)), forward)


def apart(net: ResNet, classes: int, wrap: Callable[[Tree, Tree], Tree]) -> Legacy:
    """Features and classifier in two dictionaries (BaGMar/GALA, classifier-balancing, MiSLAS)."""
    layer = linear(width(net), classes)
    body, head = prefixed("module.", trunk(net)), prefixed("module.fc.", layer.state_dict())
    return Legacy(wrap(body, head), lambda x: layer(pooled(net, x)))


def plain(net: ResNet, classes: int) -> Legacy:
    """A bare torchvision state dict."""
    layer = linear(width(net), classes)
    return Legacy(trunk(net) | prefixed("fc.", layer.state_dict()), lambda x: layer(pooled(net, x)))
