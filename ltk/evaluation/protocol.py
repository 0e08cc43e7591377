"""Under which rules figures came about, and where the rules of two runs differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# What a reader should see first, in the order in which it usually matters.
_FIRST = (
    "dataset", "imb", "imb_type", "subset", "fingerprint", "train_images", "image_size", "stored_size", "mean", "std",
    "upright", "full_resolution", "backbone", "width", "model_options", "parameters", "init", "epochs", "images_seen",
    "unfinished", "views", "view_options", "streams", "selection", "tuned", "checkpoint", "adjustment", "transductive",
    "prior", "optimizer", "lr", "momentum", "nesterov", "weight_decay", "schedule", "clip", "drop_last", "batch_size",
)  # fmt: skip
_NOT_PROTOCOL = {"method", "method_name", "options", "preset", "seed", "parent", "stage_one"}
_NOT_RECIPE = {"seed", "parent"}  # of which run a second stage is made differs from seed to seed
_MISSING = "-"


@dataclass(frozen=True, slots=True)
class ProtocolDifference:
    """One rule that is not the same everywhere.

    Attributes:
        key: which rule.
        values: what it is, by name of the recipe.
    """

    key: str
    values: Mapping[str, str]

    def __str__(self) -> str:
        return f"{self.key}: " + ", ".join(f"{value} ({name})" for name, value in self.values.items())


def protocol_differences(cards: Mapping[str, Mapping[str, Any]]) -> list[ProtocolDifference]:
    """Return every rule on which the cards disagree, the weightiest first.

    Args:
        cards: protocol cards by name of the recipe; a rule that a card lacks counts as different from any value.
    """
    rows = [
        ProtocolDifference(key, {name: show_rule(key, card.get(key)) for name, card in cards.items()})
        for key in _order(list(cards.values()))
    ]
    return [row for row in rows if len(set(row.values.values())) > 1]


def shared_rules(cards: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return every rule on which the cards agree, the weightiest first, as text.

    Args:
        cards: protocol cards, at least one; a rule that a card lacks is not shared.
    """
    shared = set.intersection(*({key for key in card if key not in _NOT_PROTOCOL} for card in cards))
    rules = {key: {show_rule(key, card[key]) for card in cards} for key in _order(cards) if key in shared}
    return {key: values.pop() for key, values in rules.items() if len(values) == 1}


def _order(cards: Sequence[Mapping[str, Any]]) -> list[str]:
    """The rules of all cards, the weightiest first."""
    keys = dict.fromkeys(key for card in cards for key in card if key not in _NOT_PROTOCOL)
    return [key for key in _FIRST if key in keys] + [key for key in keys if key not in _FIRST]


def recipe_key(card: Mapping[str, Any]) -> str:
    """Return a text that is equal for runs of one recipe: all of the card but seed, parent run and tuned values."""
    rules = {key: value for key, value in card.items() if key not in _NOT_RECIPE}
    if "tuned" in rules:
        options = rules.get("options", {})
        rules["options"] = {key: value for key, value in options.items() if key not in rules["tuned"]}
    if "stage_one" in rules:
        rules["stage_one"] = recipe_key(rules["stage_one"])
    return repr(sorted((key, repr(value)) for key, value in rules.items()))


def tuned_values(card: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the options whose value was chosen on images of the run, as text: "tau=1.6"."""
    options = card.get("options", {})
    return tuple(f"{key}={show_rule(key, options.get(key))}" for key in card.get("tuned", ()))


def seed_key(card: Mapping[str, Any]) -> str:
    """Return a text that is equal for runs that are one training twice: same seed, same parent; empty if unknown."""
    seed, parent = card.get("seed"), card.get("parent") or {}
    return "" if seed is None else f"{seed} {parent.get('sha256', '')}"


def short_parameters(count: object) -> str:
    """Return a number of parameters as 0.46M; "-" when it is not known."""
    return f"{count / 1e6:.2f}M" if isinstance(count, int | float) else _MISSING


def show_rule(key: str, value: object) -> str:
    """Return the value of a rule as text."""
    if value is None:
        return _MISSING
    if key == "fingerprint":
        return str(value)[:12]
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and value >= 10_000:
        return f"{value:,}"
    if isinstance(value, Mapping):
        return " ".join(f"{k}={v}" for k, v in value.items()) or _MISSING
    if isinstance(value, Sequence) and not isinstance(value, str):
        return " ".join(map(str, value)) or _MISSING
    return str(value)
