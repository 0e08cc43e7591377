"""What a backbone does not take is said before training."""

from __future__ import annotations

import pytest

from ltk.errors import UsageError
from ltk.models.backbones import create_backbone


@pytest.mark.parametrize("name", ["cifar_resnet8", "resnet10t"])
def test_unknown_options_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match=r"does not take these options.*'foo'"):
        create_backbone(name, foo=3)


def test_sizes_that_the_patches_do_not_divide_are_refused() -> None:
    assert create_backbone("test_vit", image_size=32).num_features == 64
    with pytest.raises(UsageError, match="no images of 40 pixels"):
        create_backbone("test_vit", image_size=40)


@pytest.mark.parametrize("width", [1, 5])
def test_widths_that_the_shortcuts_cannot_double_are_refused(width: int) -> None:
    with pytest.raises(UsageError, match=f"an even width, not {width}"):
        create_backbone("cifar_resnet8", width=width)
