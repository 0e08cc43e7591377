"""Learning-rate factors as pure functions of the epoch; the engine sets them before each epoch.

Each published recipe is a choice of arguments (a golden test compares all of them with the official numbers):

================  ==========================================================================================
GLMC CIFAR        cosine
GLMC large        glmc-large, warm-up 10: one epoch at the full rate, a warm-up that passes 1 by a tenth, then cosine
LDAM, GCL         multistep, warm-up 5, factors .01/.0001 and .1/.01
cRT, MaxNorm      cosine, at_epoch_start
PaCo CIFAR        multistep, warm-up 10 "overshoot"
PaCo, ResLT large cosine with warm-up
ResLT CIFAR       multistep, warm-up 5 from 1/3
BaGMar            cosine, warm-up "inclusive" from 1/2, at_epoch_start
================  ==========================================================================================
"""

from __future__ import annotations

import math

from ltk.config import ScheduleSettings

_HIGHEST = 1.1  # factor of a warm-up that climbs past 1: one step of a tenth, as published


def lr_factor(schedule: ScheduleSettings, epoch: int, epochs: int) -> float:
    """Return what the base learning rate is multiplied with in an epoch.

    Args:
        schedule: kind, warm-up and milestones. The warm-up forms: "reach" climbs W equal steps and reaches 1 in epoch
            W - 1; "overshoot" takes one more such step, to 1 + 1/W but no higher than the 1.1 of the official W = 10;
            "inclusive" begins at ``warmup_start`` itself and reaches 1 in epoch W - 1.
        epoch: counted from 0.
        epochs: how many there are.
    """
    warmup = schedule.warmup_epochs
    if schedule.kind == "glmc-large":
        return _glmc_large(epoch, epochs, warmup)
    if warmup and epoch < warmup + (schedule.warmup_form == "overshoot"):
        return _warmup(epoch, warmup, schedule.warmup_start, schedule.warmup_form)
    if schedule.kind == "constant":
        return 1.0
    if schedule.kind == "multistep":
        passed = [f for milestone, f in zip(schedule.milestones, schedule.factors, strict=True) if epoch >= milestone]
        return passed[-1] if passed else 1.0
    return _cosine(epoch, epochs, warmup, schedule.at_epoch_start)


def _warmup(epoch: int, warmup_epochs: int, start: float, form: str) -> float:
    if form == "inclusive":
        return start + (1 - start) * epoch / max(warmup_epochs - 1, 1)
    return min(start + (1 - start) * (epoch + 1) / warmup_epochs, _HIGHEST)


def _cosine(epoch: int, epochs: int, warmup_epochs: int, at_epoch_start: bool) -> float:
    if at_epoch_start:
        place = (epoch + 1 - warmup_epochs) / (epochs - warmup_epochs)
    elif warmup_epochs:
        place = (epoch - warmup_epochs + 1) / (epochs - warmup_epochs + 1)
    else:
        place = epoch / epochs
    return 0.5 * (1 + math.cos(math.pi * place))


def _glmc_large(epoch: int, epochs: int, warmup_epochs: int) -> float:
    """GLMC on ImageNet-LT and iNaturalist: the value computed for the epoch before, so epoch 0 has the full rate."""
    if epoch == 0:
        return 1.0
    before = epoch - 1
    if warmup_epochs and before <= warmup_epochs:
        return min((before + 1) / warmup_epochs, _HIGHEST)
    return 0.5 * (1 + math.cos(math.pi * (before - warmup_epochs + 1) / (epochs - warmup_epochs + 1)))
