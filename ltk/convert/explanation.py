"""Every name of a file in ltk's words, by the table of one format."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ltk.convert.keymaps import Format
from ltk.convert.trunks import Shape, canonical_name

_EXPERT = re.compile(r"^[A-Za-z_]+\.?(\d+)\.(.+)$")
_EXPERT_STAGE = re.compile(r"^layer([34])s\.(\d+)\.(.+)$")


@dataclass
class Explanation:
    """How a format understands the names of a file.

    Attributes:
        targets: name -> ltk's name.
        ignored: name -> why it is not needed.
        unexplained: names the format does not know.
        missing: names the format needs.
    """

    targets: dict[str, str] = field(default_factory=dict)
    ignored: dict[str, str] = field(default_factory=dict)
    unexplained: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    @property
    def is_complete(self) -> bool:
        """Whether nothing is missing and nothing is left over."""
        return not self.missing and not self.unexplained


def explain(form: Format, shapes: Mapping[str, Shape], ties: Iterable[Sequence[str]] = ()) -> Explanation:
    """Apply a format's table to the tensors of a file.

    Args:
        form: the format.
        shapes: shape of each tensor, by the file's own names.
        ties: groups of names that are one tensor; one explained name is enough.
    """
    result = Explanation(missing=[name for name in form.needs if name not in shapes])
    result.missing += [f"no {name}" for name in form.lacks if name in shapes]
    renames = _expert_renames(shapes) if form.experts else form.renames
    for name in shapes:
        reason = _lookup(form.ignored, name)
        if reason is not None:
            result.ignored[name] = reason
            continue
        target = _rename(renames, name) or _rename_trunk(form.trunks, name)
        if target is None:
            result.unexplained.append(name)
        else:
            result.targets[name] = target
    return ignore_twins(result, ties)


def ignore_twins(explanation: Explanation, ties: Iterable[Sequence[str]]) -> Explanation:
    """Explain unknown names of tensors that are known by another name (a layer that a model holds twice)."""
    unknown = set(explanation.unexplained)
    for group in ties:
        known = next((name for name in group if name in explanation.targets), None)
        if known is not None:
            explanation.ignored |= {name: f"another name of {known}" for name in group if name in unknown}
    explanation.unexplained = [name for name in explanation.unexplained if name not in explanation.ignored]
    return explanation


def _starts(name: str, beginning: str) -> bool:
    return name == beginning or name.startswith(beginning + ".")


def _lookup(table: Mapping[str, str], name: str) -> str | None:
    return next((value for beginning, value in table.items() if _starts(name, beginning)), None)


def _rename(renames: Mapping[str, str], name: str) -> str | None:
    beginning = max((b for b in renames if _starts(name, b)), key=len, default=None)
    return None if beginning is None else renames[beginning] + name[len(beginning) :]


def _rename_trunk(trunks: Mapping[str, str], name: str) -> str | None:
    for beginning, target in trunks.items():
        if name.startswith(beginning):
            canonical = canonical_name(name.removeprefix(beginning))
            if canonical is not None:
                return f"{target}.{canonical}"
    return None


def _expert_renames(shapes: Mapping[str, Shape]) -> dict[str, str]:
    """The parts each RIDE expert owns, told by number and shape: late stages, 1x1 block, classifier.

    The number of the expert is the first number of a name; the only matrix of an expert is its classifier, the only
    four-dimensional tensor outside the stages its 1x1 convolution, and the remaining vectors are the block's norm.
    """
    renames, classifiers = {}, {}
    for name, shape in shapes.items():
        match = _EXPERT.match(name)
        if match and len(shape) == 2:
            classifiers[name.rpartition(".")[0]] = f"classifiers.{match[1]}"
    for name, shape in shapes.items():
        stage, match, owner = _EXPERT_STAGE.match(name), _EXPERT.match(name), name.rpartition(".")[0]
        if stage:
            inside = canonical_name(f"layer{stage[1]}.{stage[3]}")
            if inside is not None:
                renames[name] = f"backbone.experts.{stage[2]}.{int(stage[1]) - 3}.{inside.partition('.')[2]}"
        elif owner in classifiers:
            renames[name] = f"{classifiers[owner]}.{name.rpartition('.')[2]}"
        elif match and canonical_name(name) is None:
            kind = "conv" if len(shape) == 4 else "norm"
            renames[name] = f"branches.{match[1]}.{kind}.{name.rpartition('.')[2]}"
    return renames
