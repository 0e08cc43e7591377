"""What a run would take: parameters, steps, memory; without its data."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ltk.config import RunConfig
from ltk.data.catalogue import FACTS, train_counts
from ltk.data.image import ImageSpec
from ltk.data.splits import imbalance_counts
from ltk.engine.build import build_method, plan_data
from ltk.engine.device import choose_precision
from ltk.methods.base import Method
from ltk.models.backbones import count_parameters

_PROBE_BATCH = 2


def estimate(config: RunConfig) -> dict[str, Any]:
    """Return figures of a run, by name, ready to print.

    For the data sets ltk knows, the published class counts are enough; other data is opened.
    """
    counts_K, image = _counts_and_image(config)
    config = config.model_copy(update={"model": config.model.model_copy(update={"pretrained": False})})
    method, _ = build_method(config, counts_K.tolist(), image)
    optim = config.optim
    images = int(counts_K.sum())
    steps = images // optim.batch_size if optim.drop_last else -(-images // optim.batch_size)
    views = sum(stream.views for stream in method.streams.values())
    precision = choose_precision(config.run.precision, torch.device("cpu"), image.size)
    figures = {
        "training images": f"{images:,}",
        "classes": len(counts_K),
        "largest / smallest class": f"{counts_K.max()} / {counts_K.min()}",
        "parameters": f"{count_parameters(method) / 1e6:.2f} M",
        "steps": f"{optim.epochs} epochs x {steps} = {optim.epochs * steps:,}",
        "views per step": f"{views} x {optim.batch_size}",
        "estimated memory": _format_bytes(_training_bytes(method, image, optim.batch_size, precision)),
        "images in memory": _format_bytes(images * image.channels * image.stored**2),
    }
    return figures


def _counts_and_image(config: RunConfig) -> tuple[np.ndarray, ImageSpec]:
    facts = FACTS.get(config.data.dataset)
    if facts is None or facts.built_in:
        plan = plan_data(config)
        return np.array(plan.manifest.counts), plan.image
    data = config.data
    size = data.image_size or facts.native_size
    stored = round(facts.stored_size * size / facts.native_size)
    image = ImageSpec(size, stored, len(facts.mean), data.mean or facts.mean, data.std or facts.std)
    counts_K = train_counts(data.dataset)
    if data.imb is None:
        return counts_K, image
    return imbalance_counts(data.head or int(counts_K.min()), facts.num_classes, data.imb, data.imb_type), image


def _training_bytes(method: Method, image: ImageSpec, batch_size: int, precision: str) -> int:
    """Parameters, gradients and momentum, and what autograd keeps of one batch of all views."""
    kept = 0

    def count(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal kept
        kept += tensor.numel() * tensor.element_size()
        return tensor

    probe = torch.zeros(_PROBE_BATCH, image.channels, image.size, image.size)
    method.train()
    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        method.features(probe)
    passes = sum(stream.views for stream in method.streams.values()) / len(method.streams)
    activations = kept * passes * batch_size / _PROBE_BATCH * (1 if precision == "fp32" else 0.5)
    return int(12 * count_parameters(method) + activations)


def _format_bytes(size: float) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
