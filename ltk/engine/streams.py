"""The streams of a run: which images a method is fed, and which views of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ltk.config import RunConfig, ViewSettings
from ltk.data.base import IntArray
from ltk.data.image import ImageSpec
from ltk.data.loaders import StreamSource
from ltk.data.samplers import Sampler, create_sampler
from ltk.data.transforms import View, create_view, recipe_options
from ltk.engine.features import keep_features
from ltk.methods.base import Method


def create_views(config: RunConfig, image: ImageSpec, count: int) -> list[View]:
    """Build the views of a stream; the last recipe repeats."""
    recipes = config.views.recipes
    chosen = [recipes[min(i, len(recipes) - 1)] for i in range(count)]
    return [
        create_view(recipe, size=image.size, mean=image.mean, std=image.std, **_options_of(recipe, config.views))
        for recipe in chosen
    ]


def _options_of(recipe: str, views: ViewSettings) -> dict[str, float | int | str]:
    """The options a recipe takes; one that no recipe of the run takes stays in, to be refused by name."""
    taken = {name for other in views.recipes for name in recipe_options(other)}
    own = recipe_options(recipe)
    return {name: value for name, value in views.options.items() if name in own or name not in taken}


def create_streams(config: RunConfig, method: Method, image: ImageSpec, labels_N: IntArray) -> dict[str, StreamSource]:
    """Build the streams a method asks for: which images it is fed, and which views of them.

    Args:
        config: of the run.
        method: says what it wants to be fed.
        image: size and normalisation.
        labels_N: of the training images.
    """
    streams: dict[str, StreamSource] = {}
    length: int | None = None
    is_cut_whole = config.data.full_resolution and image.stored > image.size
    for name, stream in method.streams.items():
        options: dict[str, Any] = {"num_samples": length, **(stream.options or {})}
        sampler = create_sampler(stream.sampler, labels_N, **options)
        length = length or sampler.length
        if config.parent.cache:
            streams[name] = StreamSource(sampler, [keep_features])
            continue
        views = create_views(config, image, stream.views)
        streams[name] = cut_whole(sampler, views) if is_cut_whole else StreamSource(sampler, views)
    return streams


def cut_whole(sampler: Sampler, views: Sequence[View]) -> StreamSource:
    """Return the stream whose resized crops are cut out of whole images as these are read.

    A view that starts with another step is made of the stored image, whose central square is all it looks at.
    """
    if not any(view.crop for view in views):
        return StreamSource(sampler, views)
    return StreamSource(
        sampler,
        [view.after_crop() if view.crop else view for view in views],
        [view.cut_crop if view.crop else None for view in views],
    )
