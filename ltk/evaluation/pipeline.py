"""From a run directory to figures: logits once, then correction, outcomes, groups."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from ltk.data.base import count_of
from ltk.data.listfile import show_names
from ltk.evaluation.assessment import Assessment, create_assessment
from ltk.evaluation.choose import AdjustmentRequest, SplitLoader, choose_adjustment
from ltk.evaluation.class_names import absent_classes
from ltk.evaluation.groups import Groups, create_groups
from ltk.evaluation.logits import SavedLogits, load_current_logits
from ltk.evaluation.outcomes import Outcome, assess
from ltk.evaluation.posthoc import Adjustment
from ltk.evaluation.recipes import Entry, create_entry, describe_checkpoint, find_marks
from ltk.evaluation.runs import RunInfo, read_run
from ltk.evaluation.tune import TuningCurve
from ltk.run_files import LOGITS

AS_TRAINED = AdjustmentRequest()


@dataclass(frozen=True, slots=True)
class EvaluatedRun:
    """One run judged on one split.

    Attributes:
        run: what the directory says about itself.
        split: which images.
        saved: their logits.
        groups: groups of the classes.
        adjustment: the correction.
        rules: what the correction does, with how a value was chosen in the place of one that was chosen on images.
        outcome: the corrected model's answers.
        curve: how the correction's strength was tuned, if it was.
        remarks: what a reader should know of the images.
    """

    run: RunInfo
    split: str
    saved: SavedLogits
    groups: Groups
    adjustment: Adjustment
    rules: tuple[str, ...]
    outcome: Outcome
    curve: TuningCurve | None = None
    remarks: tuple[str, ...] = ()

    @property
    def checkpoint(self) -> str:
        """How the weights were chosen, in words."""
        return describe_checkpoint(self.saved.checkpoint, self.run.rules, self.split)

    @property
    def is_oracle(self) -> bool:
        """Whether weights or correction were chosen on the judged images."""
        return "oracle" in self.marks

    @property
    def marks(self) -> tuple[str, ...]:
        """What was done to its logits, then as in ``Entry.marks``."""
        return (*self.adjustment.notes, *find_marks(self.run.rules, self.checkpoint, self.adjustment))

    def assessment(self, *, worst: int = 5, with_classwise: bool = False) -> Assessment:
        """Return all figures; see ``create_assessment``."""
        return create_assessment(
            self.saved, self.outcome, self.groups, self.adjustment, worst=worst, with_classwise=with_classwise
        )

    def entry(self, name: str = "") -> Entry:
        """Return what a comparison needs, under the run's name or another one that tells its correction."""
        rule, chosen = replace(self.adjustment, notes=self.rules), set(self.adjustment.notes) - set(self.rules)
        entry = create_entry(
            name or self.run.name, self.run.rules, self.saved, self.outcome, self.groups, rule, self.split
        )
        return replace(
            entry,
            corrections=() if name else self.rules,
            chosen=(*entry.chosen, *(note for note in self.adjustment.notes if note in chosen)),
            path=self.run.path.resolve(),
            remarks=self.remarks,
        )


@dataclass(frozen=True, slots=True)
class Judge:
    """On which images, from which checkpoint and by which groups runs are judged.

    Attributes:
        split: test, val or train.
        checkpoint: last or best.
        groups: rule for ``create_groups``; None takes the data set's own.
        device: where logits are computed that are not saved yet.
        root: where the images for them are now; None: where the run found them.
    """

    split: str = "test"
    checkpoint: str = "last"
    groups: str | None = None
    device: str = "cpu"
    root: Path | None = None

    def evaluate(self, path: Path, request: AdjustmentRequest = AS_TRAINED) -> EvaluatedRun:
        """Judge a run; see ``evaluate_all``."""
        return self.evaluate_all(path, request)[0]

    def evaluate_all(self, path: Path, *requests: AdjustmentRequest) -> list[EvaluatedRun]:
        """Judge a run once for each request, from one reading of its logits.

        Args:
            path: a run directory.
            *requests: what to do to its logits first.

        Raises:
            DataError: the run lacks something that is asked for.
            DivergedError: it has logits that are not finite.
        """
        run, load = read_run(path), self.loader(path)
        saved = load(self.split)
        saved.require_finite()
        groups = create_groups(saved.class_counts, self.groups or saved.groups, saved.class_names)
        untested = _note_untested(saved, self.split)
        results = []
        for request in requests:
            choice = choose_adjustment(request, saved, load, run.rules, self.split)
            if choice.curve:
                choice.curve.write(path / LOGITS)
            outcome = assess(saved, choice.adjustment)
            corrected = (choice.adjustment, choice.rules, outcome, choice.curve, (*choice.remarks, *untested))
            results.append(EvaluatedRun(run, self.split, saved, groups, *corrected))
        return results

    def loader(self, path: Path) -> SplitLoader:
        """Return a function from the name of a split to the run's logits on it."""

        def load(split: str) -> SavedLogits:
            saved = load_current_logits(path, split, self.checkpoint)
            if saved is None:
                from ltk.evaluation.evaluate import ensure_logits  # imports torch

                saved = ensure_logits(path, split, self.checkpoint, self.device, self.root)
            return saved

        return load


def _note_untested(saved: SavedLogits, split: str) -> tuple[str, ...]:
    absent = absent_classes(saved)
    if not absent:
        return ()
    known = f"{saved.num_classes - len(absent)} of {count_of(saved.num_classes, 'class')}"
    return (f"balanced accuracy is the mean over {known}: no {split} image of {show_names(absent)}",)


def evaluate_variants(judge: Judge, path: Path, request: AdjustmentRequest) -> list[tuple[str, EvaluatedRun]]:
    """Judge a run as trained and, unless the request is empty, corrected; PN also in its inductive form.

    Returns:
        label and result, "as trained" first.
    """
    if request.is_empty:
        return [("as trained", judge.evaluate(path))]
    plain, corrected = judge.evaluate_all(path, AS_TRAINED, request)
    variants = [("as trained", plain), (corrected.adjustment.label, corrected)]
    if request.adjust == "pn":
        inductive = judge.evaluate(path, _inductive(request, corrected))
        marked = replace(inductive, adjustment=replace(inductive.adjustment, oracle=corrected.adjustment.oracle))
        variants.append((marked.adjustment.label, marked))
    return variants


def _inductive(request: AdjustmentRequest, corrected: EvaluatedRun) -> AdjustmentRequest:
    """The same request with PN's mass taken from other images, at the strength already chosen."""
    tau = corrected.curve.chosen if corrected.curve else request.tau
    return request.model_copy(update={"adjust": "pn-inductive", "tau": tau, "tune": False, "oracle": False})
