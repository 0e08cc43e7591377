"""What is checked before a converted network is called a success."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ltk.checkpoint import read_tensors
from ltk.data.image import ImageSpec
from ltk.data.sources import open_source
from ltk.data.transforms import create_eval_view
from ltk.errors import DataError, EnvironmentFault
from ltk.methods.base import Method

_BATCH = 250
_TOLERANCE = 0.5
_ROUNDING = 1e-4


def check_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    """Return the names of tensors with nan or infinity, with their number."""
    faults = []
    for name, tensor in tensors.items():
        if tensor.is_floating_point():
            count = tensor.numel() - int(torch.isfinite(tensor.float()).sum())
            if count:
                faults.append(f"{name} ({count} of {tensor.numel()})")
    return faults


@torch.no_grad()
def check_forward(method: Method, num_classes: int, image: ImageSpec, *, finite: bool = True) -> Tensor:
    """Return logits_BK of two fixed images of noise.

    Args:
        method: the network; put into eval mode.
        num_classes: K.
        image: size and channels.
        finite: refuse nan and infinity in the logits.

    Raises:
        DataError: logits of another shape or type, or not finite.
    """
    generator = torch.Generator().manual_seed(0)
    x_BCHW = torch.randn(2, image.channels, image.size, image.size, generator=generator)
    logits_BK = method.eval().predict(x_BCHW)
    if logits_BK.shape != (2, num_classes) or logits_BK.dtype != torch.float32:
        raise DataError(f"a forward pass gives {tuple(logits_BK.shape)} {logits_BK.dtype}, not (2, {num_classes})")
    if finite and not logits_BK.isfinite().all():
        raise DataError("a forward pass on noise gives nan or infinity")
    return logits_BK


def agree(given_BK: Tensor, wanted_BK: Tensor) -> bool:
    """Return whether logits are the same but for rounding: 1e-4 of the largest; nan and infinity never are."""
    return bool((given_BK - wanted_BK).abs().max() <= _ROUNDING * wanted_BK.abs().max())


@torch.no_grad()
def measure_accuracy(method: Method, dataset: str, root: Path | None, image: ImageSpec) -> float:
    """Return top-1 accuracy in percent on the test images of a data set.

    Raises:
        UsageError: no such data set.
        DataError: its images are not there, or have other classes.
    """
    split = open_source(dataset, root=root).splits["test"]
    view = create_eval_view(image.size, image.mean, image.std)
    labels_N = torch.from_numpy(split.labels_N)
    correct = 0
    for indices in torch.arange(len(labels_N)).split(_BATCH):
        logits_BK = method.eval().predict(view(split.read(indices.numpy(), image.stored)))
        if int(labels_N.max()) >= logits_BK.shape[1]:
            raise DataError(f"{dataset} has more than the {logits_BK.shape[1]} classes of the network")
        correct += int((logits_BK.argmax(dim=1) == labels_N[indices]).sum())
    return 100 * correct / len(labels_N)


def check_accuracy(measured: float, expected: float) -> None:
    """Compare accuracies in percent.

    Raises:
        DataError: they are more than half a point apart.
    """
    if abs(measured - expected) > _TOLERANCE:
        raise DataError(
            f"top-1 accuracy is {measured:.2f} %, not {expected:.2f} %",
            "Other images, another normalisation, or another class order (--class-order)?",
        )


def check_written(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Read a file back and compare it bit for bit; it is deleted when it differs.

    Raises:
        EnvironmentFault: the disk holds something else than was written.
    """
    written, _ = read_tensors(path)
    if written.keys() != tensors.keys() or not all(_same_bits(written[name], tensors[name]) for name in tensors):
        path.unlink(missing_ok=True)
        raise EnvironmentFault(f"{path} does not read back as it was written", "Is the disk failing?")


def _same_bits(left: Tensor, right: Tensor) -> bool:
    if left.dtype != right.dtype or left.shape != right.shape:
        return False
    return torch.equal(_bits(left), _bits(right))


def _bits(tensor: Tensor) -> Tensor:
    """The bytes of a tensor, so that nan equals nan."""
    return tensor.contiguous().flatten().view(torch.uint8)
