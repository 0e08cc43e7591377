"""The base class of everything that can be configured; imports no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

DEVICES = r"^(auto|cpu|cuda(:(0|[1-9][0-9]?))?|mps)$"  # what --device and run.device take


class Other(tuple[Any, ...]):
    """All values but these; None stands for one that is chosen elsewhere."""

    def __contains__(self, value: object) -> bool:
        return not super().__contains__(value)


class Needs:
    """What an option needs to have an effect, as in ``beta: Annotated[float, Needs(drw=(True,))] = Field(...)``.

    Args:
        **options: the values that one of the group's other options must have, a tuple or ``Other``; of several options
            one is enough; the option itself may be among them. What several ``Needs`` ask for is needed together.
    """

    def __init__(self, **options: tuple[Any, ...]) -> None:
        self.options = options

    def are_met(self, group: Settings) -> bool:
        """Whether an option with these needs changes something in a group."""
        return any(getattr(group, name) in values for name, values in self.options.items())

    def explain(self, group: Settings, default: Any) -> str:
        """Say which values are in the way and which would do."""
        present = " and ".join(f"{name} = {_show(getattr(group, name))}" for name in self.options)
        wanted = " or ".join(_show_wanted(name, values) for name, values in self.options.items())
        return f"has no effect with {present}: leave it at {_show(default)}, or set {wanted}"


def _show(value: Any) -> str:
    return "none" if value is None else json.dumps(value)


def _show_wanted(name: str, values: tuple[Any, ...]) -> str:
    return f"{name} {'other than' if isinstance(values, Other) else '='} {' or '.join(map(_show, values))}"


class Settings(BaseModel):
    """A frozen, keyword-only group of options: unknown keys, nan and infinity are refused.

    So is an option that is not at its default where its ``Needs`` are not met.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, validate_default=True, ser_json_inf_nan="constants"
    )

    @model_validator(mode="after")
    def _refuse_idle(self) -> Self:
        faults: list[InitErrorDetails] = []
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            unmet = (needs for needs in field.metadata if isinstance(needs, Needs) and not needs.are_met(self))
            if value != field.default and (needs := next(unmet, None)):
                fault = PydanticCustomError("idle_option", needs.explain(self, field.default))  # type: ignore[arg-type]
                faults.append(InitErrorDetails(type=fault, loc=(name,), input=value))
        if faults:
            raise ValidationError.from_exception_data(type(self).__name__, faults)
        return self


def first_fault(error: ValidationError) -> str:
    """Return the first thing that is wrong, as "names.3: Input should be a valid string"."""
    fault = error.errors()[0]
    return ": ".join(filter(None, (".".join(map(str, fault["loc"])), fault["msg"])))


Group = TypeVar("Group", bound=Settings)


def resolve_paths(group: Group) -> Group:
    """Return a group with every path in it absolute, so that it means the same in any folder."""
    changed: dict[str, Any] = {}
    for key, value in group:
        if isinstance(value, Path):
            changed[key] = value.resolve()
        elif isinstance(value, Settings):
            changed[key] = resolve_paths(value)
    return group.model_copy(update=changed)


def find_differences(before: Settings, after: Settings) -> list[tuple[str, Any, Any]]:
    """Return the dotted keys in which two groups differ, with both values as JSON knows them."""
    old, new = _flatten(before.model_dump(mode="json")), _flatten(after.model_dump(mode="json"))
    return [(key, old.get(key), new.get(key)) for key in sorted({*old, *new}) if old.get(key) != new.get(key)]


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            result |= _flatten(value, f"{prefix}{key}.")
        else:
            result[prefix + key] = value
    return result
