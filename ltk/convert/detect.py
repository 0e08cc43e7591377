"""Which legacy format a file is of, and the evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from ltk.convert.explanation import Explanation, explain
from ltk.convert.keymaps import BACKBONE, FORMATS, Format
from ltk.convert.reader.values import on_one_line
from ltk.convert.timm_models import explain_as, find_resnets, find_trunks
from ltk.convert.trunks import BackboneSpec, Shape, infer_backbone
from ltk.errors import DataError, unknown_name

_TIMM = Format(title="a timm model", method="ce", classifier="fc", renames={}, needs=())


@dataclass(frozen=True)
class Recognition:
    """A file understood.

    Attributes:
        name: a key of ``FORMATS``, or timm.
        form: the format.
        explanation: every name of the file in ltk's words.
        backbone: the ResNet.
        num_classes: K.
        evidence: what it was recognised by.
        notes: what names and shapes leave open.
    """

    name: str
    form: Format
    explanation: Explanation
    backbone: BackboneSpec
    num_classes: int
    evidence: list[str]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Hints:
    """What a user or the file itself says beside names and shapes.

    Attributes:
        forced: a key of ``FORMATS`` to use instead of looking for one.
        arch: the timm model it is; of a known format, the backbone.
        claimed: the architecture that the file names; it counts where names and shapes fit several.
        ties: groups of names that are one tensor.
        partial: accept a forced format or architecture that leaves names unexplained.
    """

    forced: str | None = None
    arch: str | None = None
    claimed: str | None = None
    ties: Sequence[Sequence[str]] = ()
    partial: bool = False


def recognise(shapes: Mapping[str, Shape], hints: Hints | None = None) -> Recognition:
    """Return what the names and shapes of a file say.

    Args:
        shapes: shape of each tensor, by the file's own names.
        hints: what is known beside them.

    Raises:
        UsageError: no format of that name.
        DataError: no format fits, several do, or the forced one does not.
    """
    hints = hints or Hints()
    if hints.forced is not None:
        return _forced(hints.forced, shapes, hints)
    forms = {name: form for name, form in FORMATS.items() if not form.by_name_only}
    explanations = {name: explain(form, shapes, hints.ties) for name, form in forms.items()}
    fitting = [name for name, explanation in explanations.items() if explanation.is_complete]
    if len(fitting) > 1:
        raise DataError(f"the file fits several formats: {', '.join(fitting)}", "Choose one with --format.")
    if fitting:
        return _recognition(fitting[0], explanations[fitting[0]], shapes, hints)
    names = [hints.arch] if hints.arch else find_resnets(shapes, hints.ties)
    if hints.claimed in names:
        names = [hints.claimed]
    if len(names) == 1:
        return _recognise_timm(names[0], shapes, hints)
    if names:
        raise DataError(f"the file fits several architectures: {', '.join(names)}", "Choose one with --arch.")
    name, nearest = _nearest(explanations)
    if hints.partial and not nearest.missing:
        return _recognition(name, nearest, shapes, hints)
    hint = f"Nearest is {name}: {_complaint(nearest)}. Any timm model by name: --arch; another format: --format."
    raise DataError("the file is of no known format", hint)


def _forced(name: str, shapes: Mapping[str, Shape], hints: Hints) -> Recognition:
    if name not in FORMATS:
        raise unknown_name("format", name, FORMATS)
    explanation = explain(FORMATS[name], shapes, hints.ties)
    if not explanation.is_complete and not hints.partial:
        hint = "Leave --format out, or go on with --allow-partial."
        raise DataError(f"the file is no {name} file: {_complaint(explanation)}", hint)
    return _recognition(name, explanation, shapes, hints)


def _recognise_timm(arch: str, shapes: Mapping[str, Shape], hints: Hints) -> Recognition:
    explanation, backbone = explain_as(arch, shapes, hints.ties)
    if not explanation.is_complete and not hints.partial:
        raise DataError(f"the file is no {arch}: {_complaint(explanation)}", "--allow-partial goes on anyway.")
    renamed = {target: shapes[source] for source, target in explanation.targets.items()}
    num_classes = _count_classes(_TIMM, renamed)
    return Recognition("timm", _TIMM, explanation, backbone, num_classes, [backbone.evidence, f"{num_classes} classes"])


def _recognition(name: str, explanation: Explanation, shapes: Mapping[str, Shape], hints: Hints) -> Recognition:
    form = FORMATS[name]
    renamed = {target: shapes[source] for source, target in explanation.targets.items()}
    backbone, notes = _choose_backbone(trunk_shapes(renamed), hints, is_published=name != "torchvision")
    num_classes = _count_classes(form, renamed)
    present = [need for need in form.needs if need in shapes]
    absent = [f"no {lack}" for lack in form.lacks if lack not in shapes]
    evidence = [f"holds {', '.join(present)}", *absent, backbone.evidence, f"{num_classes} classes"]
    return Recognition(name, form, explanation, backbone, num_classes, evidence, notes)


def _choose_backbone(trunk: Mapping[str, Shape], hints: Hints, *, is_published: bool) -> tuple[BackboneSpec, list[str]]:
    """The backbone, and a note where others have the same tensors: blurring and pooling hold none.

    The official codes (``is_published``) have plain ResNets, unless the file says otherwise.
    """
    backbone = infer_backbone(trunk)
    if hints.arch is not None:
        return replace(backbone, name=hints.arch, options={}, evidence=f"--arch {hints.arch}"), []
    is_small = backbone.size == 32  # timm has no ResNet with such a stem but ltk's own
    if is_small or hints.claimed == backbone.name or (is_published and hints.claimed is None):
        return backbone, []
    alike = find_trunks(trunk)
    if hints.claimed in alike:
        evidence = f"the file says it is {hints.claimed}"
        return replace(backbone, name=hints.claimed, options={}, evidence=evidence), []
    others = [name for name in alike if name != backbone.name]
    if is_published or not others:
        return backbone, []
    named = ", ".join(others)
    return backbone, [f"taken for {backbone.name}; names and shapes are also those of {named}: else --arch NAME"]


def trunk_shapes(renamed: Mapping[str, Shape]) -> dict[str, Shape]:
    """Return the ResNet's tensors by torchvision's names; of experts, those of the first."""
    trunk = {}
    for name, shape in renamed.items():
        if name.startswith(BACKBONE + "."):
            trunk[name.removeprefix(BACKBONE + ".")] = shape
        elif name.startswith("backbone.experts.0."):
            stage, _, rest = name.removeprefix("backbone.experts.0.").partition(".")
            trunk[f"layer{int(stage) + 3}.{rest}"] = shape
    return trunk


def _count_classes(form: Format, renamed: Mapping[str, Shape]) -> int:
    weight = f"{form.classifier}.weight" if not form.experts else f"{form.classifier}.0.weight"
    shape = renamed.get(weight)
    if shape is None or len(shape) != 2 or 0 in shape:
        raise DataError("the file has no classifier", "Give it with --classifier FILE.")
    return shape[1 if form.cosine else 0]


def _complaint(explanation: Explanation) -> str:
    parts = []
    if explanation.missing:
        parts.append(f"it lacks {', '.join(explanation.missing[:3])}")
    if explanation.unexplained:
        shown = ", ".join(on_one_line(name) for name in explanation.unexplained[:3])
        parts.append(f"{len(explanation.unexplained)} names are unknown ({shown})")
    return " and ".join(parts)


def _nearest(explanations: Mapping[str, Explanation]) -> tuple[str, Explanation]:
    """The format that explains most."""
    return min(explanations.items(), key=lambda item: len(item[1].unexplained) + 5 * len(item[1].missing))
