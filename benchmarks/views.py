"""Images per second of ltk's batched views against per-image PIL transforms of the same recipe, in one process.

Both sides start from uint8 pixels in memory and end with a normalised float batch.

    python benchmarks/views.py --threads 1
    python benchmarks/views.py --recipes crop-flip simclr --rounds 15 --json
"""

from __future__ import annotations

import random
from dataclasses import asdict

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from benchmarks._measure import RATIO_COLUMNS, Ratio, compare, create_parser, prepare, ratio_cells, show
from benchmarks._pil import MEAN, STD, create_transform, pil_recipes
from ltk import draws
from ltk.data.transforms import create_view

_POOL = 512  # images held by both sides
_REPEATS = 8  # of small images, on ltk's side per round: one batch alone is too short to time
_OPTIONS: dict[str, dict[str, object]] = {"crop-flip-autoaugment-cutout": {"autoaugment": "torchvision"}}


def _make_images(side: int) -> Tensor:
    coarse = torch.rand(_POOL, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return (F.interpolate(coarse, (side, side), mode="bicubic").clamp(0, 1) * 255).to(torch.uint8)


def measure(recipe: str, batch: int, rounds: int) -> Ratio:
    """Time one recipe; the image side is 32, or 256 cropped to 224 for the recipes of large images."""
    is_small = recipe.startswith(("crop-flip", "simclr"))
    images = _make_images(32 if is_small else 256)
    arrays = [image.permute(1, 2, 0).contiguous().numpy() for image in images]
    view = create_view(recipe, size=32 if is_small else 224, mean=MEAN, std=STD, **_OPTIONS.get(recipe, {}))
    pil = create_transform(recipe)
    root = draws.make_key(0)

    def run_ltk() -> Tensor:
        number = random.getrandbits(32)
        return view(
            images.index_select(0, torch.randint(_POOL, (batch,))), draws.fold(root, number, torch.arange(batch))
        )

    def run_pil() -> Tensor:
        return torch.stack([pil(Image.fromarray(arrays[random.randrange(_POOL)])) for _ in range(batch)])

    return compare(run_ltk, run_pil, rounds, _REPEATS if is_small else 1)


def main() -> None:
    """Parse, measure, print."""
    parser = create_parser(__doc__, rounds=9)
    parser.add_argument("--recipes", nargs="+", choices=sorted(pil_recipes()), default=list(pil_recipes()))
    parser.add_argument("--batch", type=int, default=64)
    options = parser.parse_args()
    prepare(options.threads)
    results = {recipe: measure(recipe, options.batch, options.rounds) for recipe in options.recipes}
    rows = [[f"view (batch {options.batch})", *RATIO_COLUMNS]]
    rows += [[name, *ratio_cells(value)] for name, value in results.items()]
    shown = {name: asdict(value) for name, value in results.items()}
    show(shown, rows, threads=options.threads, as_json=options.json)


if __name__ == "__main__":
    main()
