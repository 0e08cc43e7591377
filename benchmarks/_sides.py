"""The two sides of a training step: ltk's engine and the plain rendering, on the same images, network and batch."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks._pil import MEAN, STD, PilSet, create_pil_loader, create_transform
from benchmarks._plain import PLAIN
from ltk import draws
from ltk.config import RunConfig
from ltk.data.banks import MemoryBank
from ltk.data.base import ArraySplit
from ltk.data.image import ImageSpec
from ltk.data.loaders import Loader, StreamSource
from ltk.data.longtail import imbalance_counts
from ltk.data.samplers import create_sampler
from ltk.data.transforms import recipe_options
from ltk.engine.build import build_method
from ltk.engine.compiled import CompiledForward
from ltk.engine.device import choose_precision
from ltk.engine.meters import Meters
from ltk.engine.optim import create_optimizer, optimizer_tensors
from ltk.engine.runner import EagerRunner
from ltk.engine.step import TrainStep
from ltk.engine.streams import create_views
from ltk.models.backbones import create_backbone
from ltk.resolve import resolve_config

METHODS = tuple(PLAIN)
SIZE = 32
_SAME_VIEWS = {"autoaugment": "torchvision", "blur_p": 0.5}  # what the PIL recipes do
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Task:
    """What both sides train.

    Attributes:
        method: by name.
        width: of the ResNet-32.
        batch: images per step and stream; 0 takes the published number.
        depth: of the ResNet.
        classes: K.
        precision: of ltk's side.
        engine: of ltk's side, eager or compile.
        workers: processes of the plain side's loaders.
        overrides: of the configuration, for ltk's side.
    """

    method: str
    width: int = 16
    batch: int = 0
    depth: int = 32
    classes: int = 100
    precision: str = "auto"
    engine: str = "eager"
    workers: int = 0
    overrides: tuple[str, ...] = ()

    @property
    def config(self) -> RunConfig:
        """The published settings on CIFAR-100-LT, with this width and batch."""
        options = {"model.width": self.width, "model.backbone": f"cifar_resnet{self.depth}"}
        options |= {"optim.batch_size": self.batch} if self.batch else {}
        config = resolve_config(
            self.method, dataset="cifar100", imb=100, options=options, overrides=self.overrides
        ).config
        same = {name: value for name, value in _SAME_VIEWS.items() if name in _options_of(config)}
        return config.model_copy(update={"views": config.views.model_copy(update={"options": same})})

    @property
    def counts(self) -> np.ndarray:
        """Images of each class: those of CIFAR-100-LT at imbalance 100; of more classes, few each."""
        head = 500 if self.classes <= 100 else 5
        return imbalance_counts(head, self.classes, min(head, 100))

    @property
    def images(self) -> ArraySplit:
        """Smooth synthetic images."""
        labels_N = np.repeat(np.arange(self.classes), self.counts)
        coarse = torch.rand(256, 3, 8, 8, generator=torch.Generator().manual_seed(0))
        smooth = (F.interpolate(coarse, (SIZE, SIZE), mode="bicubic").clamp(0, 1) * 255).to(torch.uint8).numpy()
        return ArraySplit(smooth[np.arange(len(labels_N)) % len(smooth)], labels_N, "synthetic")


def _options_of(config: RunConfig) -> set[str]:
    return {name for recipe in config.views.recipes for name in recipe_options(recipe)}


class LtkSide:
    """ltk's steps, data included.

    Args:
        task: what is trained.
    """

    def __init__(self, task: Task) -> None:
        config, split = task.config, task.images
        image = ImageSpec(SIZE, SIZE, 3, MEAN, STD)
        self.method, _ = build_method(config, task.counts.tolist(), image)
        self.method = self.method.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        streams = {}
        for name, stream in self.method.streams.items():
            sampler_options: dict[str, Any] = dict(stream.options or {})
            sampler = create_sampler(stream.sampler, split.labels_N, **sampler_options)
            streams[name] = StreamSource(sampler, create_views(config, image, stream.views))
        self._loader = Loader(
            MemoryBank(split, SIZE, CPU), streams, config.optim.batch_size, drop_last=True, seed=config.run.seed
        )
        self._optimizer = create_optimizer(config.optim, self.method.parameters())
        precision = choose_precision(task.precision, CPU, SIZE)
        step = TrainStep(self.method, self._optimizer, precision=precision, device=CPU, clip=0)
        if task.engine == "compile":
            step.forward = CompiledForward(self.method, print)
        self._runner = EagerRunner(self._loader, step, Meters(), draws.make_key(0), epochs=config.optim.epochs)
        self._steps = self._run()

    def _run(self) -> Iterator[int]:
        for epoch in itertools.count():
            yield from self._runner.epoch(epoch, 0, epoch * self._loader.steps)

    def step(self) -> None:
        """Carry out one step."""
        next(self._steps)

    def held(self) -> Iterator[Tensor]:
        """Yield what lasts from step to step, the images aside."""
        return _held(self.method, self._optimizer)


class PlainSide:
    """The plain rendering's steps, data included.

    Args:
        task: what is trained.
        steps: in a round.
    """

    def __init__(self, task: Task, steps: int = 1) -> None:
        config, split, counts_K = task.config, task.images, torch.as_tensor(task.counts)
        torch.manual_seed(0)
        backbone = create_backbone(f"cifar_resnet{task.depth}", width=task.width)
        self.method = PLAIN[task.method](backbone, counts_K).train()
        pixels = split.read(range(len(split)), SIZE).permute(0, 2, 3, 1).contiguous().numpy()
        recipes, views = config.views.recipes, 2 if task.method in ("glmc", "paco", "gpaco") else 1
        transforms = [create_transform(recipes[min(i, len(recipes) - 1)]) for i in range(views)]
        images = PilSet(pixels, split.labels_N, transforms)
        weights: dict[str, np.ndarray | None] = {"main": None}
        if task.method == "glmc":
            weights["resampled"] = np.ones(len(split))
        common = {"batch": config.optim.batch_size, "steps": steps, "workers": task.workers}
        self._loaders = {name: create_pil_loader(images, each, **common) for name, each in weights.items()}
        optim = config.optim
        self._optimizer = torch.optim.SGD(
            self.method.parameters(),
            lr=optim.lr,
            momentum=optim.momentum,
            nesterov=optim.nesterov,
            weight_decay=optim.weight_decay,
        )
        self.losses: list[float] = []

    def round(self) -> None:
        """Carry out the steps of a round."""
        for parts in zip(*self._loaders.values(), strict=True):
            self._step({name: (views, target_B) for name, (views, target_B) in zip(self._loaders, parts, strict=True)})

    def held(self) -> Iterator[Tensor]:
        """Yield what lasts from step to step, the images aside."""
        return _held(self.method, self._optimizer)

    def _step(self, batches: dict[str, tuple[list[Tensor], Tensor]]) -> None:
        loss, logits_BK = self.method(batches)
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()
        self.losses.append(loss.item())
        top_B5 = logits_BK.topk(5, dim=1).indices
        right_B5 = top_B5 == batches["main"][1][:, None]
        self.accuracy = [right_B5[:, :k].float().sum().item() for k in (1, 5)]


def _held(method: nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[Tensor]:
    for module in method.modules():  # the plain side keeps some state as plain attributes
        yield from (value for value in vars(module).values() if isinstance(value, Tensor))
    yield from method.buffers()
    for parameter in method.parameters():
        yield parameter
        if parameter.grad is not None:
            yield parameter.grad
    yield from optimizer_tensors(optimizer).values()
