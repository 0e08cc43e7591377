"""The optimisation step: clipping, skipping a loss that is not finite, the state of the optimiser."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn

from ltk.config import OptimSettings
from ltk.engine.optim import create_optimizer, load_optimizer_tensors, optimizer_tensors
from ltk.engine.step import TrainStep
from ltk.methods.base import Method
from ltk.types import Batch, Progress, StepOutput


class Quadratic(Method):
    """The loss is the squared distance of a weight to the images' mean, times the first label."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.weight = nn.Parameter(torch.ones(4))

    def forward(self, batches: Mapping[str, Batch], progress: Progress) -> StepOutput:
        batch = batches["main"]
        loss = ((self.weight - batch.views[0].mean()) ** 2).sum()
        return StepOutput(loss, torch.zeros(len(batch.target_B), 2))

    def predict(self, x_BCHW: Tensor) -> Tensor:
        return x_BCHW.flatten(1)


def create_step(settings: OptimSettings | None = None) -> tuple[Quadratic, TrainStep]:
    method = Quadratic()
    settings = settings or OptimSettings(lr=0.1, momentum=0.9, weight_decay=0)
    optimizer = create_optimizer(settings, method.parameters())
    step = TrainStep(method, optimizer, precision="fp32", device=torch.device("cpu"), clip=settings.clip)
    return method, step


def create_batch(value: float) -> dict[str, Batch]:
    index = torch.arange(2)
    return {"main": Batch((torch.full((2, 1, 2, 2), value),), index, index, index)}


PROGRESS = Progress(torch.zeros(()), 1, torch.zeros((), dtype=torch.int64))


def test_one_step_is_gradient_descent() -> None:
    method, step = create_step()
    step(create_batch(0.0), PROGRESS, 0)
    assert torch.allclose(method.weight, torch.full((4,), 0.8))


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_loss_that_is_not_finite_changes_nothing_and_is_remembered(optimizer: str) -> None:
    method, step = create_step(OptimSettings.model_validate({"optimizer": optimizer, "lr": 0.1}))
    step(create_batch(0.0), PROGRESS, 0)
    before = method.weight.detach().clone()
    for update, value in ((1, float("nan")), (2, float("inf"))):
        step(create_batch(value), PROGRESS, update)
    assert torch.equal(method.weight, before)
    assert int(step.first_bad) == 1


def test_clipping_bounds_the_step() -> None:
    method, step = create_step(OptimSettings(lr=1.0, momentum=0, weight_decay=0, clip=0.5))
    step(create_batch(100.0), PROGRESS, 0)
    assert float((method.weight - 1).norm().detach()) == pytest.approx(0.5, rel=1e-4)


def test_optimiser_state_takes_the_layout_of_its_parameter() -> None:
    def create(layer: nn.Module) -> torch.optim.Optimizer:
        return create_optimizer(OptimSettings(lr=0.1), layer.parameters())

    torch.manual_seed(0)
    layer = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = create(layer)
    x = torch.randn(2, 3, 8, 8)
    layer(x).square().sum().backward()
    optimizer.step()
    saved = {name: value.clone().contiguous() for name, value in optimizer_tensors(optimizer).items()}
    twin = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    twin.load_state_dict(layer.state_dict())
    restored = create(twin)
    load_optimizer_tensors(restored, saved)
    for module, each in ((layer, optimizer), (twin, restored)):
        each.zero_grad()
        module(x).square().sum().backward()
        each.step()
    assert torch.equal(layer.weight, twin.weight)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_weight_decay_shortens_what_has_no_gradient(optimizer: str) -> None:
    """AdamW's is apart from the gradient (Loshchilov and Hutter 2019); at gradient 0 both take lr * decay away."""
    settings = {"optimizer": optimizer, "lr": 0.1, "momentum": 0.9, "weight_decay": 0.5}
    method, step = create_step(OptimSettings.model_validate(settings))
    step(create_batch(1.0), PROGRESS, 0)  # the weights stand where the loss is least
    torch.testing.assert_close(method.weight.detach(), torch.full((4,), 0.95))
