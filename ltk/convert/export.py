"""The other way round: ltk's weights under the names of timm, torchvision, or an official code."""

from __future__ import annotations

import io
import json
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from safetensors import torch as safetensors_torch
from torch import Tensor, nn

from ltk.checkpoint import load_model_and_metadata
from ltk.convert.keymaps import FORMATS, TARGETS, Format, explain
from ltk.convert.timm_models import classifier_of
from ltk.convert.trunks import legacy_name
from ltk.data.image import ImageSpec
from ltk.errors import DataError, UsageError, unknown_name
from ltk.files import write_atomically
from ltk.methods.base import Method

_LEGACY = "legacy-"
_CLASSIFIERS = ("fc_cb", "classifier", "fc")
_TOLERANCE = 1e-4


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
        return _to_legacy(target.removeprefix(_LEGACY), method, metadata)
    classifier = None if target == "timm-features" else _linear_classifier(method)
    if target == "torchvision":
        return _to_torchvision(method, backbone, image, classifier)
    return _to_timm(method, backbone, image, classifier)


def _linear_classifier(method: Method) -> nn.Linear:
    """The layer that predicts, where prediction is one linear layer on pooled features."""
    modules = dict(method.named_children())
    layer = next((modules[name] for name in _CLASSIFIERS if name in modules), None)
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
    if not torch.allclose(given, wanted, rtol=0, atol=_TOLERANCE * float(wanted.abs().max())):
        raise DataError("the exported model does not predict what the original does")


def _to_legacy(name: str, method: Method, metadata: Mapping[str, str]) -> Export:
    """The official layout, with DataParallel's prefix, as the official scripts save it."""
    form = FORMATS[name]
    if form.experts or (metadata["method"] != form.method and not _is_plain(form, method)):
        raise UsageError(f"a model of {metadata['method']} cannot be written as {name}")
    if json.loads(metadata["method_options"]).get("branches") == 2:
        raise UsageError("the official code needs the third branch, which was left out")
    backbone = json.loads(metadata["backbone"])["name"]
    class_map = json.loads(metadata.get("source", "{}")).get("class_map")
    entries: OrderedDict[str, Tensor] = OrderedDict()
    for key, value in method.state_dict().items():
        legacy = _legacy_key(form, key, backbone)
        if legacy is not None:
            entries[legacy] = _legacy_value(form, key, value, class_map)
    missing = explain(form, {key: tuple(value.shape) for key, value in entries.items()}).missing
    if missing:
        raise UsageError(f"this model lacks what {name} needs: {', '.join(missing)}")
    notes = ["what only training needs is as fresh unless the file held it"] if method.training_only else []
    hint = "torch.load(PATH, weights_only=True)"
    return Export(_wrapped(name, entries, _official_arch(backbone)), hint, notes)


def _is_plain(form: Format, method: Method) -> bool:
    """Whether format and method are both a backbone with one linear layer called fc."""
    return form.method in ("ce", "bagmar") and type(dict(method.named_children()).get("fc")) is nn.Linear


def _legacy_key(form: Format, key: str, backbone: str) -> str | None:
    for legacy, ours in form.renames.items():
        if key == ours or key.startswith(ours + "."):
            return legacy + key.removeprefix(ours)
    for prefix, trunk in form.trunks.items():
        if key.startswith(trunk + "."):
            style = form.method if backbone.startswith("cifar_stem") else ""
            return prefix + legacy_name(key.removeprefix(trunk + "."), style)
    return None


def _legacy_value(form: Format, key: str, value: Tensor, class_map: list[int] | None) -> Tensor:
    if class_map is not None and key.startswith(form.classifier + "."):
        value = value[torch.from_numpy(np.argsort(class_map))]
    if form.cosine and key == f"{form.classifier}.weight":
        value = value.t()
    if key == "queue.pointer":
        value = value.reshape(1)
    return value.contiguous().clone()


def _official_arch(backbone: str) -> str:
    return backbone.removeprefix("cifar_stem_").removeprefix("cifar_")


def _wrapped(name: str, entries: Mapping[str, Tensor], arch: str) -> dict[str, Any]:
    """The dictionary an official script would have saved."""
    state = OrderedDict((f"module.{key}", value) for key, value in entries.items())
    if name == "reslt-cifar":
        return state
    if name in ("bagmar", "gcl-parts"):
        head = OrderedDict((key.replace("head.", "fc."), state.pop(key)) for key in list(state) if ".head." in key)
        both = {"feat_model": state, "classifier": head}
        return {"epoch": 0, "best_epoch": 0, "state_dict_best": both, "best_acc": 0.0, "centroids": None}
    return {"epoch": 0, "arch": arch, "state_dict": state, "best_acc1": 0.0}


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
