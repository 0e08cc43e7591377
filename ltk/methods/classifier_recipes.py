"""The recipes of ``ltk.methods.retrain_classifier``: what each does unless told otherwise, and its options.

Suffixes: K classes.
"""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple, Self

from pydantic import Field, model_validator
from torch import Tensor

from ltk.methods.base import Stream
from ltk.methods.functional import effective_number_weights, inverse_power_weights
from ltk.settings import Needs, Other, Settings

RecipeName = Literal["crt", "lws", "tau-norm", "maxnorm", "gcl", "balanced-softmax"]
RuleName = Literal[
    "uniform", "balanced-rs", "effective-rs", "cb-effective-rs", "class-aware", "balanced-rw", "effective-rw"
]
_SAMPLERS: dict[str, str] = {
    "balanced-rs": "class-balanced",
    "effective-rs": "effective-number",
    "cb-effective-rs": "class-effective-number",
    "class-aware": "class-aware",
}


class Recipe(NamedTuple):
    """What a recipe does unless told otherwise.

    Attributes:
        continues: starts from the classifier of stage one instead of a fresh one.
        trains: has something to learn.
        rule: which images it sees.
        mixup_alpha: 0 for no mixup.
    """

    continues: bool
    trains: bool = True
    rule: RuleName = "uniform"
    mixup_alpha: float = 0.0


RECIPES: dict[str, Recipe] = {
    "crt": Recipe(continues=False, rule="balanced-rs"),
    "lws": Recipe(continues=True, rule="balanced-rs"),
    "tau-norm": Recipe(continues=True, trains=False),
    "maxnorm": Recipe(continues=True),
    "gcl": Recipe(continues=True, rule="balanced-rs", mixup_alpha=1.0),
    "balanced-softmax": Recipe(continues=False),
}


_TRAINED = Needs(recipe=Other(("tau-norm",)))
_TAU_NORM = Needs(recipe=("tau-norm",))
_MAXNORM = Needs(recipe=("maxnorm",))
_GCL = Needs(recipe=("gcl",))
_MIXED = (Needs(mixup_alpha=Other((0,))), Needs(recipe=("gcl",), mixup_alpha=Other((0, None))))
_EFFECTIVE = ("effective-rs", "cb-effective-rs", "effective-rw")


class RetrainClassifierOptions(Settings):
    """Options of classifier re-training; the defaults are those of the recipes' official codes."""

    recipe: RecipeName = Field("crt", description="how the classifier is made")
    rule: Annotated[RuleName | None, _TRAINED] = Field(
        None, description="which images it sees, or how they weigh (none: the recipe's own)"
    )
    epoch_length: Annotated[Literal["rule", "images"], _TRAINED] = Field(
        "rule", description="images per epoch: the rule's own number, or that of the training images (cRT)"
    )
    batch_norm: Annotated[Literal["eval", "train"], _TRAINED] = Field(
        "eval", description="keep the batch statistics, or let them drift"
    )
    mixup_alpha: Annotated[float | None, _TRAINED] = Field(
        None, ge=0, description="Beta(alpha, alpha) of mixup, 0 is off (none: recipe's)"
    )
    mixup_images: Annotated[bool, *_MIXED] = Field(
        True, description="mix the images; false mixes the labels alone (GCL on Places)"
    )
    tau: Annotated[float, _TAU_NORM] = Field(1.0, ge=0, description="tau-norm: exponent of the norms")
    keep_bias: Annotated[bool, _TAU_NORM] = Field(False, description="tau-norm: keep the bias of stage one")
    fraction: Annotated[float, _MAXNORM] = Field(
        0.1, ge=0, le=1, description="maxnorm: bound between the shortest and the longest row"
    )
    project_every: Annotated[Literal["epoch", "step"], _MAXNORM] = Field(
        "epoch", description="maxnorm: when long rows are shortened"
    )
    beta: Annotated[float, Needs(recipe=("maxnorm",), rule=_EFFECTIVE)] = Field(
        0.9999, ge=0, lt=1, description="of effective numbers: maxnorm's loss and effective-* rules"
    )
    form: Annotated[Literal["cosine", "angle"], _GCL] = Field(
        "cosine", description="gcl: lower the cosine, or widen the angle"
    )
    scale: Annotated[float, _GCL] = Field(20.0, gt=0, description="gcl: scale s of the cosines")
    margin: Annotated[float, _GCL] = Field(0.1, ge=0, description="gcl: margin m of the target class")
    noise_scale: Annotated[float, _GCL] = Field(0.5, ge=0, description="gcl: largest cloud")
    easy_margin: Annotated[bool, _GCL, Needs(form=("angle",))] = Field(
        True, description="gcl, angle: move only classes at less than a right angle"
    )
    gamma: Annotated[float, _GCL] = Field(1.0, ge=0, description="gcl: exponent of the focal factor")
    weighted_probability: Annotated[bool, _GCL, Needs(rule=("balanced-rw", "effective-rw"))] = Field(
        False, description="gcl, *-rw: the official factor 1 - exp(-weight * loss)"
    )
    experts: int = Field(1, ge=1, le=8, description="RIDE experts of stage one")
    expert_width: Annotated[float, Needs(experts=Other((1,)))] = Field(
        1.0, gt=0, le=2, description="factor on the channels of their stages"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.recipe == "maxnorm" and self.rule in ("balanced-rw", "effective-rw"):
            raise ValueError(f"maxnorm weighs its loss already; {self.rule} would weigh it twice")
        return self


def balances(rule: str, beta: float) -> bool:
    """Whether a rule favours small classes; effective numbers with ``beta`` 0 favour none."""
    return rule != "uniform" and (beta > 0 or rule not in _EFFECTIVE)


def create_stream(rule: str, beta: float, num_samples: int | None) -> Stream:
    """Return how images are drawn: by the sampler of a ``*-rs`` rule, else uniformly; ``num_samples`` per epoch."""
    options: dict[str, float] = {"beta": beta} if rule in ("effective-rs", "cb-effective-rs") else {}
    if num_samples is not None:
        options["num_samples"] = num_samples
    return Stream(_SAMPLERS.get(rule, "uniform"), options=options)


def create_class_weights(recipe: str, rule: str, class_counts: Tensor, beta: float) -> Tensor | None:
    """Return the class weights of the loss; None for none.

    Those of a rule sum to 1 as in GCL's code, those of maxnorm to K.
    """
    if recipe == "maxnorm":
        return effective_number_weights(class_counts, beta).float()
    if rule == "balanced-rw":
        return inverse_power_weights(class_counts, 1.0, total=1.0).float()
    if rule == "effective-rw":
        return effective_number_weights(class_counts, beta, total=1.0).float()
    return None
