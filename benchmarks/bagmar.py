"""BaGMar's statistics: two vectors, made at once, against class x class matrices, filled image by image.

Both sides hold what the loss reads, the gradient each class has received; the sums are equal (a test compares them).

    python benchmarks/bagmar.py
    python benchmarks/bagmar.py --classes 100 8142 --json

The matrices take 16 x classes^2 bytes: 1.06 GB at 8,142 classes.
"""

from __future__ import annotations

from dataclasses import asdict

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks._measure import RATIO_COLUMNS, Ratio, compare, create_parser, prepare, ratio_cells, show
from benchmarks._plain import GradientMatrices
from ltk.methods.bagmar import add_gradient, positive_gradient

_BATCH, _REPEATS = 64, 10


def measure(classes: int, rounds: int) -> Ratio:
    """Compare the two at a number of classes."""
    logits_BK = torch.randn(_BATCH, classes)
    target_B = torch.randint(classes, (_BATCH,))
    matrices = GradientMatrices(classes)
    total_K, theta_K = torch.zeros(classes), torch.zeros(classes)

    def add_vectors() -> Tensor:
        for state_K, new_K in zip(
            (total_K, theta_K), add_gradient(total_K, theta_K, positive_gradient(logits_BK, target_B)), strict=True
        ):
            state_K.copy_(new_K)
        return torch.log(theta_K + 1e-3)

    def add_matrices() -> tuple[Tensor, Tensor]:
        matrices.add(F.softmax(logits_BK, dim=1), target_B)
        return matrices.margins()

    return compare(add_vectors, add_matrices, rounds, _REPEATS)


def main() -> None:
    """Parse, measure, print."""
    parser = create_parser(__doc__, rounds=5)
    parser.add_argument("--classes", nargs="+", type=int, default=[10, 100, 1000, 8142])
    options = parser.parse_args()
    prepare(options.threads)
    results = {str(classes): measure(classes, options.rounds) for classes in options.classes}
    rows = [[f"BaGMar's sums (batch {_BATCH})", *RATIO_COLUMNS]]
    rows += [[f"{name} classes", *ratio_cells(value)] for name, value in results.items()]
    shown = {name: asdict(value) for name, value in results.items()}
    show(shown, rows, threads=options.threads, as_json=options.json)


if __name__ == "__main__":
    main()
