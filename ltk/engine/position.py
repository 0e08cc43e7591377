"""Where a run stands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from ltk.data.loaders import Loader


@dataclass
class Position:
    """Where a run stands: what a checkpoint's state holds.

    Attributes:
        epoch: the epoch to train next, from 0.
        step: the step of that epoch to train next.
        update: updates made so far.
        images: taken from each stream so far, over all processes.
        best: the best top-1 on the selection split so far.
        best_epoch: when that was; -1 before the first evaluation.
    """

    epoch: Annotated[int, Field(ge=0)] = 0
    step: Annotated[int, Field(ge=0)] = 0
    update: Annotated[int, Field(ge=0)] = 0
    images: Annotated[int, Field(ge=0)] = 0
    best: float = -1.0
    best_epoch: int = -1

    def advance(self, images: int) -> None:
        """Count a step with ``images`` images of each stream."""
        self.step += 1
        self.update += 1
        self.images += images

    def locate(self, update: int) -> tuple[int, int]:
        """Return epoch and step, from 0, of an update of the current epoch: how many an epoch has may have changed."""
        return self.epoch, self.step - (self.update - update)


def read_position(stored: Any, loader: Loader) -> Position:
    """Return the position in a checkpoint's state; older ones do not count images, then the loader tells how many.

    Raises:
        ValueError: it is none.
    """
    place = TypeAdapter(Position).validate_python(stored)
    if "images" not in stored:
        whole = min(loader.length, loader.steps * loader.batch_size)
        place.images = place.epoch * whole + place.step * loader.batch_size
    return place
