"""How a network is described in the metadata of its file, and rebuilt from it: by a file that may come from a stranger.

A description says which network, never where to fetch something. Before memory is taken for the network, its shapes are
compared with the tensors that are there, and building it ends when it has more modules than they can be of.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING, Annotated, Any, Self, cast

import torch
from pydantic import Field, ValidationError, model_validator
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)

from ltk.errors import DataError, UnsafeError, UsageError
from ltk.settings import Settings, first_fault

if TYPE_CHECKING:
    from ltk.methods.base import Method

# Arguments of timm that fetch weights or name files; a file of ltk brings its weights along.
_FETCHING = {"pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir"}
_GIVEN = {"name", "in_chans", "image_size", "num_classes"}  # arguments that stand elsewhere in a description
_MOST_FOR_TRAINING = 64_000_000  # numbers of a network that inference does not need (queue, second encoder), beside
_TIMES_STORED = 8  # these many for each one that the file holds
_ALWAYS_REGISTERED = 1000  # modules and parameters, counted anew in each module that holds them, beside
_REGISTERED_PER_TENSOR = 100  # these many for each tensor of the file; timm's networks and every method stay below 40
_LARGEST_OPTION = 1 << 16  # a backbone with a larger width, depth or image is none

Count = Annotated[int, Field(ge=1, le=1 << 40)]


class _Backbone(Settings):
    name: str
    options: dict[str, bool | int | float | str | list[int] | None] = Field({})


class _Image(Settings):
    size: int = Field(ge=1, le=4096)
    stored: int | None = Field(None, ge=1, le=8192)
    channels: int = Field(ge=1, le=1024)
    mean: list[float]
    std: list[Annotated[float, Field(gt=0)]]

    @model_validator(mode="after")
    def _one_per_channel(self) -> Self:
        if not len(self.mean) == len(self.std) == self.channels:
            raise ValueError("one mean and one std for each channel")
        return self


class Description(Settings):
    """Which network a file holds; the fields are those of ``describe_model``."""

    method: str
    method_options: dict[str, Any]
    backbone: _Backbone
    class_counts: list[Count] | None
    class_names: list[str] | None
    image: _Image

    @model_validator(mode="after")
    def _some_classes(self) -> Self:
        numbers = {len(part) for part in (self.class_counts, self.class_names) if part is not None}
        if len(numbers) != 1 or 0 in numbers:
            raise ValueError("class_counts and class_names are of no or of different classes")
        return self

    @property
    def counts(self) -> list[int]:
        """Training images of each class; ones where they are not known."""
        return self.class_counts or [1] * len(self.class_names or ())


def describe_model(
    *,
    method: str,
    method_options: Mapping[str, Any],
    backbone: Mapping[str, Any],
    class_counts: list[int] | None,
    class_names: list[str] | None,
    image: Mapping[str, Any],
) -> dict[str, str]:
    """Return the metadata from which ``ltk.checkpoint.load_model`` rebuilds a network.

    Args:
        method: a key of ``METHODS``.
        method_options: its options.
        backbone: ``{"name": ..., "options": {...}}`` for ``create_backbone``; where weights were fetched is left out.
        class_counts: training images of each class, if known.
        class_names: names of the classes, if known.
        image: ``{"size": pixels, "mean": [...], "std": [...], "channels": 3}``.
    """
    parts = {
        "method_options": method_options,
        "backbone": describe_backbone(backbone["name"], backbone.get("options", {})),
        "class_counts": class_counts,
        "class_names": class_names,
        "image": image,
    }
    return {"method": method} | {name: json.dumps(value) for name, value in parts.items()}


def describe_backbone(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return how a file describes its backbone: by name and arguments, without where weights were fetched."""
    return {"name": name, "options": {key: value for key, value in options.items() if key not in _FETCHING}}


def read_description(metadata: Mapping[str, str]) -> Description:
    """Return what a file says of its network, checked.

    Raises:
        DataError: incomplete, or with values that no network has.
        UnsafeError: it would have something fetched or imported.
    """
    try:
        parts = {name: json.loads(metadata[name]) for name in Description.model_fields if name != "method"}
        described = Description.model_validate({"method": metadata["method"], **parts})
    except ValidationError as error:
        raise DataError(f"the file does not describe its network: {first_fault(error)[:200]}") from error
    except (KeyError, ValueError, RecursionError) as error:
        raise DataError(f"the file does not describe its network: {error!r}"[:200]) from error
    options = described.backbone.options.keys()
    if options & _FETCHING:
        raise UnsafeError(f"the file asks for weights from elsewhere ({', '.join(sorted(options & _FETCHING))})")
    if options & _GIVEN:
        raise DataError(f"the file describes its network in two ways ({', '.join(sorted(options & _GIVEN))})")
    for name, value in described.backbone.options.items():
        numbers = value if isinstance(value, list) else [value]
        if any(isinstance(number, int) and abs(number) > _LARGEST_OPTION for number in numbers):
            raise DataError(f"the file describes a network that cannot be: {name}={str(value)[:40]}")
    _check_trusted(described.method)
    return described


def build_from_metadata(metadata: Mapping[str, str], tensors: Mapping[str, Tensor] | None = None) -> Method:
    """Build the network a file describes, with fresh weights.

    Args:
        metadata: of the file.
        tensors: those it holds for the network; compared with the description before the network is built.

    Raises:
        DataError: the description is incomplete, or of another network than that of the tensors.
        UnsafeError: it would have something fetched or imported.
    """
    described = read_description(metadata)
    if tensors is not None:
        _compare(described, tensors)
    try:
        return _create(described, tensors)
    except (UsageError, ValidationError) as error:
        hint = error.hint if isinstance(error, UsageError) else ""
        fault = error.message if isinstance(error, UsageError) else first_fault(error)[:200]
        raise DataError(f"the network that the file describes cannot be built: {fault}", hint) from error


def _create(described: Description, tensors: Mapping[str, Tensor] | None) -> Method:
    from ltk.methods import create_method
    from ltk.models.backbones import create_backbone

    image, options = described.image, cast("dict[str, Any]", described.backbone.options)
    with nullcontext() if tensors is None else _bounded(len(tensors)):
        net = create_backbone(described.backbone.name, in_chans=image.channels, image_size=image.size, **options)
        counts = torch.tensor(described.counts, device="cpu")
        return create_method(described.method, net, counts, **described.method_options)


@contextmanager
def _bounded(stored: int) -> Iterator[None]:
    """End the building of a network that registers far more than a file's tensors ask for.

    Args:
        stored: tensors in the file.

    Raises:
        DataError: it went on.
    """
    left = _ALWAYS_REGISTERED + _REGISTERED_PER_TENSOR * stored

    def count(_: nn.Module, __: str, value: Any) -> None:
        nonlocal left
        left -= sum(1 for _ in value.modules()) if isinstance(value, nn.Module) else 1
        if left < 0:
            raise DataError(f"the file holds {stored} tensors and describes a network of far more")

    with ExitStack() as hooks:
        for register in (register_module_module_registration_hook, register_module_parameter_registration_hook):
            hooks.callback(register(count).remove)
        yield


def _compare(described: Description, tensors: Mapping[str, Tensor]) -> None:
    """Plan the network without memory for it, and compare its shapes with the tensors."""
    stored = sum(value.numel() for value in tensors.values())
    if len(described.counts) > stored:
        raise DataError(f"the file describes {len(described.counts)} classes and holds {stored} numbers")
    try:
        with torch.device("meta"):
            network = _create(described, tensors)
    except DataError:
        raise
    except Exception:  # some networks cannot be planned so; if it is the description's fault, building will tell
        return
    planned = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    needed = {name: shape for name, shape in planned.items() if name in network.inference_state()}
    missing = sorted(needed.keys() - tensors.keys())
    unexpected = sorted(tensors.keys() - planned.keys())
    other = [name for name in tensors if name in planned and tuple(tensors[name].shape) != planned[name]]
    if missing or unexpected or other:
        raise DataError(
            "the file does not fit its own description: "
            f"missing {missing[:3]}, unexpected {unexpected[:3]}, of another shape {other[:3]}"
        )
    asked = sum(value.numel() for value in network.state_dict().values())
    if asked > _TIMES_STORED * stored + _MOST_FOR_TRAINING:
        raise DataError(f"the file holds {stored} numbers of a network of {asked}")


def _check_trusted(method: str) -> None:
    """Refuse to import a module because a file names it; one that the user named is loaded, or in LTK_TRUST."""
    module, outside, _ = method.partition(":")
    if outside and module not in {*sys.modules, *os.environ.get("LTK_TRUST", "").split(",")}:
        raise UnsafeError(
            f"the file asks for a method outside ltk: {method}", f"If you trust that module: LTK_TRUST={module} ltk ..."
        )
