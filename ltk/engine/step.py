"""One optimisation step: forward, backward, clip, update, what the method does after."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.profiler import record_function

from ltk import distributed
from ltk.engine.average import WeightAverage
from ltk.engine.device import create_autocast
from ltk.engine.parallel import distribute
from ltk.methods.base import Method
from ltk.types import Batch, Progress, StepOutput


class TrainStep:
    """Runs steps without ever waiting for the device.

    A loss or gradient that is not finite changes no parameter: the fused optimiser is told on the device to skip the
    update, ``first_bad`` remembers the update's number until the host asks, and ``num_bad`` counts. In fp16 gradients
    that overflow are left out while the scaler looks for a scale, and are bad only where it has come below 1:
    ``num_left_out`` counts all updates that were not made.

    Args:
        method: its ``forward`` is the step.
        optimizer: a fused optimiser.
        precision: fp32, bf16 or fp16.
        device: where the parameters are.
        clip: largest gradient norm, 0 for none.
        undo_bad: also take back what a step that is not finite did to the method's buffers and to the parameters it
            updates itself, so that training can go on.
        average: follows the weights.

    Attributes:
        forward: the method's forward; its compiled form may take its place.
    """

    def __init__(
        self,
        method: Method,
        optimizer: Optimizer,
        *,
        precision: str,
        device: torch.device,
        clip: float,
        undo_bad: bool = False,
        average: WeightAverage | None = None,
    ) -> None:
        self.method, self.optimizer, self.clip, self.undo_bad = method, optimizer, clip, undo_bad
        self.average = average
        self.forward: Callable[[Mapping[str, Batch], Progress], StepOutput] = distribute(method)
        self._autocast = create_autocast(precision, device)
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
        self.first_bad = torch.full((), -1, dtype=torch.int64, device=device)
        self.num_bad, self.num_left_out = (torch.zeros((), dtype=torch.int64, device=device) for _ in range(2))
        self.finite = torch.ones((), dtype=torch.bool, device=device)
        self._one = torch.ones((), device=device)
        self._parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self._trained = {id(p) for p in self._parameters}

    def __call__(self, batches: Mapping[str, Batch], progress: Progress, update: int | Tensor) -> StepOutput:
        """Run one step.

        Args:
            batches: one batch per stream of the method.
            progress: where training stands.
            update: number of this update, from 0; in a captured step a 0-dim int64 tensor.
        """
        before = [value.clone() for value in self._untrained()]
        self.optimizer.zero_grad(set_to_none=True)
        with record_function("ltk.forward"), self._autocast():
            output = self.forward(batches, progress)
        with record_function("ltk.backward"):
            self.scaler.scale(output.loss).backward()
        with record_function("ltk.update"):
            self.finite.copy_(distributed.all_true(torch.isfinite(output.loss.detach())))
            self._update(self._clip(), update)
            self.method.after_step()
            for now, earlier in zip(self._untrained(), before, strict=True):
                now.copy_(torch.where(self.finite, now, earlier))
            if self.average:
                self.average.update()
        return output

    def forget_bad(self) -> None:
        """Look out for the next step that is not finite."""
        self.first_bad.fill_(-1)

    def tensors(self) -> dict[str, Tensor]:
        """Return the counts for a checkpoint."""
        return {"num_bad": self.num_bad, "num_left_out": self.num_left_out}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Count on from those of a checkpoint; older ones hold ``num_bad`` alone."""
        for name, count in self.tensors().items():
            count.copy_(tensors.get(name, tensors["num_bad"]))

    def _untrained(self) -> list[Tensor]:
        """What the method changes itself: buffers, momentum encoders."""
        if not self.undo_bad:
            return []
        state = (*self.method.parameters(), *self.method.buffers())
        return [value.detach() for value in state if id(value) not in self._trained]

    def _clip(self) -> Tensor:
        """Clip the gradients and return whether they are finite."""
        if self.scaler.is_enabled():
            self.scaler.unscale_(self.optimizer)
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        if self.clip:
            torch.nn.utils.clip_grads_with_norm_(self._parameters, self.clip, norm)
        return torch.isfinite(norm)

    def _update(self, gradients_finite: Tensor, update: int | Tensor) -> None:
        made = self.finite & gradients_finite
        if self.scaler.is_enabled():
            gradients_finite = gradients_finite | (self.scaler.scale(self._one) >= 1)
        self.finite.logical_and_(gradients_finite)
        is_first = (self.first_bad < 0) & ~self.finite
        self.first_bad.add_(is_first * (update - self.first_bad))  # torch.where would copy a number from the host
        self.num_bad.add_(~self.finite)
        self.num_left_out.add_(~made)
        self.optimizer.found_inf = (~made).float()  # type: ignore[attr-defined]  # the fused kernels read it
        self.optimizer.step()
        self.scaler.update()
