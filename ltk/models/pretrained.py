"""Weights of a local file for a backbone that timm has none for, or that ltk trained."""

from __future__ import annotations

from pathlib import Path
from pickle import UnpicklingError

from safetensors import SafetensorError, safe_open
from timm.models import load_state_dict
from torch import Tensor, nn

from ltk.errors import DataError

_OURS = "backbone.net."  # where a model file of ltk keeps its backbone


def is_model_file(path: Path) -> bool:
    """Whether a file is a model of ltk's, whose backbone can be taken."""
    try:
        with safe_open(path, framework="pt") as file:
            return any(name.startswith(_OURS) for name in file.keys())  # noqa: SIM118 - not a mapping
    except (OSError, SafetensorError):
        return False


def load_weights(net: nn.Module, path: Path) -> None:
    """Load a model file of ltk, or a state dict, into a network; a classifier in the file is left out.

    Args:
        net: a timm model created with ``num_classes=0``.
        path: safetensors, or what ``torch.save`` wrote; nothing in it is executed.

    Raises:
        DataError: not readable, or of another network; the first tensors that do not fit are named.
    """
    try:
        stored = load_state_dict(str(path))
    except (OSError, RuntimeError, ValueError, KeyError, EOFError, UnpicklingError, SafetensorError) as error:
        raise DataError(
            f"cannot read the weights {path}: {str(error).strip().partition(chr(10))[0] or type(error).__name__}",
            "Give safetensors or a plain state dict; an old checkpoint goes through ltk convert first.",
        ) from error
    own = {name.removeprefix(_OURS): value for name, value in stored.items() if name.startswith(_OURS)} or stored
    wanted = net.state_dict()
    faults = [fault for name, value in wanted.items() if (fault := _compare(name, value, own.get(name)))]
    if faults:
        raise DataError(
            f"{path} holds another network: {len(faults)} of {len(wanted)} tensors do not fit: {'; '.join(faults[:3])}",
            "Set model.backbone, model.width and model.options to what it was trained with.",
        )
    net.load_state_dict({name: own.get(name, value) for name, value in wanted.items()})


def _compare(name: str, wanted: Tensor, found: Tensor | None) -> str:
    """What is wrong with a tensor, or nothing; old files do not count batches."""
    if found is None:
        return "" if name.endswith("num_batches_tracked") else f"{name} is missing"
    shape, own = tuple(wanted.shape), tuple(found.shape)
    return "" if shape == own else f"{name} is {own}, not {shape}"
