"""What a run would take: parameters, steps, time and memory, from its first steps; nothing is written."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ltk.config import RunConfig
from ltk.data.banks import fits_in_memory
from ltk.data.base import IntArray, Split, count_of
from ltk.data.catalogue import FACTS, Facts, train_counts
from ltk.data.image import ImageSpec
from ltk.data.loaders import count_steps
from ltk.data.longtail import imbalance_counts
from ltk.engine.build import build_method, plan_data, resolve_machine
from ltk.engine.parallel import check_batch_size
from ltk.engine.rehearsal import SECONDS, Rehearsal, rehearse
from ltk.engine.streams import create_streams
from ltk.errors import DataError
from ltk.methods.base import Method
from ltk.models.backbones import count_parameters


@dataclass(frozen=True)
class _Subject:
    """What is estimated.

    Attributes:
        config: resolved for this machine.
        counts_K: training images per class.
        image: size and normalisation.
        evaluated: images of an evaluation.
        split: the training images; None where they are not on this machine.
        notes: what the user should know about them.
    """

    config: RunConfig
    counts_K: IntArray
    image: ImageSpec
    evaluated: int
    split: Split | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Estimate:
    """What a run would take.

    Attributes:
        figures: by name, ready to print.
        notes: what the run would say of its images, one line each.
    """

    figures: dict[str, Any]
    notes: tuple[str, ...]


def estimate(config: RunConfig, devices: int = 1, seconds: float = SECONDS) -> Estimate:
    """Estimate a run from its images and its first steps.

    Images that are on this machine are read for the measurement. For a data set that ltk knows and does not find, the
    published class counts are enough, with images made up; other data must be there.

    Args:
        config: of the run.
        devices: that share each batch; what is measured is the part of one.
        seconds: about how long to measure.

    Raises:
        DataError: images of the user's own are missing.
        UsageError: the options do not fit the data, or the batch cannot be shared out.
    """
    check_batch_size(config.optim.batch_size, devices)
    subject = _describe(config)
    config, image, optim = subject.config, subject.image, subject.config.optim
    config = config.model_copy(update={"model": config.model.model_copy(update={"pretrained": False})})
    method, _ = build_method(config, subject.counts_K.tolist(), image)
    method.check_batch_size(optim.batch_size)
    images = int(subject.counts_K.sum())
    labels_N = np.repeat(np.arange(len(subject.counts_K)), subject.counts_K)
    first = next(iter(create_streams(config, method, image, labels_N).values()))
    steps = count_steps(first.sampler.length, optim.batch_size, drop_last=optim.drop_last, world=devices)
    views = sum(stream.views for stream in method.streams.values())
    figures = {
        "training images": f"{images:,}",
        "classes": len(subject.counts_K),
        "largest / smallest class": f"{subject.counts_K.max()} / {subject.counts_K.min()}",
        "parameters": f"{count_parameters(method) / 1e6:.2f} M",
        "learning rate": optim.describe_rate(),
        "steps": f"{optim.epochs} epochs x {steps} = {optim.epochs * steps:,}",
        "views per step": f"{views} x {optim.batch_size}" + (f", over {devices} devices" if devices > 1 else ""),
        "images in memory": "none: crops are cut out of the files (data.full_resolution)"
        if first.cuts
        else _format_bytes(images * image.channels * image.stored**2),
    }
    figures |= _measure(subject, method, devices, steps, seconds, is_cut_whole=bool(first.cuts))
    return Estimate(figures, subject.notes)


def _describe(config: RunConfig) -> _Subject:
    facts = FACTS.get(config.data.dataset)
    try:
        plan = plan_data(config)
    except DataError:
        if facts is None or facts.built_in:
            raise
        return _imagine(config, facts)
    counts_K = np.array(plan.manifest.counts, dtype=np.int64)
    evaluated = len(plan.splits[plan.selection])
    return _Subject(plan.config, counts_K, plan.image, evaluated, plan.splits["train"], plan.notes)


def _imagine(config: RunConfig, facts: Facts) -> _Subject:
    """A data set that is not here, from what is published about it."""
    data = config.data
    size = data.image_size or facts.native_size
    stored = round(facts.stored_size * size / facts.native_size)
    image = ImageSpec(size, stored, len(facts.mean), data.mean or facts.mean, data.std or facts.std)
    counts_K = train_counts(data.dataset)
    if data.imb is not None:
        counts_K = imbalance_counts(data.head or int(counts_K.min()), facts.num_classes, data.imb, data.imb_type)
    evaluated = facts.images.get("val", facts.images["test"])
    return _Subject(resolve_machine(config, image), counts_K, image, evaluated)


def _measure(
    subject: _Subject, method: Method, devices: int, steps: int, seconds: float, *, is_cut_whole: bool
) -> dict[str, Any]:
    config, image, optim = subject.config, subject.image, subject.config.optim
    share, device = optim.batch_size // devices, torch.device(config.run.device)
    copies = devices if device.type == "cpu" else 1  # of the images, in the memory of one machine
    labels_N = np.repeat(np.arange(len(subject.counts_K)), subject.counts_K)
    if subject.split:
        labels_N = subject.split.labels_N
    if not any(parameter.requires_grad for parameter in method.parameters()):
        return {}
    found = rehearse(config, method, image, labels_N, share=share, split=subject.split, seconds=seconds)
    training, evaluation = steps * found.step_seconds, found.eval_seconds * subject.evaluated
    fits = fits_in_memory(copies * len(labels_N), image.stored, image.channels, device)
    reading, once = 0.0, fits and not is_cut_whole
    if found.images_read:
        reading = len(labels_N) * len(method.streams) / found.images_read
    epoch = max(training, 0.0 if once else reading) + evaluation / config.run.eval_every
    return {
        "measured": _describe_measurement(found, subject, share),
        "memory of training": _format_bytes(found.memory),
        "time per step": f"{_format_time(found.step_seconds)}, {_format_rate(share / found.step_seconds)}",
        "reading": _describe_reading(found, reading, once, training, is_cut_whole),
        "time per epoch": f"{_format_time(training)}, evaluation {_format_time(evaluation)}",
        "time of the run": _format_time(optim.epochs * epoch + (reading if once else 0)),
    }


def _describe_measurement(found: Rehearsal, subject: _Subject, share: int) -> str:
    run = subject.config.run
    scaled = f" (scaled to {share})" if found.images < share else ""
    threads = f", {count_of(run.threads, 'thread')}" if run.device == "cpu" else ""
    made_up = "" if subject.split else ", made up in the right shape: the data set is not here"
    steps = f"{count_of(found.steps, 'step')} of {found.images} images{scaled}"
    return f"{steps} on {run.device}, {run.precision}{threads}{made_up}"


def _describe_reading(found: Rehearsal, seconds: float, once: bool, training: float, is_cut_whole: bool) -> str:
    if found.images_read is None:
        return "not measured: there are no images"
    rate = _format_rate(found.images_read)
    if once:
        return f"{rate}, once: {_format_time(seconds)}"
    each_epoch = f"{rate}, {_format_time(seconds)} per epoch"
    if seconds <= training:
        return f"{each_epoch}, while training"
    setting = " and data.full_resolution=false" if is_cut_whole else ""
    return f"{each_epoch}, slower than training (faster: ltk data pack{setting})"


def _format_bytes(size: float) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def _format_rate(rate: float) -> str:
    return f"{rate:,.0f} images/s" if rate >= 10 else f"{rate:.2g} images/s"


def _format_time(seconds: float) -> str:
    if seconds < 1:
        return f"{1e3 * seconds:.3g} ms"
    if seconds < 60:
        return f"{seconds:.2g} s"
    minutes = math.ceil(seconds / 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    return (f"{days} d " if days else "") + (f"{hours} h " if hours or days else "") + f"{minutes} min"
