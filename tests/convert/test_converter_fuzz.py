"""Networks with tensors removed, renamed, reshaped: converted, or refused with a reason, never more."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor

import ltk.models.backbones  # noqa: F401  registers the CIFAR nets
from ltk.convert.convert import Request, convert_raw
from ltk.convert.reader import RawCheckpoint
from ltk.errors import DataError, UsageError
from tests.convert import legacy_models as legacy
from tests.convert.legacy_models import Tree, linear, prefixed, saved

MUTANTS = 250
SHAPES = [(), (0,), (7,), (64, 64), (0, 4), (1, 200_000), (3, 0, 3, 3), (1, 1, 1, 1), (2, 3, 4), (5, 5, 5, 5, 5)]
DTYPES = [torch.int8, torch.complex64, torch.float16, torch.bool]
NAMES = [
    "fc.weight", "linear.weight", "head.weight", "finalBlock.0.weight", "layer3s.0.0.conv1.weight", "queue",
    "encoder_q.conv1.weight", "BNH.weight", "layer1.99999999.conv1.weight", "layer3s.99999.0.conv1.weight",
]  # fmt: skip


class InMemory(RawCheckpoint):
    """A checkpoint that was never a file."""

    def __init__(self, content: Tree) -> None:
        super().__init__(Path("memory.pth"), "", 1, {"kind": "TorchZip", "warnings": [], "foreign": []})
        self.content = content

    def tree(self) -> Any:
        return self.content


def create_trees() -> list[Tree]:
    net = legacy.filled(timm.create_model("cifar_resnet8", num_classes=1))
    body = {name: value for name, value in net.state_dict().items() if not name.startswith("fc.")}
    head, norm = linear(64, 7).state_dict(), torch.nn.BatchNorm2d(64).state_dict()
    contrast = {"projection_head.0.": linear(64, 8), "contrast_head.0.": linear(8, 8)}
    glmc = body | prefixed("fc.", head) | prefixed("fc_cb.", head)
    for prefix, layer in contrast.items():
        glmc |= prefixed(prefix, layer.state_dict())
    mlp = torch.nn.Sequential(*(torch.nn.Linear(64, 64), torch.nn.BatchNorm1d(64), torch.nn.ReLU()), linear(64, 32))
    encoder = body | prefixed("fc.", mlp.state_dict())
    moco = {"queue": torch.zeros(64, 32), "queue_l": torch.zeros(64), "queue_ptr": torch.tensor([16])}
    moco |= prefixed("encoder_q.", encoder) | prefixed("encoder_k.", encoder) | prefixed("linear.", head)
    reslt = prefixed("model.", body) | prefixed("linear.", head)
    for name in ("BNH.", "BNM.", "BNT."):
        reslt |= prefixed(name, norm)
    parts = {"state_dict_best": {"feat_model": prefixed("module.", body), "classifier": prefixed("fc.", head)}}
    return [saved(body | {"linear.weight": torch.ones(64, 7)}), saved(glmc), saved(moco), reslt, parts]


def state_dicts(node: Any) -> Iterator[Tree]:
    if isinstance(node, dict):
        if any(isinstance(value, Tensor) for value in node.values()):
            yield node
        for value in node.values():
            yield from state_dicts(value)


def copied(node: Any) -> Any:
    return {key: copied(value) for key, value in node.items()} if isinstance(node, dict) else node


def mutate(rng: random.Random, tree: Tree) -> None:
    state = rng.choice(list(state_dicts(tree)))
    key = rng.choice(list(state))
    value = state[key] if isinstance(state[key], Tensor) else torch.zeros(1)
    deed = rng.randrange(7)
    if deed == 0:
        del state[key]
    elif deed == 1:
        state[key] = value.reshape(-1)
    elif deed == 2:
        state[key] = torch.zeros(rng.choice(SHAPES))
    elif deed == 3:
        state[key] = value.to(rng.choice(DTYPES))
    elif deed == 4:
        state[str(key).replace("layer1", rng.choice(["layer9", "layer1.77", "layer2", "conv3_x"]))] = value
    elif deed == 5:
        state[str(key).replace("0", rng.choice(["999999999", "1", "٣"]))] = state.pop(key)
    else:
        state[rng.choice(NAMES)] = torch.zeros(rng.choice(SHAPES))


def test_mutants_are_converted_or_refused() -> None:
    rng, trees = random.Random(0), create_trees()
    outcomes = {"converted": 0, "refused": 0}
    for _ in range(MUTANTS):
        tree = copied(rng.choice(trees))
        for _ in range(rng.choice([1, 1, 2, 3])):
            mutate(rng, tree)
        form = rng.choice([None, None, None, "glmc", "gcl", "paco", "reslt", "ride-reslt"])
        request = Request(form=form, allow_partial=rng.random() < 0.4, training_state=rng.random() < 0.4)
        try:
            convert_raw(InMemory(tree), request)
            outcomes["converted"] += 1
        except (DataError, UsageError):
            outcomes["refused"] += 1
    assert min(outcomes.values()) > MUTANTS // 10


def test_a_file_cannot_ask_for_a_network_much_larger_than_itself() -> None:
    tree = legacy.ride(7, 0.3).tree
    for e in range(3, 400):
        tree["state_dict"][f"module.backbone.layer3s.{e}.0.conv1.weight"] = torch.ones(1)
    with pytest.raises(DataError, match="numbers of a network of"):
        convert_raw(InMemory(tree), Request(allow_partial=True))
