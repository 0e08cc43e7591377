"""What follows from a departure from a preset, unless the user says otherwise; imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ltk.config import CIFAR, ModelSettings, OptimSettings, RunConfig

Derived = list[tuple[str, Any]]  # dotted keys and values


def derive_settings(before: RunConfig, given: Mapping[str, Any]) -> tuple[Derived, list[str]]:
    """Return the settings that follow from others, and notes on them.

    Args:
        before: the preset's.
        given: what the user asks for, by dotted key; it wins over what is derived.
    """
    scaled, notes = _scale_schedule(before.optim, given.get("optim.epochs"))
    return [*scaled, *_leave_network(before.model, given), *_find_reference(before.optim, given)], notes


def _scale_schedule(optim: OptimSettings, epochs: Any) -> tuple[Derived, list[str]]:
    """With another number of epochs, move milestones and warm-up in proportion, and say so."""
    schedule = optim.schedule
    if not isinstance(epochs, int) or epochs < 1 or epochs == optim.epochs:
        return [], []
    start = f"{epochs} instead of {optim.epochs} epochs"
    if epochs == 1 and schedule.at_epoch_start and not schedule.warmup_epochs:
        note = f"{start}: at the full learning rate, not the schedule's last, which is 0"
        return [("optim.schedule.at_epoch_start", False)], [note]
    if not (schedule.milestones or schedule.warmup_epochs):
        return [], []
    ratio = epochs / optim.epochs
    milestones = [round(milestone * ratio) for milestone in schedule.milestones]
    least = min(schedule.warmup_epochs, 2 if schedule.warmup_form == "inclusive" else 1, epochs)
    warmup = max(round(schedule.warmup_epochs * ratio), least)
    moved = [("optim.schedule.milestones", milestones), ("optim.schedule.warmup_epochs", warmup)]
    return moved, [f"{start}: warm-up {warmup}, milestones {milestones or 'none'}"]


def _leave_network(model: ModelSettings, given: Mapping[str, Any]) -> Derived:
    """Width and options of the preset's network are not those of another one."""
    backbone = given.get("model.backbone", model.backbone)
    if backbone == model.backbone:
        return []
    width = None if not str(backbone).startswith(CIFAR) else model.width
    return [("model.width", width), ("model.options", {})]


def _find_reference(optim: OptimSettings, given: Mapping[str, Any]) -> Derived:
    """The batch size that the learning rate was chosen for: the preset's, where a rule is asked for without one."""
    rule = given.get("optim.lr_rule")
    if rule is None:
        return []
    return [("optim.reference_batch", (optim.reference_batch or optim.batch_size) if rule == "linear" else None)]
