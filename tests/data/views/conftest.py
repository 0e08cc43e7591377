"""Images with edges and gradients, and two that are degenerate."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

B = 48


@pytest.fixture(scope="module")
def images() -> Tensor:
    generator = torch.Generator().manual_seed(2)
    coarse = torch.rand(B, 3, 6, 6, generator=generator)
    noise = torch.rand(B, 3, 32, 32, generator=generator)
    smooth = F.interpolate(coarse, (32, 32), mode="bicubic").clamp(0, 1)
    mixed = (220 * smooth + 25 * noise + 5).to(torch.uint8)
    mixed[0] = 77  # one colour: no contrast to stretch, nothing to equalize
    mixed[1] = mixed[1, :1]  # grey: equal to its own luma
    return mixed
