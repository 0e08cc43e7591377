"""ltk's weights as an official code saves them, converted back in memory before they are handed out."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ltk.convert.class_order import Numbering, number_classes
from ltk.convert.convert import Request, convert_raw
from ltk.convert.explanation import explain
from ltk.convert.keymaps import FORMATS, Format
from ltk.convert.reader import RawCheckpoint
from ltk.convert.trunks import legacy_name
from ltk.convert.verify import agree, check_forward
from ltk.data.base import IntArray
from ltk.data.image import ImageSpec
from ltk.errors import DataError, UsageError
from ltk.methods.base import Method

# What the official evaluation is told beside the file, by format; and every option that changes a prediction.
_TOLD = {"reslt": "gamma", "gcl": "scale", "gcl-parts": "scale", "ldam-drw": "scale"}
_EVALUATION = ("form", "branches", "gamma", "keep_bias", "eval_pool_last", "scale")


class _Unwritten(RawCheckpoint):
    """A checkpoint that is no file yet."""

    def __init__(self, name: str, content: Any) -> None:
        super().__init__(Path(name), "", 0, {"kind": "TorchZip", "warnings": [], "foreign": []})
        self._content = content

    def tree(self) -> Any:
        return self._content


def to_legacy(name: str, method: Method, metadata: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """Return the official layout, with DataParallel's prefix, as the official scripts save it, and notes for the user.

    Args:
        name: a key of ``FORMATS``.
        method: the network.
        metadata: of its file.

    Raises:
        UsageError: the layout cannot hold this network, or what it holds predicts something else.
    """
    form = FORMATS[name]
    if metadata["method"] != form.method and not _is_plain(form, method):
        raise UsageError(f"a model of {metadata['method']} cannot be written as {name}")
    if json.loads(metadata["method_options"]).get("branches") == 2:
        raise UsageError("the official code needs the third branch, which was left out")
    counts, names = (json.loads(metadata[key]) for key in ("class_counts", "class_names"))
    numbering = Numbering("auto" if counts else "file")
    order = number_classes(numbering, form.numbering, None, counts, len(counts or names)).class_map
    content = _write(name, method, json.loads(metadata["backbone"])["name"], order)
    options, notes = _told(name, method, metadata)
    _check_same(
        content, Request(form=name, class_counts=counts, numbering=numbering, options=options), method, metadata
    )
    if method.training_only:
        notes.append("what only training needs is as fresh unless the file held it")
    return content, notes + _describe_order(form, metadata)


def _is_plain(form: Format, method: Method) -> bool:
    """Whether format and method both predict by one linear layer called fc."""
    layer = dict(method.named_children()).get("fc")
    return form.method in ("ce", "bagmar") and method.classifier_name == "fc" and type(layer) is nn.Linear


def _write(name: str, method: Method, backbone: str, class_map: IntArray | None) -> dict[str, Any]:
    form = FORMATS[name]
    entries: OrderedDict[str, Tensor] = OrderedDict()
    for key, value in method.state_dict().items():
        legacy = _legacy_key(form, key, backbone)
        if legacy is not None:
            entries[legacy] = _legacy_value(form, key, value, class_map)
    missing = explain(form, {key: tuple(value.shape) for key, value in entries.items()}).missing
    if missing:
        raise UsageError(f"this model lacks what {name} needs: {', '.join(missing)}")
    return _wrapped(name, entries, _official_arch(backbone))


def _told(name: str, method: Method, metadata: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """The option that no file of a format carries, and how the user passes it on."""
    option = _TOLD.get(name)
    if option is None:
        return {}, []
    value = _options(method, metadata)[option]
    again = f"convert back with --set {option}={value}"
    if option == "gamma":
        return {option: value}, [f"the file cannot carry gamma: evaluate with --gamma {value}; {again}"]
    scaled = [f"the official model gives bare cosines, ltk's logits are {value:g} times these: {again}"]
    return {option: value}, scaled if value != 1 else []


def _options(method: Method, metadata: Mapping[str, str]) -> dict[str, Any]:
    """The options of a method, defaults with them."""
    return type(method).Options.model_validate(json.loads(metadata["method_options"])).model_dump()


def _describe_order(form: Format, metadata: Mapping[str, str]) -> list[str]:
    """Which order the rows of the classifier are in, where that is a question."""
    if form.numbering == "data set":
        moved = json.loads(metadata.get("source", "{}")).get("class_map") is not None
        return ["rows are in the data set's class order, not in that of the first file"] if moved else []
    if json.loads(metadata["class_counts"]) is None:
        return ["the class counts are not known, so rows stay as they are: convert back with --class-order file"]
    note = f"rows are {form.numbering} by training images, as the official code numbers the classes"
    return [f"{note}; convert back with the same counts (--dataset or --class-counts)"]


def _check_same(content: Any, request: Request, method: Method, metadata: Mapping[str, str]) -> None:
    """Convert the layout back and compare logits.

    Raises:
        UsageError: it cannot be read, or it predicts something else.
    """
    hint = "Export the features (--to timm-features), or keep ltk's own file."
    try:
        back = convert_raw(_Unwritten(f"legacy-{request.form}", content), request)
    except DataError as error:
        raise UsageError(f"a model of {metadata['method']} cannot be written as {error.message}", hint) from error
    image, num_classes = ImageSpec.from_json(json.loads(metadata["image"])), back.recognition.num_classes
    wanted, given = (check_forward(each, num_classes, image, finite=False) for each in (method, back.method))
    if agree(given, wanted):
        return
    fault = f"a {request.form} file of this model would predict something else"
    if type(back.method) is type(method):
        ours, theirs = _options(method, metadata), _options(back.method, back.metadata)
        differing = [name for name in _EVALUATION if ours.get(name) != theirs.get(name)]
        fault += "".join(f"; it has {name}={ours[name]}, the official code {theirs[name]}" for name in differing)
    raise UsageError(fault, hint)


def _legacy_key(form: Format, key: str, backbone: str) -> str | None:
    for legacy, ours in form.renames.items():
        if key == ours or key.startswith(ours + "."):
            return legacy + key.removeprefix(ours)
    for prefix, trunk in form.trunks.items():
        if key.startswith(trunk + "."):
            style = form.method if backbone.startswith("cifar_stem") else ""
            return prefix + legacy_name(key.removeprefix(trunk + "."), style)
    return None


def _legacy_value(form: Format, key: str, value: Tensor, class_map: IntArray | None) -> Tensor:
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
