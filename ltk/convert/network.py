"""Build the network that a file was recognised as."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import ValidationError

from ltk.config_text import explain as explain_fault
from ltk.convert.detect import Recognition
from ltk.data.image import ImageSpec
from ltk.errors import DataError
from ltk.methods import create_method, get_method_class
from ltk.methods.base import Method
from ltk.models.backbones import create_backbone

_MOST_PER_STORED, _ALWAYS_ALLOWED = 3, 4_000_000


def create_network(
    recognition: Recognition, options: dict[str, Any], counts: tuple[int, ...] | None, image: ImageSpec, stored: int
) -> Method:
    """Return the network a file was recognised as, with fresh values.

    They come from a fixed seed: what a partial file leaves random is at least always the same.

    Args:
        recognition: of the file.
        options: of the method.
        counts: training images of each class, if known.
        image: size and channels.
        stored: numbers in the file.

    Raises:
        DataError: the file asks for a network much larger than itself.
        UsageError: an unknown or ill-typed option.
    """
    _refuse_too_large(recognition, image, stored)
    spec, name = recognition.backbone, recognition.form.method
    ones = (1,) * recognition.num_classes
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            backbone = create_backbone(spec.name, in_chans=spec.in_chans, image_size=image.size, **spec.options)
            return create_method(name, backbone, torch.tensor(counts or ones), **options)
    except ValidationError as error:
        raise explain_fault(error, get_method_class(name).Options, "--set") from error


def _refuse_too_large(recognition: Recognition, image: ImageSpec, stored: int) -> None:
    """Compare what the names of a file ask for with what it holds."""
    spec = recognition.backbone
    experts = len({name.split(".")[2] for name in recognition.explanation.targets.values() if ".experts." in name})
    with torch.device("meta"):
        backbone = create_backbone(spec.name, in_chans=spec.in_chans, image_size=image.size, **spec.options)
    asked = max(experts, 1) * sum(value.numel() for value in backbone.state_dict().values())
    if asked > _MOST_PER_STORED * stored + _ALWAYS_ALLOWED:
        raise DataError(f"the file holds {stored} numbers of a network of {asked}", "Is the rest in another file?")
