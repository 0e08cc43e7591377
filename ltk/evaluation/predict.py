"""Classifying new images with a trained run, and saying when the answer should not be trusted."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ltk.data.decode import try_read_images
from ltk.data.walk import SUFFIXES, describe_others, walk_images
from ltk.errors import DataError
from ltk.evaluation.deploy import Deployment
from ltk.evaluation.metrics import FloatArray, IntArray, predict_classes
from ltk.evaluation.outcomes import answer_confidence
from ltk.evaluation.posthoc import Adjustment

_BATCH = 64
_NO_ANSWER = "the logits of the model are not finite"


@dataclass(frozen=True, slots=True)
class Prediction:
    """What is said about one image.

    Attributes:
        image: its path.
        answer: the class; empty when there is none.
        probability: of the answer, nan when there is none.
        abstain: the answer should not be trusted, or there is none.
        fault: why there is no answer, such as an image that cannot be read; empty otherwise.
    """

    image: str
    answer: str
    probability: float
    abstain: bool
    fault: str = ""


def find_images(places: Sequence[Path], others: Counter[str] | None = None) -> list[Path]:
    """Return the image files at some places: files as they are, of folders all that training would read, sorted.

    Links are followed, also out of a folder.

    Args:
        places: image files and folders of them.
        others: endings of files in the folders that are no images are counted here.

    Raises:
        DataError: a place does not exist, a link leads to a folder it lies in, or there is no image at all.
    """
    found: list[Path] = []
    others = Counter() if others is None else others
    for place in places:
        if not place.exists():
            raise DataError(f"{place} does not exist", "Give image files or folders of images.")
        found += _list_folder(place, others) if place.is_dir() else [place]
    if not found:
        hint = describe_others(others) if others else f"Known endings: {', '.join(SUFFIXES)}."
        raise DataError(f"no images in {', '.join(map(str, places))}", hint)
    return found


def _list_folder(folder: Path, others: Counter[str]) -> list[Path]:
    return sorted(map(Path, walk_images(Path(), str(folder), allow_outside=True, others=others)))


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
        images_BCHW, faults = try_read_images(part, deployment.model.stored, upright=deployment.upright)
        answer_B, confidence_B = _decide(deployment, adjustment, _match_channels(images_BCHW, deployment))
        broken = dict.fromkeys(np.flatnonzero(~np.isfinite(confidence_B)).tolist(), _NO_ANSWER) | dict(faults)
        for i, path in enumerate(part):
            if i in broken:
                yield Prediction(str(path), "", float("nan"), True, broken[i])
                continue
            answer, probability = int(answer_B[i]), float(confidence_B[i])
            abstain = bool(probability < limit_K[answer])
            yield Prediction(str(path), deployment.class_names[answer], probability, abstain)


@torch.inference_mode()
def _decide(deployment: Deployment, adjustment: Adjustment, images_BCHW: Tensor) -> tuple[IntArray, FloatArray]:
    """Return answers and confidences, computed as those of the validation images that gave the limits."""
    scores_BK = deployment.model.scores(images_BCHW).numpy()
    with np.errstate(invalid="ignore"):  # infinite scores have no probabilities
        answer_B = predict_classes(adjustment.decisions(scores_BK))
        return answer_B, answer_confidence(scores_BK, answer_B)


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
