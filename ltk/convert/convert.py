"""Turn a legacy checkpoint into a model file of ltk: read, recognise, rename, verify, write, read back."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from ltk.checkpoint import MODEL_FORMAT, write_tensors
from ltk.convert import verify
from ltk.convert.accounting import Account, row_of, ties
from ltk.convert.candidates import Candidate, choose_candidate, find_candidates
from ltk.convert.class_order import Numbering, number_classes
from ltk.convert.detect import Hints, Recognition, recognise
from ltk.convert.keymaps import CLASSIFIER
from ltk.convert.network import create_network
from ltk.convert.official import image_spec, infer_dataset, method_options
from ltk.convert.parts import Contents, read_contents
from ltk.convert.reader import RawCheckpoint, read_checkpoint
from ltk.convert.transfer import Rules, transfer
from ltk.data.image import ImageSpec
from ltk.description import describe_model
from ltk.errors import DataError
from ltk.methods.base import Method


@dataclass(frozen=True)
class Request:
    """What a user says beside the file.

    Attributes:
        form: a key of ``FORMATS``; None looks for one.
        arch: timm's name of the architecture; None reads it off the file.
        key: the part of the file to take.
        classifier: a file with the classifier alone (GCL stage 2).
        dataset: a key of ``ltk.data.catalogue.FACTS``; None infers it from the number of classes.
        class_counts: training images of each class.
        numbering: how the file's code numbers its classes.
        options: of the method, over the official ones.
        training_state: keep what only training needs.
        allow_partial: leave random what the file does not fill.
        allow_nonfinite: accept nan and infinity.
    """

    form: str | None = None
    arch: str | None = None
    key: str | None = None
    classifier: Path | None = None
    dataset: str | None = None
    class_counts: tuple[int, ...] | None = None
    numbering: Numbering = field(default_factory=Numbering)
    options: Mapping[str, Any] = field(default_factory=dict)
    training_state: bool = False
    allow_partial: bool = False
    allow_nonfinite: bool = False


@dataclass(frozen=True)
class Conversion:
    """A file converted in memory.

    Attributes:
        raw: the source.
        recognition: what it is.
        method: the network, filled, in eval mode.
        image: how images are fed to it.
        dataset: what it was trained on, as far as known.
        account: the fate of every tensor.
        notes: what a user should know.
        metadata: of the model file.
    """

    raw: RawCheckpoint
    recognition: Recognition
    method: Method
    image: ImageSpec
    dataset: str | None
    account: Account
    notes: list[str]
    metadata: dict[str, str]

    def as_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        recognition = self.recognition
        return {
            "source": {"file": self.raw.path.name, "sha256": self.raw.sha256, "bytes": self.raw.size},
            "format": recognition.name,
            "evidence": recognition.evidence,
            "method": recognition.form.method,
            "method_options": json.loads(self.metadata["method_options"]),
            "backbone": json.loads(self.metadata["backbone"]),
            "num_classes": recognition.num_classes,
            "dataset": self.dataset,
            "image": self.image.as_json(),
            "notes": self.notes,
            "tensors": self.account.as_json(),
        }


def convert_file(path: Path, request: Request) -> Conversion:
    """Read and convert a legacy checkpoint; nothing is written.

    Args:
        path: of the checkpoint.
        request: what the user says beside it.

    Raises:
        DataError: damaged, of no known format, or with tensors that do not fit.
        UnsafeError: made to do harm.
        UsageError: options that contradict the file.
    """
    return convert_raw(read_checkpoint(path), request)


def convert_raw(raw: RawCheckpoint, request: Request) -> Conversion:
    """Convert a checkpoint that has been read; as ``convert_file``."""
    path = raw.path
    try:
        tree = raw.tree()
        if raw.kind == "SafetensorsFile" and "ltk_format" in tree.get("__metadata__", ()):
            raise DataError("a model file of ltk already", "Use it as it is; --to writes it for other code.")
        contents = read_contents(tree)
        candidate = choose_candidate(find_candidates(contents, request.key), contents)
        if request.classifier is not None:
            candidate, account = _with_classifier(candidate, request.classifier)
        elif candidate.is_classifier:
            raise DataError(
                "the file holds a classifier alone", f"ltk convert STAGE1 --classifier {shlex.quote(path.name)}"
            )
        else:
            account = Account()
        return _convert(raw, contents, candidate, account, request)
    except DataError as error:
        raise DataError(f"{path}: {error.message}", error.hint) from error


def _with_classifier(body: Candidate, path: Path) -> tuple[Candidate, Account]:
    """Put the classifier of another file on a body; the body's own is accounted for as replaced."""
    contents = read_contents(read_checkpoint(path).tree())
    heads = [candidate for candidate in find_candidates(contents) if candidate.is_classifier]
    if len(heads) != 1:
        raise DataError(f"{path} does not hold one classifier and nothing else", "Give the file of stage 2.")
    weight = heads[0].entries[f"{CLASSIFIER}.weight"].tensor
    account, entries = Account(), {}
    for name, entry in body.entries.items():
        if name.partition(".")[0] in (CLASSIFIER, "linear", "fc"):
            if entry.tensor.ndim == 2 and sorted(entry.tensor.shape) != sorted(weight.shape):  # cosine ones lie across
                shapes = f"{tuple(weight.shape)}, not {tuple(entry.tensor.shape)}"
                raise DataError(f"the classifier of {path} has shape {shapes}", "Give stage 2 of the same training.")
            account.rows.append(row_of(entry.path, entry.tensor, "", "ignored", f"replaced by {path.name}"))
        else:
            entries[name] = entry
    own = {name: replace(entry, path=f"{path.name}:{entry.path}") for name, entry in heads[0].entries.items()}
    for leftover in contents.leftovers:
        source = f"{path.name}:{leftover.path}"
        account.rows.append(row_of(source, leftover.tensor, "", "ignored", leftover.reason))
    return replace(body, entries=entries | own), account


def _convert(
    raw: RawCheckpoint, contents: Contents, candidate: Candidate, account: Account, request: Request
) -> Conversion:
    shapes = {name: tuple(entry.tensor.shape) for name, entry in candidate.entries.items()}
    claimed, tied = contents.facts.get("arch"), ties((name, e.tensor) for name, e in candidate.entries.items())
    claim = claimed.partition(".")[0] if isinstance(claimed, str) else None  # behind it timm names the weights
    recognition = recognise(shapes, Hints(request.form, request.arch, claim, tied, request.allow_partial))
    dataset = request.dataset or infer_dataset(recognition.num_classes, recognition.backbone.size)
    published = "descending" if candidate.has_block else recognition.form.numbering
    order = number_classes(request.numbering, published, dataset, request.class_counts, recognition.num_classes)
    counts = order.counts if order.class_map is not None or request.dataset else request.class_counts
    renamed = {target: shapes[source] for source, target in recognition.explanation.targets.items()}
    options, notes = method_options(recognition.name, dataset, recognition.backbone, renamed)
    options |= request.options
    image = image_spec(recognition.name, dataset, recognition.backbone)
    stored = sum(entry.tensor.numel() for entry in candidate.entries.values())
    method = create_network(recognition, options, counts, image, stored)
    rules = Rules(options.get("branches", 3), order.class_map, request.training_state, request.allow_partial)
    moved = transfer(candidate.entries, recognition, method, rules)
    moved.rows += account.rows + _other_rows(contents, candidate)
    notes = [*raw.warnings, *recognition.notes, *order.notes, *notes, *_check(moved, request)]
    method.load_state_dict(moved.tensors, strict=False)
    verify.check_forward(method, recognition.num_classes, image, finite=not request.allow_nonfinite)
    if dataset and not request.dataset:
        notes.append(f"taken for {dataset} by its {recognition.num_classes} classes (normalisation); else: --dataset")
    metadata = describe_model(
        method=recognition.form.method,
        method_options=options,
        backbone={"name": recognition.backbone.name, "options": recognition.backbone.options},
        class_counts=None if counts is None else list(counts),
        class_names=[str(k) for k in range(recognition.num_classes)] if counts is None else None,
        image=image.as_json(),
    )
    conversion = Conversion(raw, recognition, method, image, dataset, moved, notes, metadata)
    provenance = _provenance(conversion, contents, candidate, request)
    provenance["class_map"] = None if order.class_map is None else order.class_map.tolist()
    metadata["source"] = json.dumps(provenance)
    return conversion


def _other_rows(contents: Contents, candidate: Candidate) -> list[Any]:
    """Rows of the tensors outside the chosen part."""
    rows = [row_of(left.path, left.tensor, "", "ignored", left.reason) for left in contents.leftovers]
    for part in contents.parts:
        if part.path not in candidate.parts:
            rows += [row_of(e.path, e.tensor, "", "ignored", "another part of the file") for e in part.entries.values()]
    return rows


def _check(account: Account, request: Request) -> list[str]:
    """Refuse nan and infinity; say what is unusual about the values."""
    notes = []
    faults = verify.check_finite(account.tensors)
    if faults and not request.allow_nonfinite:
        raise DataError(f"nan or infinity in {', '.join(faults[:3])}", "--allow-nonfinite converts it all the same.")
    if faults:
        notes.append(f"holds nan or infinity: {', '.join(faults[:3])}")
    unusual = {str(t.dtype) for t in account.tensors.values() if t.is_floating_point() and t.dtype != torch.float32}
    if unusual:
        notes.append(f"weights are kept as {', '.join(sorted(unusual))}, not float32")
    if account.random:
        notes.append(f"RANDOM, not in the file: {', '.join(account.random)}")
    return notes


def _provenance(conversion: Conversion, contents: Contents, candidate: Candidate, request: Request) -> dict[str, Any]:
    """Where a model file comes from, for its metadata."""
    raw, account = conversion.raw, conversion.account
    return {
        "file": raw.path.name,
        "sha256": raw.sha256,
        "format": conversion.recognition.name,
        "container": raw.kind,
        "classifier_file": request.classifier.name if request.classifier else None,
        "dataset": conversion.dataset,
        "facts": contents.facts,
        "notes": conversion.notes,
        "mapping": {row.source: row.target for row in account.rows if row.target},
        "ignored": [{"reason": reason, "tensors": count} for reason, count, _ in account.reasons()],
        "tied": ties((name, entry.tensor) for name, entry in candidate.entries.items()),
        "random": account.random,
    }


def write_conversion(conversion: Conversion, out: Path) -> None:
    """Write the model file, read it back and compare it bit for bit.

    Raises:
        EnvironmentFault: the disk does not take it or does not give it back; no file is left.
    """
    write_tensors(out, conversion.account.tensors, {**conversion.metadata, "ltk_format": MODEL_FORMAT})
    verify.check_written(out, conversion.account.tensors)
