"""The view recipes by name. Each is a function of the output size and its options to the steps, in order.

A resized crop that comes first is cut out of the whole image file, as in the official codes; with
``data.full_resolution = false`` it is cut out of the stored image, its central square.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import Field, validate_call

from ltk.data.views import steps
from ltk.data.views.steps import Step

Size = Annotated[int, Field(ge=1)]
Pixels = Annotated[int, Field(ge=0)]
Probability = Annotated[float, Field(ge=0, le=1)]
Area = Annotated[float, Field(gt=0, le=1)]
Strength = Annotated[float, Field(ge=0)]
Level = Annotated[int, Field(ge=0, le=255)]
Steps = tuple[Step, ...]

_IMAGENET_GREY = (124, 116, 104)  # the ImageNet mean, as RandAugment's fill in PaCo and BaGMar


@validate_call
def none(size: Size) -> Steps:
    """The central square, nothing random."""
    return (steps.centre_crop(size),)


@validate_call
def flip(size: Size) -> Steps:
    """The central square, mirrored with probability 1/2."""
    return (steps.centre_crop(size), steps.flip)


@validate_call
def shift(size: Size, *, padding: Pixels = 1) -> Steps:
    """A random crop of the zero-padded image, not mirrored (digits: left and right matter)."""
    return (steps.random_crop(size, padding, flip=False),)


@validate_call
def crop_flip(size: Size, *, padding: Pixels = 4) -> Steps:
    """A random crop of the zero-padded image, mirrored with probability 1/2: CIFAR in GLMC, GCL, ResLT, baselines."""
    return (steps.random_crop(size, padding, flip=True),)


@validate_call
def crop_flip_autoaugment_cutout(
    size: Size,
    *,
    padding: Pixels = 4,
    autoaugment: Literal["deepvoltaire", "torchvision"] = "deepvoltaire",
    fill: Level = 128,
    cutout: Pixels = 16,
) -> Steps:
    """crop-flip, AutoAugment's CIFAR-10 policy, a black square: CIFAR in PaCo (view q) and BaGMar."""
    policy = steps.autoaugment_cifar10(autoaugment, fill)
    return (*crop_flip(size, padding=padding), policy, steps.cutout(cutout))


@validate_call
def simclr(
    size: Size,
    *,
    scale_min: Area = 0.2,
    jitter: Strength = 0.4,
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.1,
    jitter_p: Probability = 0.8,
    gray_p: Probability = 0.2,
    blur_p: Probability = 0.5,
) -> Steps:
    """Resized crop, flip, jitter, gray, blur: CIFAR in PaCo (view k; GPaCo has blur_p 0.2)."""
    return (
        steps.ResizedCrop(size, (scale_min, 1.0)),
        steps.flip,
        steps.colour_jitter((jitter, jitter, jitter, hue), jitter_p),
        steps.random_grayscale(gray_p),
        steps.random_blur(blur_p),
    )


@validate_call
def rrc_flip(size: Size, *, scale_min: Area = 0.08) -> Steps:
    """Resized crop, flip: Places-LT in GCL, iNaturalist in ResLT and the baselines."""
    return (steps.ResizedCrop(size, (scale_min, 1.0)), steps.flip)


@validate_call
def rrc_flip_jitter(size: Size, *, scale_min: Area = 0.08, jitter: Strength = 0.4) -> Steps:
    """Resized crop, flip, jitter: ImageNet-LT in ResLT and the baselines."""
    return (*rrc_flip(size, scale_min=scale_min), steps.colour_jitter((jitter, jitter, jitter, 0.0)))


@validate_call
def sim(
    size: Size,
    *,
    scale_min: Area = 0.08,
    jitter: Strength = 0.4,
    gray_p: Probability = 0.2,
    blur_p: Probability = 0.5,
) -> Steps:
    """Resized crop, jitter, gray, blur, flip: the large data sets in GLMC, and PaCo's "sim"."""
    return (
        steps.ResizedCrop(size, (scale_min, 1.0)),
        steps.colour_jitter((jitter, jitter, jitter, 0.0)),
        steps.random_grayscale(gray_p),
        steps.random_blur(blur_p),
        steps.flip,
    )


@validate_call
def randcls(
    size: Size,
    *,
    scale_min: Area = 0.08,
    jitter: Strength = 0.4,
    randaugment_n: Annotated[int, Field(ge=0)] = 2,
    randaugment_m: Strength = 10.0,
) -> Steps:
    """Resized crop, flip, jitter, RandAugment: the large data sets in PaCo and GPaCo."""
    return (
        *rrc_flip_jitter(size, scale_min=scale_min, jitter=jitter),
        steps.randaugment(randaugment_n, randaugment_m, fill=_IMAGENET_GREY),
    )


@validate_call
def randclsstack(
    size: Size,
    *,
    scale_min: Area = 0.08,
    jitter: Strength = 0.4,
    gray_p: Probability = 0.2,
    blur_p: Probability = 0.5,
    randaugment_n: Annotated[int, Field(ge=0)] = 2,
    randaugment_m: Strength = 10.0,
) -> Steps:
    """As randcls, with gray and blur before RandAugment: the large data sets in PaCo and GPaCo."""
    return (
        *rrc_flip_jitter(size, scale_min=scale_min, jitter=jitter),
        steps.random_grayscale(gray_p),
        steps.random_blur(blur_p),
        steps.randaugment(randaugment_n, randaugment_m, fill=_IMAGENET_GREY),
    )


@validate_call
def reflect_randcls(
    size: Size,
    *,
    padding: Pixels = 4,
    scale_min: Area = 0.08,
    jitter: Strength = 0.4,
    randaugment_n: Annotated[int, Field(ge=0)] = 2,
    randaugment_m: Strength = 10.0,
) -> Steps:
    """As randcls, on the image with a mirrored border: the large data sets in BaGMar."""
    _, *rest = randcls(
        size, scale_min=scale_min, jitter=jitter, randaugment_n=randaugment_n, randaugment_m=randaugment_m
    )
    return (steps.ResizedCrop(size, (scale_min, 1.0), border=padding), *rest)


RECIPES: dict[str, Callable[..., Steps]] = {
    "none": none,
    "flip": flip,
    "shift": shift,
    "crop-flip": crop_flip,
    "crop-flip-autoaugment-cutout": crop_flip_autoaugment_cutout,
    "simclr": simclr,
    "rrc-flip": rrc_flip,
    "rrc-flip-jitter": rrc_flip_jitter,
    "sim": sim,
    "glmc-imagenet": sim,
    "randcls": randcls,
    "randclsstack": randclsstack,
    "gala-imagenet": reflect_randcls,
}
