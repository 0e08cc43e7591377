"""The other way round: ltk's weights under the names of timm, torchvision, or an official code."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import torch as safetensors_torch
from torch import Tensor, nn

from ltk.checkpoint import load_model_and_metadata
from ltk.convert.keymaps import TARGETS
from ltk.convert.legacy_export import to_legacy
from ltk.convert.timm_models import classifier_of
from ltk.convert.verify import agree
from ltk.data.image import ImageSpec
from ltk.errors import DataError, UsageError, unknown_name
from ltk.files import write_atomically
from ltk.methods.base import Method

_LEGACY = "legacy-"


@dataclass(frozen=True)
class Export:
    """Weights under other names.

    Attributes:
        content: what is saved: a state dict, or the nested dictionary of an official code.
        how_to_load: one line of Python.
        notes: what a user should know.
    """

    content: Mapping[str, Any]
    how_to_load: str
    notes: list[str]


def export_model(path: Path, target: str) -> Export:
    """Return a model of ltk under other names, checked against the original.

    Args:
        path: a model file, a checkpoint or a run.
        target: one of ``TARGETS``.

    Raises:
        UsageError: no such target, or one that cannot express this model.
        DataError: not a file of ltk, or the export does not predict what the original does.
    """
    if target not in TARGETS:
        raise unknown_name("target", target, TARGETS)
    method, metadata = load_model_and_metadata(path)
    backbone, image = json.loads(metadata["backbone"]), ImageSpec.from_json(json.loads(metadata["image"]))
    if target.startswith(_LEGACY):
        content, notes = to_legacy(target.removeprefix(_LEGACY), method, metadata)
        return Export(content, "torch.load(PATH, weights_only=True)", notes)
    classifier = None if target == "timm-features" else _linear_classifier(method)
    if target == "torchvision":
        return _to_torchvision(method, backbone, image, classifier)
    return _to_timm(method, backbone, image, classifier)


def _linear_classifier(method: Method) -> nn.Linear:
    """The layer that predicts, where prediction is one linear layer on pooled features."""
    layer = dict(method.named_children()).get(method.classifier_name)
    if type(layer) is not nn.Linear:
        kind = type(method).__name__
        raise UsageError(f"{kind} does not predict by one linear layer", "Export the features: --to timm-features.")
    return layer


def _to_timm(method: Method, backbone: dict[str, Any], image: ImageSpec, classifier: nn.Linear | None) -> Export:
    name, options = backbone["name"], backbone.get("options", {})
    num_classes = classifier.out_features if classifier is not None else 0
    state = {key: value.clone() for key, value in method.backbone.net.state_dict().items()}  # type: ignore[union-attr]
    if classifier is not None:
        state |= {f"{classifier_of(name)}.{key}": value.clone() for key, value in classifier.state_dict().items()}
    arguments = {"num_classes": num_classes, "in_chans": image.channels, **options}
    model = timm.create_model(name, **arguments)
    _check_same(model, state, method.predict if classifier is not None else method.backbone, image)
    text = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
    notes = ["import ltk.models.backbones first: it registers this model"] if name.startswith("cifar_") else []
    return Export(state, f"timm.create_model({name!r}, {text}).load_state_dict(load_file(PATH))", notes)


def _to_torchvision(method: Method, backbone: dict[str, Any], image: ImageSpec, classifier: nn.Linear | None) -> Export:
    import torchvision

    name = backbone["name"]
    if name not in torchvision.models.list_models(module=torchvision.models) or backbone.get("options"):
        raise UsageError(f"torchvision has no {name} like this one", "Export it for timm: --to timm.")
    assert classifier is not None
    exported = _to_timm(method, backbone, image, classifier)
    model = torchvision.models.get_model(name, weights=None, num_classes=classifier.out_features)
    try:
        _check_same(model, exported.content, method.predict, image)
    except RuntimeError as error:
        raise UsageError(
            f"torchvision names the tensors of {name} otherwise", "Export it for timm: --to timm."
        ) from error
    load = f"torchvision.models.get_model({name!r}, num_classes={classifier.out_features})"
    return Export(exported.content, f"{load}.load_state_dict(torch.load(PATH, weights_only=True))", [])


@torch.no_grad()
def _check_same(
    model: nn.Module, state: Mapping[str, Tensor], original: Callable[[Tensor], Tensor], image: ImageSpec
) -> None:
    try:
        model.load_state_dict(dict(state), strict=True)
    except RuntimeError as error:
        raise UsageError(
            "the target's network of that name has other tensors", "Try --to timm or timm-features."
        ) from error
    x_BCHW = torch.randn(2, image.channels, image.size, image.size, generator=torch.Generator().manual_seed(0))
    wanted, given = original(x_BCHW), model.eval()(x_BCHW)
    if not wanted.isfinite().all():
        raise DataError("a forward pass of the original on noise gives nan or infinity", "No target can be checked.")
    if not agree(given, wanted):
        raise DataError("the exported model does not predict what the original does")


def suffix_of(target: str) -> str:
    """Return the usual suffix of a target's files."""
    return ".safetensors" if target.startswith("timm") else ".pth"


def write_export(export: Export, out: Path) -> None:
    """Write an export: safetensors by that suffix, else as torch.save does.

    Raises:
        UsageError: nested content in a safetensors file.
        EnvironmentFault: the disk does not take it.
    """
    flat = {key: value for key, value in export.content.items() if isinstance(value, Tensor)}
    if out.suffix == ".safetensors":
        if len(flat) != len(export.content):
            raise UsageError("an official layout is nested, which safetensors cannot hold", "Give --out MODEL.pth.")
        write_atomically(out, safetensors_torch.save(flat, {"format": "pt"}))
        return
    buffer = io.BytesIO()
    torch.save(dict(export.content), buffer)
    write_atomically(out, buffer.getvalue())
