"""Move the tensors of a recognised file into a fresh network of ltk, one by one, on the record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ltk.convert.accounting import Account, Fate, row_of
from ltk.convert.detect import Recognition
from ltk.convert.parts import Entry
from ltk.convert.reader.values import on_one_line
from ltk.data.base import IntArray
from ltk.errors import DataError
from ltk.methods.base import Method

_COUNTERS = ("num_batches_tracked", "queue.pointer")  # one whole number, which some codes keep as a float or a list


@dataclass(frozen=True)
class Rules:
    """How tensors change on their way.

    Attributes:
        branches: of ResLT's block; 2 leaves out the third part.
        class_map: number in the file of each class of the data set; None leaves the rows as they are.
        training_state: keep what only training needs.
        partial: leave random what the file does not fill.
    """

    branches: int = 3
    class_map: IntArray | None = None
    training_state: bool = False
    partial: bool = False


def transfer(entries: Mapping[str, Entry], recognition: Recognition, method: Method, rules: Rules) -> Account:
    """Fill a network from a file.

    Args:
        entries: the file's tensors, by its own names.
        recognition: what they are.
        method: a fresh network of that kind; its values are what stays random.
        rules: how tensors change.

    Raises:
        DataError: tensors that do not fit, or that are missing, unless ``rules.partial``.
    """
    account, state = Account(), method.state_dict()
    training = method.training_only or ("\0",)
    faults: list[str] = []
    for name, entry in entries.items():
        target = recognition.explanation.targets.get(name)
        fate: Fate = "kept aside" if target is not None and target.startswith(training) else "mapped"
        reason = _reason_to_ignore(name, target, recognition, fate, rules, state)
        if target is None or reason:
            account.rows.append(row_of(entry.path, entry.tensor, "", "ignored", reason))
            continue
        tensor, note = _changed(target, entry.tensor, recognition, rules)
        fault = _fault(target, tensor, state)
        if fault:
            faults.append(f"{entry.path} {fault}")
            account.rows.append(row_of(entry.path, entry.tensor, "", "ignored", fault))
        else:
            account.tensors[target] = tensor
            account.rows.append(row_of(entry.path, entry.tensor, target, fate, note))
    _complete(account, state, training, rules)
    faults += [f"{name} is in no part of the file" for name in account.random]
    if faults and not rules.partial:
        raise DataError(
            _summary(faults), "Is it another architecture (--arch)? --allow-partial leaves the rest random."
        )
    return account


def _reason_to_ignore(
    name: str, target: str | None, recognition: Recognition, fate: Fate, rules: Rules, state: Mapping[str, Tensor]
) -> str:
    if target is None:
        return recognition.explanation.ignored.get(name, "unknown to the format")
    if fate == "kept aside" and not rules.training_state:
        return "needed in training alone; kept with --training-state"
    if fate == "kept aside" and target not in state:
        return "training state that ltk's method does not have"
    return ""


def _changed(target: str, tensor: Tensor, recognition: Recognition, rules: Rules) -> tuple[Tensor, str]:
    """Bring a tensor into ltk's form; a note says how."""
    classifier, notes = recognition.form.classifier, []
    if recognition.form.cosine and target == f"{classifier}.weight" and tensor.ndim == 2:
        tensor, notes = tensor.t(), ["transposed"]
    if target.endswith(_COUNTERS) and tensor.numel() == 1 and tensor.isreal().all() and tensor.isfinite().all():
        tensor = tensor.reshape(()).to(torch.int64)
    if rules.branches == 2 and target.startswith("branches.") and tensor.ndim and len(tensor) % 3 == 0:
        tensor = tensor[: len(tensor) // 3 * 2]
        notes.append("first two of three branches")
    if rules.class_map is not None and target.startswith(classifier + "."):
        tensor = tensor[torch.from_numpy(rules.class_map)]
        notes.append("rows in the data set's class order")
    return tensor.contiguous(), ", ".join(notes)


def _fault(target: str, tensor: Tensor, state: Mapping[str, Tensor]) -> str:
    """Why a tensor cannot be put where it belongs; empty when it can."""
    wanted = state.get(target)
    if wanted is None:
        return f"belongs to {target}, which this network does not have"
    if wanted.shape != tensor.shape:
        return f"has shape {tuple(tensor.shape)}, {target} needs {tuple(wanted.shape)}"
    if wanted.is_floating_point() != tensor.is_floating_point() or tensor.is_complex():
        return f"holds {str(tensor.dtype).removeprefix('torch.')}, {target} needs {wanted.dtype}"
    return ""


def _complete(account: Account, state: Mapping[str, Tensor], training: tuple[str, ...], rules: Rules) -> None:
    """Fill what old files lack and can only be zero; everything else stays random and is named."""
    for name, value in state.items():
        if name in account.tensors or name.startswith(training):
            continue
        if name.endswith("num_batches_tracked"):
            account.tensors[name] = torch.zeros_like(value)
            account.filled.append(name)
        else:
            account.random.append(name)
            if rules.partial:
                account.tensors[name] = value.clone()


def _summary(faults: list[str]) -> str:
    shown = "; ".join(on_one_line(fault, 200) for fault in faults[:3])
    more = f"; and {len(faults) - 3} more" if len(faults) > 3 else ""
    return f"{len(faults)} tensors do not fit: {shown}{more}"
