"""From what the user asks for to a configuration: preset, derived defaults, overrides; imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ltk.config import CIFAR, ModelSettings, RunConfig
from ltk.config_text import create_config, parse_override, read_toml, with_overrides
from ltk.data.catalogue import FACTS
from ltk.data.limits import check_imbalance, parse_groups
from ltk.data.sources import SOURCES
from ltk.errors import UsageError, unknown_name
from ltk.methods import METHODS, is_outside
from ltk.presets import Choice, choose_preset, list_presets, list_second_stages
from ltk.settings import find_differences

_OF_THE_DATA = ("root", "imb", "groups", "image_size", "mean", "std", "source", "head")


@dataclass(frozen=True)
class Resolved:
    """A configuration and how it came about.

    Attributes:
        config: checked.
        notes: what it was derived from, one line each.
        departures: keys that differ from the preset: (key, preset's value, value).
    """

    config: RunConfig
    notes: list[str] = field(default_factory=list)
    departures: list[tuple[str, Any, Any]] = field(default_factory=list)

    def describe_rate(self) -> list[str]:
        """Say what another batch size does to the learning rate; nothing where both are the preset's."""
        optim = self.config.optim
        before = {key: old for key, old, _ in self.departures}.get("optim.batch_size", optim.batch_size)
        if optim.lr_rule == "linear":
            return [f"learning rate {optim.describe_rate()}"]
        if before == optim.batch_size:
            return []
        return [
            f"learning rate {optim.lr:g} stays, the preset's is for batches of {before} (lr_rule none;"
            f" --lr-rule linear: {optim.lr * optim.batch_size / before:g})"
        ]


def resolve_config(
    what: str,
    *,
    dataset: str | None = None,
    root: Path | None = None,
    imb: float | None = None,
    options: Mapping[str, Any] | None = None,
    overrides: Iterable[str] = (),
) -> Resolved:
    """Find the preset of a method and apply what the user asks for.

    Precedence: preset < named options < ``overrides``.

    Args:
        what: a method ("glmc"), a preset ("glmc/cifar100-imb100") or a TOML file.
        dataset: a data set, or a folder of images.
        root: where the images are.
        imb: imbalance factor to cut to.
        options: dotted keys from named options; None values are left out.
        overrides: texts ``section.key=value``.

    Raises:
        UsageError: unknown names or keys, values out of range.
    """
    if imb is not None:
        check_imbalance(imb)
    dataset, root = name_source(dataset, root)
    tree, notes = _start(what, dataset, root, imb)
    given = {"data.dataset": dataset, "data.root": root, "data.imb": imb, **(options or {})}
    return apply_options(tree, given, overrides, notes)


def name_source(dataset: str | None, root: Path | None) -> tuple[str | None, Path | None]:
    """Return the data set and the root of what the user calls a data set, which may be a folder.

    Raises:
        UsageError: neither.
    """
    if dataset is None or dataset in SOURCES:
        return dataset, root
    if not Path(dataset).is_dir():
        raise unknown_name("data set", dataset, SOURCES)
    return "folder", root or Path(dataset)


def apply_options(
    tree: Mapping[str, Any], options: Mapping[str, Any], overrides: Iterable[str], notes: Iterable[str] = ()
) -> Resolved:
    """Put what the user asks for over the sections of a preset.

    Args:
        tree: sections and values.
        options: dotted keys from named options; None values are left out.
        overrides: texts ``section.key=value``.
        notes: where the sections come from.

    Raises:
        UsageError: unknown keys, values out of range.
    """
    before = create_config(tree)
    named = [(key, value) for key, value in options.items() if value is not None]
    notes = [*notes, *_scale_schedule(before, dict(named), named)]
    settings = [*named, *(parse_override(text) for text in overrides)]
    settings = [*_leave_network(before.model, dict(settings)), *settings]
    config = create_config(with_overrides(tree, [*settings, *_find_reference(before, dict(settings))]), "options")
    if config.data.groups != "auto":
        parse_groups(config.data.groups)
    return Resolved(config, notes, find_differences(before, config))


def _find_reference(before: RunConfig, given: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The batch size that the learning rate was chosen for: the preset's, where a rule is asked for without one."""
    rule, key = given.get("optim.lr_rule"), "optim.reference_batch"
    if rule is None or key in given:
        return []
    optim = before.optim
    return [(key, (optim.reference_batch or optim.batch_size) if rule == "linear" else None)]


def _leave_network(before: ModelSettings, given: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Width and options of the preset's network are not those of another one."""
    backbone = given.get("model.backbone", before.backbone)
    if backbone == before.backbone:
        return []
    width = None if not str(backbone).startswith(CIFAR) else before.width
    return [("model.width", width), ("model.options", {})]


def _start(what: str, dataset: str | None, root: Path | None, imb: float | None) -> tuple[dict[str, Any], list[str]]:
    """Return the sections to begin with, and notes on where they come from."""
    if what.endswith(".toml"):
        tree = read_toml(Path(what))
        create_config(tree, what)  # a fault of the file is told with its name
        return tree, []
    presets = list_presets()
    for preset in presets:
        if preset.name == what:
            return _adapt(Choice(preset, True), dataset or preset.dataset, imb), []
    if is_outside(what):
        return _start_outside(what, dataset, root, imb)
    recipes = {preset.recipe for preset in presets}
    if what not in recipes and (what in METHODS or what in list_second_stages()):
        recipe = what if what in list_second_stages() else "crt"
        raise UsageError(
            f"{what} is a second stage: it trains a classifier on the features of a finished run",
            f"Use: ltk finetune-classifier RUN --method {recipe}",
        )
    if what not in recipes:
        raise unknown_name("method or preset", what, [*recipes, *(preset.name for preset in presets)])
    size = FACTS[dataset].native_size if dataset in FACTS else _guess_size(dataset, root)
    choice = choose_preset(what, dataset or "digits", imb, size)
    return _adapt(choice, dataset or "digits", imb), [choice.note] if choice.note else []


def _start_outside(
    what: str, dataset: str | None, root: Path | None, imb: float | None
) -> tuple[dict[str, Any], list[str]]:
    """A method outside ltk has no preset: all but the method itself is taken from cross-entropy's."""
    tree, notes = _start("ce", dataset, root, imb)
    note = f"{what} has no preset: data, views, network and schedule are those of {tree['preset']}"
    return tree | {"method": {"name": what}}, [*notes, note]


def _guess_size(dataset: str | None, root: Path | None) -> int | None:
    if dataset != "folder" or root is None:
        return None
    from ltk.data.sources import open_source

    return open_source("folder", root=root).native_size


def _adapt(choice: Choice, dataset: str, imb: float | None) -> dict[str, Any]:
    """Take from a preset what suits another data set or imbalance."""
    tree = choice.preset.read()
    data = dict(tree.get("data", {}))
    if dataset != data.get("dataset"):
        data = {key: value for key, value in data.items() if key not in _OF_THE_DATA} | {"dataset": dataset}
        method = tree.get("method", {})
        if method.get("group_by") == "rank":  # limits are class ranks of the preset's own data set
            tree["method"] = {key: value for key, value in method.items() if key not in ("group_by", "medium", "tail")}
        if dataset in FACTS and FACTS[dataset].imb and imb is None:
            data["imb"] = FACTS[dataset].imb
    return {**tree, "preset": choice.preset.name, "data": data}


def _scale_schedule(before: RunConfig, given: Mapping[str, Any], named: list[tuple[str, Any]]) -> list[str]:
    """With another number of epochs, move milestones and warm-up in proportion, and say so."""
    epochs, optim = given.get("optim.epochs"), before.optim
    schedule = optim.schedule
    if not epochs or epochs == optim.epochs:
        return []
    if epochs == 1 and schedule.at_epoch_start and not schedule.warmup_epochs:
        named.append(("optim.schedule.at_epoch_start", False))
        return [f"1 instead of {optim.epochs} epochs: at the full learning rate, not the schedule's last, which is 0"]
    if not (schedule.milestones or schedule.warmup_epochs):
        return []
    ratio = epochs / optim.epochs
    milestones = [round(milestone * ratio) for milestone in schedule.milestones]
    least = min(schedule.warmup_epochs, 2 if schedule.warmup_form == "inclusive" else 1, epochs)
    warmup = max(round(schedule.warmup_epochs * ratio), least)
    named += [("optim.schedule.milestones", milestones), ("optim.schedule.warmup_epochs", warmup)]
    return [f"{epochs} instead of {optim.epochs} epochs: warm-up {warmup}, milestones {milestones or 'none'}"]


def require_method_or_resume(what: str | None, resume: Path | None) -> None:
    """Check that exactly one of the two is given.

    Raises:
        UsageError: both or neither.
    """
    if (what is None) == (resume is None):
        raise UsageError("give a method to train, or --resume RUN", "Example: ltk train glmc --dataset digits")
