"""Checkpoints as people have them on old drives, made on the spot: what the safe reader must read."""

from __future__ import annotations

import argparse
import collections
import datetime
import enum
import functools
import io
import pathlib
import pickle
import types
import typing
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.amp.grad_scaler import OptState
from torch.distributed.algorithms.join import _JoinConfig


def save(content: Any, **options: Any) -> bytes:
    """The bytes torch.save writes."""
    file = io.BytesIO()
    torch.save(content, file, **options)
    return file.getvalue()


def weights(**extra: Any) -> dict[str, Any]:
    """A small state dict and what else is given."""
    generator = torch.Generator().manual_seed(1)
    return {
        "conv1.weight": torch.randn(4, 3, 3, 3, generator=generator),
        "bn1.running_mean": torch.randn(4, generator=generator),
        "bn1.num_batches_tracked": torch.tensor(7),
        **extra,
    }


class Meter:
    """An object of somebody's own class."""

    def __init__(self) -> None:
        self.avg, self.history = 1.5, [1, 2]


class Settings(dict):  # type: ignore[type-arg]
    """A dictionary with attributes, like a yacs node."""

    def __init__(self, **options: Any) -> None:
        super().__init__(options)
        self.frozen = True


class Phase(enum.Enum):
    TRAIN = 1


def _optimizer() -> torch.optim.Optimizer:
    layer = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9)
    layer(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return optimizer


def _cuda_tagged(zipped: bool) -> bytes:
    """A file whose storages claim to live on a GPU."""
    data = save(weights(), _use_new_zipfile_serialization=zipped)
    if not zipped:
        return data.replace(b"X\x03\x00\x00\x00cpu", b"X\x06\x00\x00\x00cuda:3")
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(out, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name.endswith("data.pkl"):
                content = content.replace(b"X\x03\x00\x00\x00cpu", b"X\x06\x00\x00\x00cuda:3")
            target.writestr(name, content)
    return out.getvalue()


def rezipped(data: bytes, compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """The same archive, packed again by another program."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(out, "w", compression) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    return out.getvalue()


def _defaultdict() -> dict[str, Any]:
    log: dict[str, list[float]] = collections.defaultdict(list)
    log["acc"] += [0.1, 0.2]
    return weights(log=log, counts=collections.Counter("aab"), last=collections.deque([1, 2]))


def _views() -> dict[str, Any]:
    base = torch.arange(100_000.0)
    square = torch.randn(6, 5, generator=torch.Generator().manual_seed(2))
    return {
        "part": base[10:20],
        "strided": base[5:105:10],
        "transposed": square.t(),
        "channels_last": torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last),
        "empty": torch.empty(0, 3),
    }


def _tied() -> dict[str, Any]:
    weight = torch.randn(3, 2)
    return {"encoder.weight": weight, "decoder.weight": weight}


def _types() -> list[Any]:
    optional = typing.Optional[int]  # noqa: UP045  pickled otherwise than int | None
    return [typing.Any, optional, int | None, list[int] | None, list[int], type(None), ..., NotImplemented]


def _dtypes() -> dict[str, Any]:
    values = torch.tensor([1.0, -2.0, 0.5])
    kinds = [torch.float16, torch.bfloat16, torch.float64, torch.complex64, torch.float8_e4m3fn, torch.float8_e5m2]
    whole = [torch.int8, torch.int16, torch.int32, torch.uint8, torch.bool, torch.uint16]
    return {str(kind): values.to(kind) for kind in kinds} | {
        str(kind): torch.tensor([1, 0, 3]).to(kind) for kind in whole
    }


HONEST: dict[str, Callable[[], bytes]] = {
    "plain": lambda: save(weights()),
    "ordered": lambda: save(collections.OrderedDict(weights())),
    "before torch 1.6": lambda: save(weights(), _use_new_zipfile_serialization=False),
    "nested": lambda: save({"epoch": 3, "state_dict": weights(), "best_acc1": torch.tensor(12.5), "arch": "resnet32"}),
    "data parallel": lambda: save({f"module.{key}": value for key, value in weights().items()}),
    "protocol 4": lambda: save(weights(), pickle_protocol=4),
    "protocol 5": lambda: save(weights(), pickle_protocol=5),
    "protocol 5, before torch 1.6": lambda: save(weights(), pickle_protocol=5, _use_new_zipfile_serialization=False),
    "cuda": lambda: _cuda_tagged(zipped=True),
    "cuda, before torch 1.6": lambda: _cuda_tagged(zipped=False),
    "deflated": lambda: rezipped(save(weights())),
    "dtypes": lambda: save(_dtypes()),
    "views": lambda: save(_views()),
    "views, before torch 1.6": lambda: save(_views(), _use_new_zipfile_serialization=False),
    "tied": lambda: save(_tied()),
    "parameters": lambda: save({"w": nn.Parameter(torch.ones(2, 3)), "size": torch.Size([2, 3])}),
    "module": lambda: save({"state_dict": nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2))}),
    "module, before torch 1.6": lambda: save(nn.Linear(3, 2), _use_new_zipfile_serialization=False),
    "numpy scalars": lambda: save(weights(best=np.float64(0.25), epoch=np.int64(9), half=np.float32(0.5))),
    "numpy arrays": lambda: save(weights(a=np.arange(6.0).reshape(2, 3), f=np.asfortranarray(np.ones((2, 3), "f4")))),
    "numpy arrays, protocol 5": lambda: save(weights(a=np.arange(6.0).reshape(2, 3)), pickle_protocol=5),
    "large numpy arrays, before torch 1.6": lambda: save(
        weights(centroids=np.arange(400_000.0)), _use_new_zipfile_serialization=False
    ),
    "numpy generator": lambda: save(weights(rng=np.random.RandomState(0).get_state())),
    "namespace": lambda: save(weights(args=argparse.Namespace(lr=0.1, arch="resnet32"))),
    "settings node": lambda: save(weights(cfg=Settings(lr=0.1, node=Settings(depth=3)))),
    "defaultdict, counter": lambda: save(_defaultdict()),
    "own class": lambda: save(weights(meter=Meter())),
    "optimiser state": lambda: save(weights(optimizer=_optimizer().state_dict())),
    "whole optimiser": lambda: save(weights(optimizer=_optimizer())),
    "scheduler": lambda: save(weights(sched=torch.optim.lr_scheduler.MultiStepLR(_optimizer(), [2, 4]).state_dict())),
    "whole scheduler": lambda: save(weights(sched=torch.optim.lr_scheduler.StepLR(_optimizer(), 2))),
    "paths and dates": lambda: save(
        weights(path=pathlib.PurePosixPath("runs/a"), at=datetime.datetime(2021, 5, 4), phase=Phase.TRAIN)
    ),
    "partial": lambda: save(weights(loss=functools.partial(torch.nn.functional.cross_entropy, reduction="sum"))),
    "sets and odd values": lambda: save(
        weights(
            a={1, 2}, b=frozenset("x"), c=1 + 2j, d=b"raw", e=None, f=1 << 80, g=float("inf"), h=(1, (2,)), i=range(3)
        )
    ),
    "version of torch": lambda: save(weights(torch_version=torch.__version__)),
    "types": lambda: save(weights(a=_types())),
    "types, protocol 4": lambda: save(weights(a=_types()), pickle_protocol=4),
    "generators": lambda: save(
        weights(torch=torch.Generator(), numpy=np.random.default_rng(3), old=np.random.RandomState(1))
    ),
    "settings of DistributedDataParallel": lambda: save(weights(join=_JoinConfig(False, False, True))),
    "state of a scaler": lambda: save(weights(state=OptState.READY)),
    "simple namespace": lambda: save(weights(ns=types.SimpleNamespace(a=1))),
    "holds itself": lambda: save(weights(loop=_loop())),
}


def _loop() -> list[Any]:
    loop: list[Any] = [1]
    loop.append(loop)
    return loop


def python2(data: dict[str, np.ndarray[Any, Any]]) -> bytes:
    """A protocol-2 pickle of arrays, which spells bytes as text."""
    return pickle.dumps(data, protocol=2)
