"""One table per legacy format: what it calls what ltk calls otherwise, and what it holds that no inference needs.

A file is of a format when the names the format needs are there and every other name is explained by it; the tables are
made so that this holds for one format at most. Layouts: the official repositories of GLMC, GCL, LDAM-DRW, PaCo, GPaCo,
ResLT and lt-project (BaGMar/GALA).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

BACKBONE = "backbone.net"
CLASSIFIER = "head"  # what ``candidates`` calls a classifier that stands in a dictionary of its own


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
