"""What the official files do not carry: normalisation, evaluation constants, how classes are numbered.

Each value comes from the official scripts (methods' specifications, "Evaluation" and hyper-parameter tables) and can be
overridden; the report names every one that was taken from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ltk.convert.trunks import BackboneSpec, Shape
from ltk.data.catalogue import CIFAR_MEAN, CIFAR_STD, FACTS, IMAGENET_MEAN, IMAGENET_STD
from ltk.data.image import ImageSpec

_SMALL = {10: "cifar10", 100: "cifar100"}
_LARGE = {1000: "imagenet-lt", 365: "places-lt", 8142: "inat2018"}
_GLMC_CIFAR10 = ((0.49139968, 0.48215827, 0.44653124), (0.24703233, 0.24348505, 0.26158768))
_GCL_SCALE = "30 in stage 1, 20 in stage 2 on CIFAR, 15 on Places-LT"
_TRAINING_SCALE = {"gcl": _GCL_SCALE, "gcl-parts": _GCL_SCALE, "ldam-drw": "30"}


def infer_dataset(num_classes: int, size: int) -> str | None:
    """Return the data set of the papers with that many classes and images of that size, if there is one."""
    return (_SMALL if size == 32 else _LARGE).get(num_classes)


def image_spec(form: str, dataset: str | None, backbone: BackboneSpec) -> ImageSpec:
    """Return size and normalisation of the images as in the official code.

    Args:
        form: a key of ``FORMATS``.
        dataset: a key of ``ltk.data.catalogue.FACTS``, or None when unknown.
        backbone: tells size and channels.
    """
    size, channels = backbone.size, backbone.in_chans
    stored = 256 if size == 224 else size
    if dataset is not None and len(FACTS[dataset].mean) == channels:
        mean, std = FACTS[dataset].mean, FACTS[dataset].std
        size, stored = FACTS[dataset].native_size, FACTS[dataset].stored_size
    elif channels == 3:
        mean, std = (CIFAR_MEAN, CIFAR_STD) if size == 32 else (IMAGENET_MEAN, IMAGENET_STD)
    else:
        mean, std = (0.5,) * channels, (0.5,) * channels
    if form == "glmc" and dataset == "cifar10":
        mean, std = _GLMC_CIFAR10
    return ImageSpec(size, stored, channels, mean, std)


def method_options(
    form: str, dataset: str | None, backbone: BackboneSpec, shapes: Mapping[str, Shape]
) -> tuple[dict[str, Any], list[str]]:
    """Return the method's options that the shapes tell or the official scripts set, and notes on the latter.

    Args:
        form: a key of ``FORMATS``.
        dataset: a key of ``ltk.data.catalogue.FACTS``, or None when unknown.
        backbone: of the network.
        shapes: by ltk's names.
    """
    if form == "glmc":
        inputs, outputs = _matrix(shapes, "predictor.weight")
        return {"embedding": outputs} if inputs == outputs > 0 else {}, []
    if form in _TRAINING_SCALE:
        note = "logits are bare cosines as in the official model; its loss scales them by s ="
        return {"scale": 1.0}, [f"{note} {_TRAINING_SCALE[form]}"]
    if form in ("paco", "gpaco"):
        outputs, _ = _matrix(shapes, "projector.3.weight" if form == "paco" else "projector.4.weight")
        size, width = _matrix(shapes, "queue.keys_QE")
        return {"queue_size": size, "embedding": width} if size and width == outputs else {}, []
    if form == "reslt-cifar":
        return {"form": "norms"}, []
    if form in ("reslt", "ride-reslt"):
        return _block_options(form, dataset, backbone, shapes)
    return {}, []


def _matrix(shapes: Mapping[str, Shape], name: str) -> tuple[int, int]:
    """The two sizes of a matrix; zeros when it is none. Widths are taken only where the file holds what they cost."""
    shape = shapes.get(name, ())
    return (shape[0], shape[1]) if len(shape) == 2 else (0, 0)


def _block_options(
    form: str, dataset: str | None, backbone: BackboneSpec, shapes: Mapping[str, Shape]
) -> tuple[dict[str, Any], list[str]]:
    """ResLT with the 1x1 block: gamma by script, two branches on iNaturalist."""
    on_inat = dataset == "inat2018"
    is_ride = form == "ride-reslt"
    shallow = backbone.options.get("layers") == [1, 1, 1, 1]
    gamma = (0.3 if is_ride else 0.0) if on_inat else 0.3 if shallow else 0.7
    options = {"form": "block", "gamma": gamma, "branches": 2 if on_inat else 3, "train_pool_last": not shallow}
    notes = [f"evaluation divides class weights by norm^{gamma} and drops the bias (official script): --set gamma=..."]
    if on_inat:
        notes.append("two branches: the third one never contributes on iNaturalist and is left out")
    if is_ride:
        options |= _expert_options(backbone, shapes)
    return options, notes


def _expert_options(backbone: BackboneSpec, shapes: Mapping[str, Shape]) -> dict[str, Any]:
    """Number of experts, and how wide their stages are against a full ResNet's (RIDE narrows them on ImageNet-LT)."""
    experts = len({name.split(".")[2] for name in shapes if name.startswith("backbone.experts.")})
    bottleneck = "backbone.experts.0.1.0.conv3.weight" in shapes
    last = shapes.get(f"backbone.experts.0.1.0.conv{3 if bottleneck else 2}.weight", ())
    full = 2048 if bottleneck else 512
    return {"experts": experts, "expert_width": last[0] / full if last else 1.0}
