"""A trained network as one module: uint8 image in, probabilities out, everything chosen built in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ltk.data.image import ImageSpec
from ltk.data.views.geometry import centre_crop
from ltk.errors import DataError, UsageError
from ltk.evaluation.class_names import find_other_class
from ltk.evaluation.logits import SavedLogits
from ltk.evaluation.pipeline import EvaluatedRun
from ltk.evaluation.posthoc import Adjustment
from ltk.evaluation.weights import find_weights, load_own_model
from ltk.methods.base import Method
from ltk.run_files import read_run_config


class DeployedModel(nn.Module):
    """Crop, normalisation, network, correction and softmax in one.

    Args:
        method: the trained network.
        image: size and normalisation of its images.
        adjustment: correction of the logits; its costs, if any, are left to the caller.
    """

    def __init__(self, method: Method, image: ImageSpec, adjustment: Adjustment) -> None:
        super().__init__()
        self.method = method
        self.stored, self.size, self.channels = image.stored, image.size, image.channels
        constants = {"mean_C11": image.mean, "std_C11": image.std}
        for name, values in constants.items():
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32).view(-1, 1, 1))
        self.register_buffer("scale_K", torch.tensor(adjustment.scale_K, dtype=torch.float32))
        self.register_buffer("offset_K", torch.tensor(adjustment.offset_K, dtype=torch.float32))
        self.mean_C11: Tensor
        self.std_C11: Tensor
        self.scale_K: Tensor
        self.offset_K: Tensor
        self.eval()

    def scores(self, images_BCHW: Tensor) -> Tensor:
        """Return corrected logits_BK of uint8 images, [B, C, stored, stored]."""
        levels_BCHW = centre_crop(images_BCHW, self.size).to(torch.float32)
        x_BCHW = (levels_BCHW / 255 - self.mean_C11) / self.std_C11
        return self.method.predict(x_BCHW) * self.scale_K + self.offset_K

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Return probabilities_BK of uint8 images, [B, C, stored, stored]."""
        return self.scores(images_BCHW).softmax(dim=1)

    def example(self, batch: int = 2) -> Tensor:
        """Return black images of the right shape."""
        return torch.zeros(batch, self.channels, self.stored, self.stored, dtype=torch.uint8)


@dataclass(frozen=True, slots=True)
class Deployment:
    """A model ready for use and what a user of it must know.

    Attributes:
        model: the module.
        class_names: K names, in the order of its outputs.
        facts: JSON-able: card, correction, image specification, version.
        upright: it learnt from images turned as their EXIF orientation says.
    """

    model: DeployedModel
    class_names: tuple[str, ...]
    facts: Mapping[str, Any]
    upright: bool = False

    @property
    def metadata(self) -> dict[str, str]:
        """The facts as strings, for a file's metadata."""
        texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in self.facts.items()}
        return {**texts, "class_names": json.dumps(self.class_names, ensure_ascii=False)}


def create_deployment(result: EvaluatedRun) -> Deployment:
    """Load the network behind an evaluation and put the correction onto it.

    Args:
        result: a judged run, with the correction that was chosen for it.

    Raises:
        UsageError: the correction needs the whole test set.
        DataError: no such checkpoint, or it is another run's, or was trained on other classes or counts.
    """
    import ltk

    run, saved, adjustment = result.run.path, result.saved, result.adjustment
    if adjustment.transductive:
        raise UsageError(
            f"{adjustment.label} is computed from all judged images at once: a model for single images cannot carry it",
            "Use --adjust pn-inductive, or --adjust la; a prior can be given as a file.",
        )
    method, metadata = load_own_model(run, find_weights(run, saved.checkpoint))
    _require_same_classes(saved, metadata, run)
    remove_training_only(method)
    image = ImageSpec.from_json(json.loads(metadata["image"]))
    config = read_run_config(run)
    upright = bool(config.data.source.upright)
    facts = {
        "producer": f"ltk {ltk.__version__}",
        "run": result.run.name,
        "checkpoint": saved.checkpoint,
        "correction": adjustment.label,
        "input": f"uint8 [batch, {image.channels}, {image.stored}, {image.stored}], 0..255, RGB or grey",
        "output": f"float32 [batch, {saved.num_classes}], probabilities",
        "image": image.as_json(),
        "upright": upright,
        "card": {**result.run.rules},
    }
    return Deployment(DeployedModel(method, image, adjustment), saved.class_names, facts, upright)


def remove_training_only(method: Method) -> None:
    """Delete from a network the state that only training needs (queues, key encoders, projectors), in place."""
    prefixes = method.training_only or ("\0",)
    tensors = [*method.named_parameters(), *method.named_buffers()]
    for name, _ in [*method.named_modules(), *tensors]:
        owner, _, attribute = name.rpartition(".")
        if not f"{name}.".startswith(prefixes):  # a prefix may end in a dot: then the module itself goes too
            continue
        try:
            delattr(method.get_submodule(owner), attribute)
        except AttributeError:
            continue  # went with its parent


def _require_same_classes(saved: SavedLogits, metadata: Mapping[str, str], run: Path) -> None:
    counts, names = (json.loads(metadata[key]) for key in ("class_counts", "class_names"))
    if len(counts or names) != saved.num_classes or find_other_class(names, saved.class_names) is not None:
        differing = "class names"
    elif counts is not None and tuple(counts) != saved.class_counts:
        differing = "class counts"
    else:
        return
    raise DataError(
        f"{run}: the checkpoint's {differing} are not those of its logits",
        "Delete the run's logits folder; they are computed again.",
    )
