"""From what the user asks for to a configuration: preset, derived defaults, overrides; imports no torch."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ltk.config import RunConfig
from ltk.config_text import create_config, parse_override, read_toml, with_overrides
from ltk.data.catalogue import FACTS
from ltk.data.limits import check_imbalance, parse_groups
from ltk.data.sources import SOURCES, unknown_source
from ltk.derived import derive_settings
from ltk.errors import UsageError, unknown_name
from ltk.methods import METHODS, is_outside
from ltk.presets import Choice, choose_preset, list_presets, list_second_stages
from ltk.settings import find_differences

_OF_THE_DATA = ("root", "imb", "groups", "image_size", "mean", "std", "source", "head")
_LISTED = {"csv": "csv", "train_list": "list"}  # options that make a folder a data set of another kind


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
    options, overrides = options or {}, [*overrides]
    source = _read_source_options(options, overrides)
    if dataset is not None:
        dataset, root = name_source(dataset, root, source)
    tree, notes = _start(what, _Images(dataset, root, source), imb)
    given = {"data.dataset": dataset, "data.root": root, "data.imb": imb, **options}
    return apply_options(tree, given, overrides, notes)


def name_source(dataset: str, root: Path | None, options: Collection[str] = ()) -> tuple[str, Path | None]:
    """Return the data set and the root of what the user calls a data set, which may be a folder.

    Args:
        dataset: a data set, or a folder of images.
        root: where the images are; None beside a folder.
        options: names of the source's options that are given: a folder with a table or lists is a data set "csv" or
            "list".

    Raises:
        UsageError: neither a data set nor a folder, or a folder beside a root.
    """
    if dataset not in SOURCES:
        if not (os.sep in dataset or Path(dataset).is_dir()):
            raise unknown_source(dataset)
        if root is not None:
            raise UsageError(
                f"{dataset} is a folder of images, and --root names a folder too: {root}",
                "Give the folder of the images once, without --root.",
            )
        dataset, root = "folder", Path(dataset)
    if dataset == "folder":
        dataset = next((kind for option, kind in _LISTED.items() if option in options), dataset)
    return dataset, root


def _read_source_options(options: Mapping[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """Return the options of the source, checked, from named options and overrides."""
    named = [(key, value) for key, value in options.items() if value is not None]
    settings = [*named, *(parse_override(text) for text in overrides)]
    own = [(key, value) for key, value in settings if f"{key}.".startswith("data.source.")]
    return create_config(with_overrides({}, own), "options").data.source.model_dump(exclude_none=True)


@dataclass(frozen=True)
class _Images:
    """Which images the user names.

    Attributes:
        dataset: a data set; None: that of the preset.
        root: where they are.
        options: of the source.
    """

    dataset: str | None
    root: Path | None
    options: Mapping[str, Any]

    def find_size(self) -> int | None:
        """Return the side in pixels, for which the user's own images are opened; None where it is not known."""
        if self.dataset in FACTS:
            return FACTS[self.dataset].native_size
        if self.dataset is None or self.root is None:
            return None
        from ltk.data.sources import open_source

        return open_source(self.dataset, root=self.root, **self.options).native_size


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
    chosen = [*named, *(parse_override(text) for text in overrides)]
    derived, more = derive_settings(before, dict(chosen))
    config = create_config(with_overrides(tree, [*derived, *chosen]), "options")
    if config.data.groups != "auto":
        parse_groups(config.data.groups)
    return Resolved(config, [*notes, *more], find_differences(before, config))


def _start(what: str, images: _Images, imb: float | None) -> tuple[dict[str, Any], list[str]]:
    """Return the sections to begin with, and notes on where they come from."""
    if what.endswith(".toml"):
        tree = read_toml(Path(what))
        create_config(tree, what)  # a fault of the file is told with its name
        return tree, []
    presets = list_presets()
    for preset in presets:
        if preset.name == what:
            return _adapt(Choice(preset, True), images.dataset or preset.dataset, imb), []
    if is_outside(what):
        return _start_outside(what, images, imb)
    recipes = {preset.recipe for preset in presets}
    if what not in recipes and (what in METHODS or what in list_second_stages()):
        recipe = what if what in list_second_stages() else "crt"
        raise UsageError(
            f"{what} is a second stage: it trains a classifier on the features of a finished run",
            f"Use: ltk finetune-classifier RUN --method {recipe}",
        )
    if what not in recipes:
        listing = f"Methods: {', '.join(sorted(recipes))}. Their presets: ltk config --presets"
        raise unknown_name("method or preset", what, [*recipes, *(preset.name for preset in presets)], listing)
    dataset = images.dataset or "digits"
    choice = choose_preset(what, dataset, imb, images.find_size())
    return _adapt(choice, dataset, imb), [choice.note] if choice.note else []


def _start_outside(what: str, images: _Images, imb: float | None) -> tuple[dict[str, Any], list[str]]:
    """A method outside ltk has no preset: all but the method itself is taken from cross-entropy's."""
    tree, notes = _start("ce", images, imb)
    note = f"{what} has no preset: data, views, network and schedule are those of {tree['preset']}"
    return tree | {"method": {"name": what}}, [*notes, note]


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


def require_method_or_resume(what: str | None, resume: Path | None) -> None:
    """Check that exactly one of the two is given.

    Raises:
        UsageError: both or neither.
    """
    if what is not None and resume is not None:
        raise UsageError("--resume takes no method: the run keeps its own", f"Leave {what} out.")
    if what is None and resume is None:
        raise UsageError("give a method to train, or --resume RUN", "Example: ltk train glmc --dataset digits")
