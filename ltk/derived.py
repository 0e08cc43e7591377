"""What follows from a departure from a preset, unless the user says otherwise; imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from ltk.config import CIFAR, ModelSettings, OptimSettings, RunConfig

Derived = list[tuple[str, Any]]  # dotted keys and values


def derive_settings(before: RunConfig, given: Mapping[str, Any]) -> tuple[Derived, list[str]]:
    """Return the settings that follow from others, and notes on them.

    Args:
        before: the preset's.
        given: what the user asks for, by dotted key; it wins over what is derived.
    """
    scaled, notes = scale_schedule(before.optim, given)
    return [*scaled, *_leave_network(before.model, given), *_find_reference(before.optim, given)], notes


def scale_schedule(optim: OptimSettings, given: Mapping[str, Any]) -> tuple[Derived, list[str]]:
    """With another number of epochs, move milestones and warm-up in proportion, and say so.

    Milestones are rounded down, as the start of deferred re-weighting is, so that the two stay together.
    """
    schedule, epochs = optim.schedule, _read_epochs(optim, given)
    if epochs == optim.epochs:
        return [], []
    start = f"{epochs} instead of {optim.epochs} epochs"
    milestones = [max(milestone * epochs // optim.epochs, 1) for milestone in schedule.milestones]
    if epochs == 1:
        whole = {"milestones": milestones, "warmup_epochs": 0, "at_epoch_start": False}
        return _in_schedule(whole), [f"{start}: at the full learning rate"]
    if not (schedule.milestones or schedule.warmup_epochs):
        return [], []
    least = min(schedule.warmup_epochs, 2 if schedule.warmup_form == "inclusive" else 1)
    warmup = max(round(schedule.warmup_epochs * epochs / optim.epochs), least)
    moved = _in_schedule({"milestones": milestones, "warmup_epochs": warmup})
    return moved, [f"{start}: warm-up {warmup}, milestones {milestones or 'none'}"]


def _read_epochs(optim: OptimSettings, given: Mapping[str, Any]) -> int:
    """The number asked for, read as its setting reads it ("20", 2e1); one that is none is refused with the others."""
    try:
        return OptimSettings(epochs=given.get("optim.epochs", optim.epochs)).epochs
    except ValidationError:
        return optim.epochs


def _in_schedule(settings: Mapping[str, Any]) -> Derived:
    return [(f"optim.schedule.{name}", value) for name, value in settings.items()]


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
