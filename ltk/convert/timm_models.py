"""State dicts of timm models, by the name of the model or by comparing with timm's ResNets."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import timm
import torch

from ltk.convert.explanation import Explanation, ignore_twins
from ltk.convert.keymaps import BACKBONE
from ltk.convert.trunks import BackboneSpec, Shape
from ltk.errors import DataError, unknown_name

_FAMILY, _STAGES = "resnet", {"layer1", "layer2", "layer3", "layer4"}


def explain_as(
    arch: str, shapes: Mapping[str, Shape], ties: Iterable[Sequence[str]] = ()
) -> tuple[Explanation, BackboneSpec]:
    """Compare a file with one timm model.

    Args:
        arch: timm's name.
        shapes: shape of each tensor, by the file's own names.
        ties: groups of names that are one tensor.

    Returns:
        Every name in ltk's words, and the backbone.

    Raises:
        UsageError: timm has no such model.
        DataError: the file has no classifier where the model has it.
    """
    if not timm.is_model(arch):
        raise unknown_name("architecture", arch, timm.list_models())
    model, classifier, spec = _describe(arch, shapes)
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    result = Explanation(missing=[name for name in expected if shapes.get(name) != expected[name]])
    for name in shapes:
        if name not in expected:
            result.unexplained.append(name)
        elif name.startswith(classifier + "."):
            result.targets[name] = "fc" + name.removeprefix(classifier)
        else:
            result.targets[name] = f"{BACKBONE}.{name}"
    return ignore_twins(result, ties), spec


def _describe(arch: str, shapes: Mapping[str, Shape]) -> tuple[Any, str, BackboneSpec]:
    """The model without values, the name of its classifier, and its backbone."""
    config, classifier = timm.get_pretrained_cfg(arch), classifier_of(arch)
    weight = shapes.get(f"{classifier}.weight", ())
    if len(weight) != 2 or 0 in weight:
        raise DataError(f"{arch} has its classifier in {classifier}.weight, the file does not")
    stem = shapes.get(f"{config.first_conv}.weight" if config else "conv1.weight", ())
    in_chans = max(stem[1], 1) if len(stem) == 4 else 3
    size = config.input_size[-1] if config else 32 if arch.startswith("cifar_") else 224
    with torch.device("meta"):
        model = timm.create_model(arch, num_classes=weight[0], in_chans=in_chans)
    return model, classifier, BackboneSpec(arch, {}, in_chans, size, f"the names and shapes of timm's {arch}")


def classifier_of(arch: str) -> str:
    """Return what a timm model calls its classifier."""
    config = timm.get_pretrained_cfg(arch)
    if config and isinstance(config.classifier, str):
        return config.classifier
    with torch.device("meta"):
        model = timm.create_model(arch, num_classes=10)
    classifier = model.get_classifier() if hasattr(model, "get_classifier") else model.fc  # type: ignore[operator]
    return next((name for name, module in model.named_modules() if module is classifier), "fc")


def find_trunks(trunk: Mapping[str, Shape]) -> list[str]:
    """Return timm's ResNets that have exactly these names and shapes before the classifier."""
    width = max((shape[0] for name, shape in trunk.items() if name.startswith("layer4.") and shape), default=0)
    return find_resnets({**trunk, "fc.weight": (1, width), "fc.bias": (1,)})


def find_resnets(shapes: Mapping[str, Shape], ties: Iterable[Sequence[str]] = ()) -> list[str]:
    """Return timm's ResNets (deep stems, squeeze-and-excitation, ...) with exactly these names and shapes."""
    stages: dict[str, int] = {}
    for name in shapes:
        match = re.match(r"(layer\d)\.(\d+)\.", name)
        if match:
            stages[match[1]] = max(stages.get(match[1], 0), int(match[2]) + 1)
    if "fc.weight" not in shapes or set(stages) != _STAGES:
        return []
    layers_per_block = 3 if "layer1.0.conv3.weight" in shapes else 2
    depth = re.compile(rf"(?<!\d){2 + layers_per_block * sum(stages.values())}(?!\d)")
    return [name for name in timm.list_models(module=_FAMILY) if depth.search(name) and _has(name, shapes, ties)]


def _has(arch: str, shapes: Mapping[str, Shape], ties: Iterable[Sequence[str]]) -> bool:
    explanation, _ = explain_as(arch, shapes, ties)
    return explanation.is_complete
