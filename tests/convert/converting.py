"""Convert a legacy tree through files, as the command does, and compare logits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ltk.checkpoint import load_model
from ltk.convert.convert import Conversion, Request, convert_file, write_conversion
from tests.convert.legacy_models import Forward

TOLERANCE = 1e-4


def convert_tree(
    tree: Any, folder: Path, request: Request | None = None, name: str = "old.pth"
) -> tuple[Conversion, Path]:
    """Save a tree, convert the file, write the model; return both."""
    source, out = folder / name, folder / "new.safetensors"
    torch.save(tree, source)
    conversion = convert_file(source, request or Request())
    write_conversion(conversion, out)
    return conversion, out


@torch.no_grad()
def assert_same_logits(out: Path, forward: Forward, size: int, class_map: Any = None, seed: int = 4) -> Tensor:
    """The written model predicts what the official evaluation does, classes put in order."""
    x = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(seed))
    expected = forward(x)
    if class_map is not None:
        expected = expected[:, torch.as_tensor(class_map)]
    given = load_model(out).predict(x)
    assert given.shape == expected.shape
    assert (given - expected).abs().max() <= TOLERANCE * expected.abs().max()
    return given
