"""Evaluation of ltk against a plain rendering of the official codes, in one process.

The plain side turns PIL images into tensors one by one in a DataLoader and computes in float32 and NCHW. ltk's side is
its evaluator: per-epoch figures as in training (bf16 where the processor multiplies it, BatchNorm folded) and saved
logits (float32). Beside the ratios stand how far the logits are from the plain side's and how often both say the same
class, for a network whose batch statistics have settled but which has learnt nothing: the hardest case for rounding.

    python benchmarks/eval.py
    python benchmarks/eval.py --widths 16 64 --images 500 --json
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial

import torch
from torch import Tensor

from benchmarks._measure import RATIO_COLUMNS, Ratio, create_parser, interleave, prepare, ratio_cells, show, summarise
from benchmarks._pil import MEAN, STD, PilSet, to_normalised_tensor
from benchmarks._sides import CPU, SIZE, Task
from ltk.data.image import ImageSpec
from ltk.engine.device import choose_precision, create_autocast
from ltk.evaluation.evaluate import Autocast, EvalSet
from ltk.methods.base import Method
from ltk.methods.baselines import CrossEntropy
from ltk.models.backbones import create_backbone

_PLAIN_BATCH = 100


@dataclass(frozen=True)
class Evaluation:
    """A ratio, and how near the logits are to the plain side's.

    Attributes:
        ratio: of the times.
        relative_error: of the logits, in the Frobenius norm.
        agreement: share of images of the same predicted class.
    """

    ratio: Ratio
    relative_error: float
    agreement: float


def create_method(task: Task) -> Method:
    """Return a network whose batch statistics have settled."""
    torch.manual_seed(0)
    backbone = create_backbone(f"cifar_resnet{task.depth}", width=task.width)
    method = CrossEntropy(backbone, torch.as_tensor(task.counts)).train()
    with torch.no_grad():
        for _ in range(5):
            method.predict(torch.randn(64, 3, SIZE, SIZE))
    return method.eval()


def measure(task: Task, images: int, rounds: int) -> dict[str, Evaluation]:
    """Compare both forms of ltk's evaluation with the plain one."""
    split = task.images.subset(range(images))
    plain = create_method(task)
    method = copy.deepcopy(plain).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    evaluator = EvalSet(split, ImageSpec(SIZE, SIZE, 3, MEAN, STD), CPU)
    pixels = split.read(range(images), SIZE).permute(0, 2, 3, 1).contiguous().numpy()
    pil = PilSet(pixels, split.labels_N, [to_normalised_tensor()])
    autocast = create_autocast(choose_precision(task.precision, CPU, SIZE), CPU)
    sides: dict[str, Callable[[], Tensor]] = {
        "plain": partial(evaluate_plainly, plain, pil),
        "per epoch": partial(_predict, evaluator, method, autocast),
        "saved logits": partial(_predict, evaluator, method, nullcontext),
    }
    logits = {name: side() for name, side in sides.items()}
    spent = interleave(sides, rounds)
    return {
        name: Evaluation(summarise(spent[name], spent["plain"]), *_closeness(logits[name], logits["plain"]))
        for name in ("per epoch", "saved logits")
    }


def _predict(evaluator: EvalSet, method: Method, autocast: Autocast) -> Tensor:
    return evaluator.predict(method, autocast, fold=autocast is not nullcontext)


@torch.no_grad()
def evaluate_plainly(method: Method, images: PilSet) -> Tensor:
    """Return logits_NK, read back batch by batch."""
    loader = torch.utils.data.DataLoader(images, _PLAIN_BATCH)
    logits, correct = [], 0.0
    for (x_BCHW,), target_B in loader:
        logits.append(method.predict(x_BCHW))
        correct += (logits[-1].argmax(1) == target_B).sum().item()
    return torch.cat(logits)


def _closeness(logits_NK: Tensor, expected_NK: Tensor) -> tuple[float, float]:
    error = (logits_NK - expected_NK).norm() / expected_NK.norm()
    return float(error), float((logits_NK.argmax(1) == expected_NK.argmax(1)).float().mean())


def main() -> None:
    """Parse, measure, print."""
    parser = create_parser(__doc__, rounds=5)
    parser.add_argument("--widths", nargs="+", type=int, default=[16], help="of the ResNet")
    parser.add_argument("--depth", type=int, default=32, help="of the ResNet")
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--precision", default="auto", help="of ltk's per-epoch figures: auto, fp32, bf16")
    options = parser.parse_args()
    prepare(options.threads)
    task = Task("ce", depth=options.depth, precision=options.precision)
    results = {
        f"width {width}, {name}": value
        for width in options.widths
        for name, value in measure(replace(task, width=width), options.images, options.rounds).items()
    }
    rows = [[f"evaluation of {options.images} images", *RATIO_COLUMNS, "error", "same class"]]
    rows += [
        [name, *ratio_cells(value.ratio), f"{value.relative_error:.1e}", f"{100 * value.agreement:.1f} %"]
        for name, value in results.items()
    ]
    show({name: asdict(value) for name, value in results.items()}, rows, threads=options.threads, as_json=options.json)


if __name__ == "__main__":
    main()
