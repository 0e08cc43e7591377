"""From what the user asks for to one correction: which knob, chosen where, from which prior, at which cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from ltk.config_text import explain
from ltk.data.base import count_of
from ltk.data.listfile import show_names
from ltk.errors import DataError, UsageError
from ltk.evaluation.calibration import fit_temperature, is_at_bound
from ltk.evaluation.class_names import absent_classes
from ltk.evaluation.inputs import read_costs, read_prior
from ltk.evaluation.logits import SavedLogits
from ltk.evaluation.posthoc import (
    Adjustment,
    adjust_logits,
    change_prior,
    estimate_prior,
    no_adjustment,
    normalise_weights,
    predicted_mass,
    rebalance_predictions,
    scale_temperature,
    with_costs,
)
from ltk.evaluation.tune import TuningCurve, tune
from ltk.settings import Settings

SplitLoader = Callable[[str], SavedLogits]


class AdjustmentRequest(Settings):
    """What the user wants done to the logits."""

    adjust: Literal["none", "la", "tau-norm", "pn", "pn-inductive"] = Field("none", description="the correction")
    tau: float | None = Field(None, ge=0, le=10, description="its strength (1 when neither given nor tuned)")
    tune: bool = Field(False, description="choose tau on the validation images")
    oracle: bool = Field(False, description="choose tau on the judged images, labelled as an oracle everywhere")
    prior: str = Field("", description="class shares where the model will be used: uniform, train, estimate, or a file")
    cost: Path | None = Field(None, description="file of true,answer,cost lines")
    temperature: float | Literal["val"] | None = Field(None, description="a number, or val to fit it on validation")

    @property
    def is_empty(self) -> bool:
        """Whether nothing is asked for."""
        return self == AdjustmentRequest()


def create_request(*, temperature: str | None = None, **options: Any) -> AdjustmentRequest:
    """Build a request from command-line values.

    Args:
        temperature: a number or "val".
        **options: the other fields of ``AdjustmentRequest``.

    Raises:
        UsageError: a value out of range, or options that contradict each other.
    """
    try:
        value = temperature if temperature in (None, "val") else float(temperature)
        request = AdjustmentRequest(**options, temperature=value)
    except ValidationError as error:
        raise explain(error, AdjustmentRequest, "correction", "See: ltk eval --help", "--") from error
    except ValueError as error:
        raise UsageError(f"temperature {temperature!r} is neither a number nor val") from error
    _check(request)
    return request


@dataclass(frozen=True, slots=True)
class Choice:
    """A correction and how it came about.

    Attributes:
        adjustment: the correction.
        rules: its notes, with how a value was chosen in the place of one that was chosen on images.
        curve: the tuning curve, when a knob was tuned.
        remarks: what a reader should know of the images that values were chosen on.
    """

    adjustment: Adjustment
    rules: tuple[str, ...]
    curve: TuningCurve | None = None
    remarks: tuple[str, ...] = ()


def choose_adjustment(
    request: AdjustmentRequest,
    judged: SavedLogits,
    load_split: SplitLoader,
    card: Mapping[str, Any],
    split: str = "test",
) -> Choice:
    """Return the correction a request describes.

    Args:
        request: what the user wants.
        judged: logits of the images the result will be judged on.
        load_split: returns the logits of another split of the run by name ("val", "train").
        card: the run's protocol card; its "prior" says whether the loss compensates for the class frequencies.
        split: name of the judged images; a value chosen on them makes the result an oracle.

    Raises:
        UsageError: options that contradict each other.
        DataError: what the correction needs is missing (validation images, classifier weights).
    """
    _check(request)
    load_split = cache(load_split)
    start = no_adjustment(judged.num_classes, _trained_prior(judged, card))
    adjustment, curve = _choose_strength(request, start, judged, load_split, split)
    if request.prior:
        adjustment = _choose_prior(request.prior, adjustment, judged)
    remarks: list[str] = []
    if request.temperature is not None:
        temperature = _choose_temperature(request.temperature, adjustment, load_split)
        is_oracle = adjustment.oracle or (request.temperature, split) == ("val", "val")
        adjustment = replace(scale_temperature(adjustment, temperature), oracle=is_oracle)
        if request.temperature == "val" and is_at_bound(temperature):
            remarks.append(f"the fitted temperature {temperature:.3g} is as far as the search goes, no best value")
    if request.cost is not None:
        adjustment = with_costs(adjustment, read_costs(request.cost, judged.class_names), request.cost.name)
    return Choice(adjustment, _rules(request, adjustment, curve), curve, (*_note_absent(request, load_split), *remarks))


def _check(request: AdjustmentRequest) -> None:
    if request.tune and request.oracle:
        raise UsageError("--tune and --oracle exclude each other", "--tune chooses on validation images, honestly.")
    if request.adjust == "none" and (request.tune or request.oracle or request.tau is not None):
        raise UsageError("--tau, --tune and --oracle need a correction", "For example: --adjust la --tune")
    if request.tau is not None and (request.tune or request.oracle):
        raise UsageError("--tau fixes what --tune or --oracle would choose", "Leave one of them out.")


def _rules(request: AdjustmentRequest, adjustment: Adjustment, curve: TuningCurve | None) -> tuple[str, ...]:
    rules = list(adjustment.notes)
    if curve:
        rules[0] = rules[0].replace(f"tau={curve.chosen:g}", f"tau tuned on {curve.split}")
    if request.temperature == "val":
        rules = ["temperature fitted on val" if note.startswith("temperature ") else note for note in rules]
    return tuple(rules)


def _note_absent(request: AdjustmentRequest, load_split: SplitLoader) -> tuple[str, ...]:
    """Say where values are chosen on validation images that lack classes."""
    chosen = [*(["tau"] if request.tune else []), *(["temperature"] if request.temperature == "val" else [])]
    absent = absent_classes(load_split("val")) if chosen else []
    if not absent:
        return ()
    classes = f"{count_of(len(absent), 'class')}: {show_names(absent)}"
    return (f"{' and '.join(chosen)} chosen on validation images, of which none is of {classes}",)


def _trained_prior(saved: SavedLogits, card: Mapping[str, Any]) -> tuple[int, ...] | None:
    """Training counts, or None (equal shares) when the loss used the prior."""
    return saved.class_counts if card.get("prior", "none") in ("none", "", None) else None


def _choose_strength(
    request: AdjustmentRequest, start: Adjustment, judged: SavedLogits, load_split: SplitLoader, split: str
) -> tuple[Adjustment, TuningCurve | None]:
    if request.adjust == "none":
        return start, None
    build = _builder(request.adjust, start, judged, load_split, split)
    if not (request.tune or request.oracle):
        return build(request.tau if request.tau is not None else 1.0), None
    tuned_on = judged if request.oracle else _validation(load_split, f"--tune chooses {request.adjust}'s strength")
    tuned_split = split if request.oracle else "val"
    on_split = _builder(request.adjust, start, tuned_on, load_split, tuned_split)
    curve = tune(tuned_on, on_split, adjust=request.adjust, split=tuned_split)
    return replace(build(curve.chosen), oracle=tuned_split == split), curve


def _builder(
    adjust: str, start: Adjustment, applied_to: SavedLogits, load_split: SplitLoader, split: str
) -> Callable[[float], Adjustment]:
    """Return the correction as a function of tau, for the images it is applied to, those of a split."""
    if adjust == "la":
        return partial(adjust_logits, start, applied_to.class_counts)
    if adjust == "tau-norm":
        if applied_to.weight_norm_K is None:
            raise DataError(
                "tau-normalisation needs one linear classifier on the features, which this model does not have",
                "Use --adjust la, or retrain the classifier: ltk finetune-classifier RUN",
            )
        return partial(normalise_weights, start, applied_to.weight_norm_K, applied_to.bias_K)
    source, source_split, name = (applied_to, split, "") if adjust == "pn" else _inductive_source(load_split)
    mass_K = predicted_mass(start, (source.logits_NK[rows] for rows in source.chunks()))
    return partial(rebalance_predictions, start, mass_K, transductive=source_split == split, note=name)


def _inductive_source(load_split: SplitLoader) -> tuple[SavedLogits, str, str]:
    """The validation images if there are any, else the training images; they may be the judged ones all the same."""
    try:
        return load_split("val"), "val", "mass of the validation images"
    except DataError:
        return load_split("train"), "train", "mass of the training images"


def _validation(load_split: SplitLoader, purpose: str) -> SavedLogits:
    try:
        return load_split("val")
    except DataError as error:
        raise DataError(
            f"{purpose} on validation images, and the run has none",
            "Train with --val N, or fix the value (--tau 1), or see the best possible with --oracle.",
        ) from error


def _choose_prior(prior: str, adjustment: Adjustment, judged: SavedLogits) -> Adjustment:
    if prior == "uniform":
        return change_prior(adjustment, [1.0] * judged.num_classes, "uniform")
    if prior == "train":
        return change_prior(adjustment, judged.class_counts, "of training")
    if prior != "estimate":
        path = Path(prior)
        if not path.is_file():
            raise UsageError(f"prior {prior!r} is neither uniform, train, estimate nor a file")
        return change_prior(adjustment, read_prior(path, judged.class_names), f"from {path.name}")
    estimated_K = estimate_prior(
        lambda: (adjustment.probabilities(judged.logits_NK[rows]) for rows in judged.chunks()), adjustment.prior_K
    )
    return replace(change_prior(adjustment, estimated_K, "estimated from the judged images"), transductive=True)


def _choose_temperature(temperature: float | Literal["val"], adjustment: Adjustment, load_split: SplitLoader) -> float:
    if temperature != "val":
        return temperature
    return fit_temperature(_validation(load_split, "the temperature is fitted"), adjustment)
