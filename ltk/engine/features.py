"""Features made once: what a frozen backbone says of every image, kept for all epochs of a second stage."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from ltk.data.base import Split
from ltk.data.image import ImageSpec
from ltk.errors import UsageError
from ltk.evaluation.evaluate import Autocast, EvalSet
from ltk.methods.base import Method


def check_takes_features(method: Method) -> None:
    """Check that a method can learn from features made beforehand.

    Raises:
        UsageError: it cannot, or its batch statistics drift, so that the features would change.
    """
    if not method.takes_features:
        raise UsageError(
            "parent.cache = true: this method does not learn from features that are made once",
            "Use --no-cache; with ltk finetune-classifier: --set method.batch_norm=eval",
        )


class FeatureBank:
    """The features of a split in the place of its images; no image is read before the first batch is asked for.

    Args:
        split: the images; the view is that of evaluation.
        image: size and normalisation.
        method: makes the features, with the weights it has at the first batch.
        device: where they live.
        batch_size: images per forward pass.
        autocast: precision of the forward passes.

    Attributes:
        target_N: int64 class labels, on the device.
    """

    def __init__(
        self,
        split: Split,
        image: ImageSpec,
        method: Method,
        device: torch.device,
        *,
        batch_size: int,
        autocast: Autocast,
    ) -> None:
        self._split, self._image, self._method, self._device = split, image, method, device
        self._batch_size, self._autocast = batch_size, autocast
        self._feats_ND: Tensor | None = None
        self.target_N = torch.as_tensor(split.labels_N, device=device)

    def stream(self, requests: Iterable[Tensor]) -> Iterator[Tensor]:
        """Yield feats_BD, float32, for each int64 tensor of positions."""
        if self._feats_ND is None:
            self._feats_ND = self._make()
        for index_B in requests:
            yield self._feats_ND.index_select(0, index_B)

    def _make(self) -> Tensor:
        images = EvalSet(self._split, self._image, self._device, self._batch_size)
        was_training = self._method.training
        self._method.eval()
        with torch.no_grad(), self._autocast():
            feats_ND = torch.cat([self._method.features(x_BCHW).float() for x_BCHW in images.batches()])
        self._method.train(was_training)
        return feats_ND


class FeatureEvalSet(EvalSet):
    """A shared evaluation set that makes the features of its images at the first evaluation and keeps only them.

    Args:
        split: the images.
        image: size and normalisation.
        method: makes the features; the one that ``predict`` is given.
        device: where they live.
        batch_size: images per forward pass.
    """

    def __init__(self, split: Split, image: ImageSpec, method: Method, device: torch.device, batch_size: int) -> None:
        super().__init__(split, image, device, batch_size, shared=True)
        self._method = method
        self._features: list[Tensor] = []

    def batches(self) -> Iterator[Tensor]:
        """Yield feats_BD, float32."""
        if not self._features:
            self._features = [self._method.features(x_BCHW).float() for x_BCHW in super().batches()]
            del self._bank
        yield from self._features


def keep_features(feats_BD: Tensor, key_B: Tensor) -> Tensor:
    """Return features as they are: the view of a bank that holds them."""
    return feats_BD
