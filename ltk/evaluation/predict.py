"""Classifying new images with a trained run, and saying when the answer should not be trusted."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ltk.data.decode import try_read_images
from ltk.data.folder import SUFFIXES
from ltk.errors import DataError
from ltk.evaluation.deploy import Deployment
from ltk.evaluation.metrics import FloatArray
from ltk.evaluation.posthoc import Adjustment

_BATCH = 64


@dataclass(frozen=True, slots=True)
class Prediction:
    """What is said about one image.

    Attributes:
        image: its path.
        answer: the class; empty when the image cannot be read.
        probability: of the answer, nan when there is none.
        abstain: the answer should not be trusted, or there is none.
        fault: why the image cannot be read; empty otherwise.
    """

    image: str
    answer: str
    probability: float
    abstain: bool
    fault: str = ""


def find_images(places: Sequence[Path]) -> list[Path]:
    """Return the image files at some places: files as they are, folders with all below them, sorted.

    Raises:
        DataError: a place does not exist, or there is no image at all.
    """
    found: list[Path] = []
    for place in places:
        if not place.exists():
            raise DataError(f"{place} does not exist", "Give image files or folders of images.")
        below = (path for path in place.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
        found += sorted(below) if place.is_dir() else [place]
    if not found:
        raise DataError(f"no images in {', '.join(map(str, places))}", f"Known endings: {', '.join(SUFFIXES)}.")
    return found


def predict_images(
    deployment: Deployment, adjustment: Adjustment, paths: Sequence[Path], limit_K: FloatArray
) -> Iterator[Prediction]:
    """Classify images, a batch at a time.

    Args:
        deployment: the model.
        adjustment: the correction it carries; its costs decide the answers.
        paths: image files.
        limit_K: lowest confidence at which each class is answered without abstaining.
    """
    for start in range(0, len(paths), _BATCH):
        part = paths[start : start + _BATCH]
        images_BCHW, faults = try_read_images(part, deployment.model.stored)
        probability_BK, decision_BK = _decide(deployment, adjustment, _match_channels(images_BCHW, deployment))
        broken = dict(faults)
        for i, path in enumerate(part):
            if i in broken:
                yield Prediction(str(path), "", float("nan"), True, broken[i])
                continue
            answer = int(decision_BK[i].argmax())
            probability = float(probability_BK[i, answer])
            yield Prediction(
                str(path), deployment.class_names[answer], probability, bool(probability < limit_K[answer])
            )


@torch.inference_mode()
def _decide(deployment: Deployment, adjustment: Adjustment, images_BCHW: Tensor) -> tuple[FloatArray, FloatArray]:
    scores_BK = deployment.model.scores(images_BCHW)
    return scores_BK.softmax(dim=1).numpy(), adjustment.decisions(scores_BK.numpy())


def _match_channels(images_BCHW: Tensor, deployment: Deployment) -> Tensor:
    if deployment.model.channels == images_BCHW.shape[1]:
        return images_BCHW
    weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)  # ITU-R 601 luma
    return (images_BCHW * weights).sum(dim=1, keepdim=True).round().to(torch.uint8)


def write_predictions(predictions: Sequence[Prediction]) -> str:
    """Return CSV: image, class, probability, abstain, fault."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("image", "class", "probability", "abstain", "fault"))
    for row in predictions:
        probability = "" if np.isnan(row.probability) else f"{row.probability:.6f}"
        writer.writerow((row.image, row.answer, probability, "yes" if row.abstain else "no", row.fault))
    return text.getvalue()
