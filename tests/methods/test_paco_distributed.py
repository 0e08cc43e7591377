"""PaCo on two processes: the queue is common, keys come back in order, and the gradient is that of two virtual GPUs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from ltk.draws import make_key
from ltk.methods.gpaco import GPaCo
from ltk.methods.paco import PaCo
from ltk.models.backbones import create_backbone
from ltk.types import Batch, Progress

COUNTS = torch.tensor([50, 20, 8, 3])


def create(name: str, **options: Any) -> PaCo | GPaCo:
    """A method whose keys do not depend on the batch, so that the shuffle must cancel out."""
    torch.manual_seed(0)
    backbone = create_backbone("cifar_resnet8", width=4)
    if name == "gpaco":
        return GPaCo(backbone, COUNTS, embedding=5, queue_size=16).train()
    method = PaCo(backbone, COUNTS, embedding=5, queue_size=16, **options).train()
    method.key_backbone.eval()
    method.key_projector.eval()
    return method


def step(method: torch.nn.Module, part: slice) -> Tensor:
    """Loss of one step on some of 12 images, with its gradients."""
    generator = torch.Generator().manual_seed(0)
    views = tuple(torch.randn(12, 3, 8, 8, generator=generator)[part] for _ in range(2))
    target_B = (torch.arange(12) % 4)[part]
    progress = Progress(torch.tensor(0.0), 10, make_key(0))
    loss: Tensor = method({"main": Batch(views, target_B, target_B, target_B)}, progress).loss
    loss.backward()  # type: ignore[no-untyped-call]
    return loss.detach()


def work(rank: int, folder: Path) -> None:
    """One of the two processes: a step of each method under DDP; what came out goes to a file."""
    meeting = f"file://{folder / 'meeting'}"
    torch.distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2)
    result = {}
    for name in ("paco", "gpaco"):
        method = create(name)
        result[f"{name}.loss"] = step(DistributedDataParallel(method), slice(6 * rank, 6 * rank + 6))
        result |= {f"{name}.queue.{key}": value for key, value in method.queue.state_dict().items()}
        gradients = {key: p.grad for key, p in method.named_parameters() if p.grad is not None}
        result |= {f"{name}.grad.{key}": gradient for key, gradient in gradients.items()}
    save_file({key: value.clone().contiguous() for key, value in result.items()}, folder / f"{rank}.safetensors")
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Tensor]]:
    folder = tmp_path_factory.mktemp("two")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    commands = [[sys.executable, __file__, str(rank), str(folder)] for rank in range(2)]
    workers = [subprocess.Popen(command, env=environment) for command in commands]
    assert [worker.wait(timeout=120) for worker in workers] == [0, 0]
    return [load_file(folder / f"{rank}.safetensors") for rank in range(2)]


def test_paco_equals_two_virtual_gpus(results: list[dict[str, Tensor]]) -> None:
    method = create("paco", virtual_gpus=2)
    loss = step(method, slice(None))
    torch.testing.assert_close((results[0]["paco.loss"] + results[1]["paco.loss"]) / 2, loss)
    for name, parameter in method.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(results[0][f"paco.grad.{name}"], parameter.grad, rtol=1e-4, atol=1e-5)
    for result in results:
        for name, value in method.queue.state_dict().items():
            torch.testing.assert_close(result[f"paco.queue.{name}"], value)


def test_gpaco_fills_one_queue(results: list[dict[str, Tensor]]) -> None:
    parts = [create("gpaco") for _ in range(2)]
    losses = [step(part, slice(6 * i, 6 * i + 6)) for i, part in enumerate(parts)]
    for result, loss in zip(results, losses, strict=True):
        torch.testing.assert_close(result["gpaco.loss"], loss)
        assert int(result["gpaco.queue.pointer"]) == 12
        keys = torch.cat([part.queue.keys_QE[:6] for part in parts])
        torch.testing.assert_close(result["gpaco.queue.keys_QE"][:12], keys)
        assert result["gpaco.queue.labels_Q"][:12].tolist() == [i % 4 for i in range(12)]


if __name__ == "__main__":
    work(int(sys.argv[1]), Path(sys.argv[2]))
