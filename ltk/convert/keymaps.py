"""One table per legacy format: what it calls what ltk calls otherwise, and what it holds that no inference needs.

A file is of a format when the names the format needs are there and every other name is explained by it; the tables are
made so that this holds for one format at most. Layouts: the official repositories of GLMC, GCL, LDAM-DRW, PaCo, GPaCo,
ResLT and lt-project (BaGMar/GALA).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from ltk.convert.trunks import Shape, canonical_name

BACKBONE = "backbone.net"
CLASSIFIER = "head"  # what ``parts`` calls a classifier that stands in a dictionary of its own
_EXPERT = re.compile(r"^[A-Za-z_]+\.?(\d+)\.(.+)$")
_EXPERT_STAGE = re.compile(r"^layer([34])s\.(\d+)\.(.+)$")


@dataclass(frozen=True)
class Format:
    """A legacy format.

    Attributes:
        title: what it is, for people.
        method: ltk's method.
        classifier: ltk's name of the layer whose rows are classes.
        renames: beginning of a name -> beginning of ltk's name; a beginning ends at a dot.
        needs: names that tell the format.
        lacks: names it never has.
        trunks: beginning of the names of a ResNet -> ltk's; empty for names without any.
        ignored: beginning of a name -> why no inference needs it.
        cosine: the classifier is stored transposed, (features, classes), and compares by angle.
        numbering: how the official code numbers the classes: by the data set, or by size.
        experts: late stages, branches and classifiers exist once per expert.
        by_name_only: chosen with --format alone, because another format has the same layout.
    """

    title: str
    method: str
    classifier: str
    renames: Mapping[str, str]
    needs: tuple[str, ...]
    lacks: tuple[str, ...] = ()
    trunks: Mapping[str, str] = field(default_factory=lambda: {"": BACKBONE})
    ignored: Mapping[str, str] = field(default_factory=dict)
    cosine: bool = False
    numbering: Literal["data set", "ascending"] = "data set"
    experts: bool = False
    by_name_only: bool = False


_QUEUE = {"queue": "queue.keys_QE", "queue_l": "queue.labels_Q", "queue_ptr": "queue.pointer"}
_HEAD = {CLASSIFIER: "fc"}

FORMATS: dict[str, Format] = {
    "glmc": Format(
        title="GLMC",
        method="glmc",
        classifier="fc_cb",
        renames={"fc": "fc", "fc_cb": "fc_cb", "projection_head.0": "projector", "contrast_head.0": "predictor"},
        needs=("fc_cb.weight", "fc_cb.bias"),
    ),
    "gcl": Format(
        title="GCL stage 1 (LDAM-DRW has the same layout), cosine classifier",
        method="gcl",
        classifier="fc",
        renames={"linear": "fc"},
        needs=("linear.weight",),
        lacks=("linear.bias",),
        cosine=True,
    ),
    "ldam-drw": Format(
        title="LDAM-DRW, cosine classifier",
        method="ldam",
        classifier="fc",
        renames={"linear": "fc"},
        needs=("linear.weight",),
        lacks=("linear.bias",),
        cosine=True,
        by_name_only=True,
    ),
    "gcl-ce": Format(
        title="GCL or LDAM-DRW with cross-entropy, linear classifier",
        method="ce",
        classifier="fc",
        renames={"linear": "fc"},
        needs=("linear.weight", "linear.bias"),
    ),
    "gcl-parts": Format(
        title="GCL in parts, cosine classifier",
        method="gcl",
        classifier="fc",
        renames=_HEAD,
        needs=(f"{CLASSIFIER}.weight",),
        lacks=(f"{CLASSIFIER}.bias",),
        cosine=True,
    ),
    "bagmar": Format(
        title="features and linear classifier apart (BaGMar/GALA and kin)",
        method="bagmar",
        classifier="fc",
        renames=_HEAD,
        needs=(f"{CLASSIFIER}.weight", f"{CLASSIFIER}.bias"),
    ),
    "paco": Format(
        title="PaCo",
        method="paco",
        classifier="classifier",
        renames={"linear": "classifier", "encoder_q.fc": "projector", "encoder_k.fc": "key_projector"} | _QUEUE,
        needs=("encoder_q.conv1.weight", "encoder_k.conv1.weight", "linear.weight", "linear.bias"),
        trunks={"encoder_q.": BACKBONE, "encoder_k.": "key_backbone.net"},
        ignored={"linear_k": "momentum copy of the classifier, which nothing uses"},
    ),
    "gpaco": Format(
        title="GPaCo",
        method="gpaco",
        classifier="classifier",
        renames={"linear": "classifier", "encoder_q.fc": "projector"} | _QUEUE,
        needs=("encoder_q.conv1.weight", "linear.weight", "linear.bias"),
        lacks=("encoder_k.conv1.weight",),
        trunks={"encoder_q.": BACKBONE},
    ),
    "reslt-cifar": Format(
        title="ResLT on CIFAR",
        method="reslt",
        classifier="classifiers.0",
        renames={f"BN{x}": f"branches.0.norms.{i}" for i, x in enumerate("HMT")} | {"linear": "classifiers.0"},
        needs=("BNH.weight", "BNM.weight", "BNT.weight", "linear.weight", "linear.bias"),
        trunks={"model.": BACKBONE},
    ),
    "reslt": Format(
        title="ResLT on ImageNet-LT or iNaturalist",
        method="reslt",
        classifier="classifiers.0",
        renames={"finalBlock.0": "branches.0.conv", "finalBlock.1": "branches.0.norm", "fc": "classifiers.0"},
        needs=("finalBlock.0.weight", "finalBlock.1.weight", "fc.weight", "fc.bias"),
        numbering="ascending",
    ),
    "ride-reslt": Format(
        title="RIDE-ResLT",
        method="reslt",
        classifier="classifiers",
        renames={},
        needs=("layer3s.0.0.conv1.weight", "layer4s.0.0.conv1.weight"),
        numbering="ascending",
        experts=True,
    ),
    "torchvision": Format(
        title="a ResNet as torchvision and timm store it",
        method="ce",
        classifier="fc",
        renames={"fc": "fc"},
        needs=("fc.weight", "fc.bias"),
    ),
}


_WRITABLE = [name for name, form in FORMATS.items() if name != "torchvision" and not form.experts]
TARGETS = ("timm", "timm-features", "torchvision", *(f"legacy-{name}" for name in _WRITABLE))


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


def explain(form: Format, shapes: Mapping[str, Shape]) -> Explanation:
    """Apply a format's table to the tensors of a file.

    Args:
        form: the format.
        shapes: shape of each tensor, by the file's own names.
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
    return result


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
