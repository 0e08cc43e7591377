"""A training step of PaCo, GPaCo and ResLT never reads a tensor's value on the host."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode  # the only hook that sees every operator

from ltk.methods.base import Method
from ltk.methods.gpaco import GPaCo
from ltk.methods.paco import PaCo
from ltk.methods.reslt import ResLT
from ltk.models.backbones import create_backbone
from ltk.types import StepOutput

COUNTS = torch.tensor([50, 20, 8, 3])
# A value read on the host, and results whose size depends on values.
READS = {
    torch.ops.aten._local_scalar_dense.default,
    torch.ops.aten.nonzero.default,
    torch.ops.aten.masked_select.default,
    torch.ops.aten.equal.default,
}


class RefuseReads(TorchDispatchMode):
    """Fails at the operator that would make the host wait."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func not in READS, func
        return func(*args, **(kwargs or {}))


METHODS: list[tuple[type[Method], dict[str, Any]]] = [
    (PaCo, {"queue_size": 16}),
    (PaCo, {"queue_size": 16, "virtual_gpus": 2, "queue_init": "empty"}),
    (GPaCo, {"queue_size": 16}),
    (GPaCo, {"queue_size": 16, "objective": "multitask"}),
    (ResLT, {}),
    (ResLT, {"form": "block", "experts": 2}),
]


@pytest.mark.parametrize(("method_class", "options"), METHODS)
def test_no_step_waits(method_class: Any, options: dict[str, Any], step: Callable[..., StepOutput]) -> None:
    method = method_class(create_backbone("cifar_resnet8", width=4), COUNTS, **options).train()
    with RefuseReads():  # type: ignore[no-untyped-call]
        step(method, len(COUNTS)).loss.backward()  # type: ignore[no-untyped-call]
        method.after_step()


def test_a_read_is_noticed() -> None:
    with RefuseReads(), pytest.raises(AssertionError, match="_local_scalar_dense"):  # type: ignore[no-untyped-call]
        torch.ones(()).item()
