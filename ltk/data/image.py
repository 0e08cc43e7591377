"""What a network is fed: size, channels and normalisation of images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from ltk.data.base import Source
from ltk.errors import UsageError


@dataclass(frozen=True)
class ImageSpec:
    """Size and normalisation of the images of a run.

    Attributes:
        size: side in pixels of a view.
        stored: side in pixels at which images are kept; larger than ``size`` where views crop.
        channels: 1 grey, 3 colour.
        mean: per channel, of images in [0, 1].
        std: likewise, each > 0.
    """

    size: int
    stored: int
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def as_json(self) -> dict[str, Any]:
        """Return a JSON-able mapping."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        """Read what ``as_json`` gave; a missing stored size is the size."""
        mean, std = tuple(value["mean"]), tuple(value["std"])
        return cls(value["size"], value.get("stored", value["size"]), value["channels"], mean, std)


def resolve_image(
    source: Source,
    size: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> ImageSpec:
    """Return the image specification of a run: what is given, else what the data set says.

    Raises:
        UsageError: a mean or std whose length is not the number of channels, or a std that is not positive.
    """
    native = source.native_size
    chosen = size or native
    stored = round(source.stored_size * chosen / native)
    for name, value in (("mean", mean), ("std", std)):
        if value is not None and len(value) != source.channels:
            raise UsageError(f"data.{name} has {len(value)} values, the images have {source.channels} channels")
    if std is not None and min(std) <= 0:
        raise UsageError("data.std must be positive in every channel")
    return ImageSpec(chosen, stored, source.channels, tuple(mean or source.mean), tuple(std or source.std))
