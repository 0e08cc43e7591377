"""Running sums of an epoch, kept on the device and read once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from ltk import distributed
from ltk.engine.journal import OWN_NAMES
from ltk.errors import UsageError
from ltk.types import StepOutput


class Meters:
    """Image-weighted means of the loss, its parts and the training accuracy, over all processes."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}

    def add(self, output: StepOutput, target_B: Tensor, counts: Tensor | None = None) -> None:
        """Count one step in; nothing is read from the device.

        Args:
            output: of the step.
            target_B: its labels.
            counts: 0-dim bool; a step that does not count leaves the sums as they are.

        Raises:
            UsageError: the method logs under a name of the run's own figures.
        """
        _check_names(output.logs)
        images = len(target_B)
        right = (output.logits_BK.argmax(dim=1) == target_B[: len(output.logits_BK)]).sum()
        parts = {"loss": output.loss.detach() * images, "train_top1": right, "images": torch.full_like(right, images)}
        parts |= {name: value * images for name, value in output.logs.items()}
        for name, value in parts.items():
            value = value.to(torch.float64)
            value = value if counts is None else torch.where(counts, value, torch.zeros_like(value))
            if name not in self._sums:
                self._sums[name] = torch.zeros_like(value)
            self._sums[name].add_(value)  # in place: a captured step adds to the tensors it was recorded with

    def means(self) -> dict[str, float]:
        """Return the means since the last reset; waits for the device."""
        if not self._sums:
            return {}
        values = dict(zip(sorted(self._sums), self._add_up().tolist(), strict=True))
        images = values.pop("images")
        return {name: value / images for name, value in values.items()} if images else {}

    def reset(self) -> None:
        """Start a new epoch."""
        for value in self._sums.values():
            value.zero_()

    def tensors(self) -> dict[str, Tensor]:
        """Return the sums over all processes for a checkpoint."""
        return dict(zip(sorted(self._sums), self._add_up().clone(), strict=True)) if self._sums else {}

    def load(self, tensors: Mapping[str, Tensor], device: torch.device) -> None:
        """Restore what ``tensors`` gave, once: on rank 0; the others count on from zero."""
        share = 1 if distributed.is_leader() else 0
        self._sums = {name: value.to(device, copy=True).mul_(share) for name, value in tensors.items()}

    def _add_up(self) -> Tensor:
        return distributed.add_up(torch.stack([self._sums[name] for name in sorted(self._sums)]))


def _check_names(logs: Iterable[str]) -> None:
    taken = [name for name in logs if name.partition("/")[0] in OWN_NAMES]
    if taken:
        raise UsageError(
            f"the method logs {', '.join(taken)}, which the run writes itself",
            f"Choose other names in StepOutput.logs than {', '.join(sorted(OWN_NAMES))}.",
        )
