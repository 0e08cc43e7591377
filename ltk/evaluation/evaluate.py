"""Forward passes over a split: in training for the counts, afterwards for the saved logits."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ltk import distributed
from ltk.data.banks import open_bank, request_device
from ltk.data.base import Split
from ltk.data.image import ImageSpec
from ltk.data.limits import GroupRule
from ltk.data.transforms import create_eval_view
from ltk.errors import DataError
from ltk.evaluation.images import OpenedImages, open_images
from ltk.evaluation.logits import SavedLogits, load_current_logits, logits_path, read_checksum, save_logits
from ltk.evaluation.pixels import ReadSplit
from ltk.evaluation.weights import find_weights, load_own_model
from ltk.machine import choose_device, exact_float32
from ltk.methods.base import Method
from ltk.models.folding import fold_batch_norm
from ltk.models.heads import ScaledLinear, linear_parameters
from ltk.run_files import read_run_config

Autocast = Callable[[], AbstractContextManager[object]]
_CPU_BATCH, _GPU_BATCH = 64, 1000  # what stays in a CPU's cache; what fills a GPU


class EvalSet:
    """The images of a split, ready to be classified.

    Args:
        split: the images.
        image: size and normalisation.
        device: where they live.
        batch_size: images per forward pass; 0 takes 64 on a CPU, 1,000 elsewhere.
        shared: with several processes each takes every ``world_size``-th image, from its rank on.
    """

    def __init__(
        self, split: Split, image: ImageSpec, device: torch.device, batch_size: int = 0, shared: bool = False
    ) -> None:
        self._bank = open_bank(split, image.stored, image.channels, device)
        self._view = create_eval_view(image.size, image.mean, image.std)
        self._batch_size = batch_size or (_CPU_BATCH if device.type == "cpu" else _GPU_BATCH)
        self._shared = shared
        first, every = (distributed.rank(), distributed.world_size()) if shared else (0, 1)
        self._positions = torch.arange(first, len(self._bank.target_N), every, device=self._bank.target_N.device)
        self.target_N = self._bank.target_N[self._positions]

    def batches(self) -> Iterator[Tensor]:
        """Yield x_BCHW, normalised, in the order of the split."""
        requests = self._positions.to(request_device(self._bank)).split(self._batch_size)
        for images_BCHW in self._bank.stream(requests):
            yield self._view(images_BCHW)

    @torch.inference_mode()
    def predict(self, method: Method, autocast: Autocast = nullcontext, *, fold: bool = False) -> Tensor:
        """Return logits_NK as float32 on the device; the method's mode is restored afterwards.

        Args:
            method: the network.
            autocast: precision of the forward passes.
            fold: let convolutions carry the BatchNorm behind them; faster, and rounded differently.
        """
        was_training = method.training
        method.eval()
        network = None if fold else method
        logits = []
        for x_BCHW in self.batches():
            network = network or fold_batch_norm(method, partial(_predict_some, x_BCHW=x_BCHW))
            with autocast():
                logits.append(_predict_batch(network, x_BCHW))
        method.train(was_training)
        return torch.cat(logits)

    def count_correct(self, method: Method, autocast: Autocast = nullcontext) -> tuple[np.ndarray, np.ndarray]:
        """Return how many images of each class are classified right, and how many there are (int64, K each).

        In half precision, where the figures are rounded anyway, BatchNorm is folded.
        """
        logits_NK = self.predict(method, autocast, fold=autocast is not nullcontext)
        right_N = (logits_NK.argmax(dim=1) == self.target_N) & ~logits_NK.isnan().any(dim=1)
        num_classes = logits_NK.shape[1]
        counts = torch.stack(
            [
                torch.bincount(self.target_N[right_N], minlength=num_classes),
                torch.bincount(self.target_N, minlength=num_classes),
            ]
        )
        correct_K, total_K = (distributed.add_up(counts) if self._shared else counts).cpu().numpy()
        return correct_K, total_K


def _predict_batch(network: Method, x_BCHW: Tensor) -> Tensor:
    """Classify a batch, in halves where it does not fit into the GPU's memory."""
    try:
        return network.predict(x_BCHW).float()
    except torch.OutOfMemoryError:
        if len(x_BCHW) == 1:
            raise
    return torch.cat([_predict_batch(network, half_BCHW) for half_BCHW in x_BCHW.tensor_split(2)])


def _predict_some(method: Method, x_BCHW: Tensor) -> Tensor:
    return method.predict(x_BCHW[:2])


def ensure_logits(
    run: Path,
    split: str = "test",
    checkpoint: str = "last",
    device: str = "cpu",
    root: Path | None = None,
    images: OpenedImages | None = None,
) -> SavedLogits:
    """Return the logits of a run on a split, computed and saved if they are not there yet.

    Args:
        run: a run directory.
        split: train, val or test.
        checkpoint: last or best.
        device: where to compute.
        root: where the images are now; None: where the run found them.
        images: those of the run, where they are open already: nothing is listed anew.

    Raises:
        DataError: no such checkpoint or split, or images or checkpoint are not those of the run.
        EnvironmentFault: there is no such device.
    """
    current = load_current_logits(run, split, checkpoint)
    if current is not None:
        return current
    config = read_run_config(run)
    images = images or open_images(run, config.data, root)
    if split not in images.splits:
        raise DataError(f"{run} has no {split} split", f"It has {', '.join(sorted(images.splits))}.")
    weights = find_weights(run, checkpoint)
    checksum = read_checksum(weights)  # before the weights: if they change in between, the logits do not pass for new
    method, metadata = load_own_model(run, weights)
    saved = compute_logits(
        method.to(choose_device(device)),
        images.splits[split],
        ImageSpec.from_json(json.loads(metadata["image"])),
        class_names=images.manifest.class_names,
        class_counts=tuple(json.loads(metadata["class_counts"]) or images.manifest.counts),
        groups=images.groups,
        checkpoint=checkpoint,
        batch_size=config.run.eval_batch_size,
    )
    saved = replace(saved, weights_sha256=checksum)
    save_logits(saved, logits_path(run, split, checkpoint))
    return saved


def compute_logits(  # noqa: PLR0913 - what is saved beside the logits is among its arguments
    method: Method,
    split: Split,
    image: ImageSpec,
    *,
    class_names: tuple[str, ...],
    class_counts: tuple[int, ...],
    groups: GroupRule,
    checkpoint: str,
    batch_size: int = 0,
) -> SavedLogits:
    """Return the logits of a method on a split, in float32; ``batch_size`` is that of ``EvalSet``."""
    device = next(method.parameters()).device
    read = ReadSplit(split)
    with exact_float32():
        logits_NK = EvalSet(read, image, device, batch_size).predict(method)
    norm_K, bias_K = _linear_classifier(method)
    return SavedLogits(
        logits_NK=logits_NK.cpu().numpy(),
        target_N=np.asarray(split.labels_N, dtype=np.int64),
        index_N=np.arange(len(split.labels_N), dtype=np.int64),
        class_names=class_names,
        class_counts=class_counts,
        groups=groups,
        fingerprint=fingerprint_split(split),
        checkpoint=checkpoint,
        weight_norm_K=norm_K,
        bias_K=bias_K,
        pixels=read.describe_pixels(),
    )


def fingerprint_split(split: Split) -> str:
    """Return sha256 (hex) over the names and labels of a split; for what the images show see ``ReadSplit``."""
    digest = hashlib.sha256()
    for name, label in zip(split.names, split.labels_N, strict=True):
        digest.update(f"{name}\0{label}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def _linear_classifier(method: Method) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Row norms and bias of the linear layer that ``predict`` ends with, where there is one."""
    head = method.get_submodule(method.classifier_name) if method.classifier_name else None
    if head is None or type(head) not in (nn.Linear, ScaledLinear):  # others may do more, such as normalise features
        return None, None
    weight_KD, bias_K = linear_parameters(head)
    return weight_KD.float().norm(dim=1).cpu().numpy(), bias_K.float().cpu().numpy()
