"""``ltk convert``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ltk.cli import _console
from ltk.cli._options import AsJson, Quiet, complete_dataset

if TYPE_CHECKING:
    from ltk.convert.convert import Conversion, Request

_WHAT, _CLASSES, _CHECKS, _BACK = "What the file is", "Classes", "Checks", "Back to other code"


def convert(
    file: Annotated[Path, typer.Argument(help="A legacy checkpoint; with --to, a model file or run of ltk.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="File to write (FILE.safetensors).")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the output.")] = False,
    form: Annotated[
        str | None, typer.Option("--format", help="Legacy format (found by looking).", rich_help_panel=_WHAT)
    ] = None,
    arch: Annotated[
        str | None,
        typer.Option("--arch", help="timm model that the weights are of (found by looking).", rich_help_panel=_WHAT),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            "--key", help="Part of the file to take, such as state_dict_best (the weights).", rich_help_panel=_WHAT
        ),
    ] = None,
    classifier: Annotated[
        Path | None,
        typer.Option(
            "--classifier", help="File of stage 2, which holds the classifier alone (none).", rich_help_panel=_WHAT
        ),
    ] = None,
    options: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="Method option the file does not carry: gamma=0.7 (the method's default).",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    training_state: Annotated[
        bool,
        typer.Option("--training-state", help="Keep queue, key encoder, projector, ...", rich_help_panel=_WHAT),
    ] = False,
    dataset: Annotated[
        str | None,
        typer.Option(
            "--dataset",
            "-d",
            help="Trained on (found by the number of classes).",
            autocompletion=complete_dataset,
            rich_help_panel=_CLASSES,
        ),
    ] = None,
    class_counts: Annotated[
        Path | None,
        typer.Option(
            "--class-counts", help="Training images, a number per class (the data set's).", rich_help_panel=_CLASSES
        ),
    ] = None,
    class_order: Annotated[
        Literal["auto", "file", "ascending", "descending"],
        typer.Option("--class-order", help="How the file numbers the classes by size.", rich_help_panel=_CLASSES),
    ] = "auto",
    ties: Annotated[
        Literal["official", "stable"],
        typer.Option("--ties", help="Order of classes of equal size.", rich_help_panel=_CLASSES),
    ] = "official",
    allow_partial: Annotated[
        bool, typer.Option("--allow-partial", help="Leave random what is missing.", rich_help_panel=_CHECKS)
    ] = False,
    allow_nonfinite: Annotated[
        bool, typer.Option("--allow-nonfinite", help="Accept nan and infinity.", rich_help_panel=_CHECKS)
    ] = False,
    expect_accuracy: Annotated[
        float | None,
        typer.Option(
            "--expect-accuracy", min=0, max=100, help="Check top-1 % on --dataset (no check).", rich_help_panel=_CHECKS
        ),
    ] = None,
    root: Annotated[
        Path | None, typer.Option("--root", help="Where the images are (the data root).", rich_help_panel=_CHECKS)
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(
            "--to", help="timm, timm-features, torchvision, legacy-glmc, ... (none: from legacy)", rich_help_panel=_BACK
        ),
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Turn a legacy checkpoint into a safe model file, without running anything in it.

    Examples:
      ltk convert old_gcl.pth
      ltk convert stage1.pth --classifier stage2.pth --dataset cifar100
      ltk convert old_gcl.safetensors --to timm-features
    """
    from ltk.convert import output
    from ltk.convert.reader import read_checkpoint

    output.check_names(form, dataset, to)
    if to is not None:
        _write_back(file, to, out, force, as_json=as_json, quiet=quiet)
        return
    out = output.choose_output(file, out, force=force)
    counts = None if class_counts is None else output.read_counts(class_counts)
    settings = output.read_options(options or [])
    raw = read_checkpoint(file)  # up to here torch is not needed: refusals come at once
    from ltk.convert import convert as work
    from ltk.convert.class_order import Numbering

    request = work.Request(
        form=form,
        arch=arch,
        key=key,
        classifier=classifier,
        dataset=dataset,
        class_counts=counts,
        numbering=Numbering(class_order, ties),
        options=settings,
        training_state=training_state,
        allow_partial=allow_partial,
        allow_nonfinite=allow_nonfinite,
    )
    conversion = work.convert_raw(raw, request)
    accuracy = _check_accuracy(conversion, request, expect_accuracy, root)
    work.write_conversion(conversion, out)
    if as_json:
        _console.print_json(conversion.as_json() | {"output": str(out), "accuracy": accuracy})
    else:
        _print_report(conversion, out, accuracy, quiet=quiet)


def _check_accuracy(
    conversion: Conversion, request: Request, expected: float | None, root: Path | None
) -> float | None:
    from ltk.convert import verify
    from ltk.errors import UsageError

    if expected is None:
        return None
    if request.dataset is None:
        raise UsageError("--expect-accuracy needs the data set", "Add --dataset NAME.")
    measured = verify.measure_accuracy(conversion.method, request.dataset, root, conversion.image)
    verify.check_accuracy(measured, expected)
    return measured


def _print_report(conversion: Conversion, out: Path, accuracy: float | None, *, quiet: bool) -> None:
    recognition, account = conversion.recognition, conversion.account
    counts = account.counts()
    if not quiet:
        _console.note(f"{conversion.raw.path.name}: sha256 {conversion.raw.sha256}, nothing in it was run")
        _console.note(f"{recognition.name}: {recognition.form.title}")
        _console.note(f"  because: {'; '.join(recognition.evidence)}")
        for text in conversion.notes:
            _console.warn(text) if text.startswith("RANDOM") else _console.note(f"  note: {text}")
    rows: list[tuple[object, ...]] = [("mapped", counts["mapped"], f"into {counts['target']} of {out.name}")]
    if counts["kept aside"]:
        rows.append(("kept aside", counts["kept aside"], "training state"))
    rows += [("ignored", number, f"{reason} ({example})") for reason, number, example in account.reasons()]
    if counts["filled"]:
        rows.append(("not in the file", counts["filled"], "counters of batches, set to 0"))
    if counts["random"]:
        rows.append(("not in the file", counts["random"], "left RANDOM"))
    _console.print_table(
        f"{conversion.raw.path.name}: {counts['source']} tensors", ("fate", "tensors", "why"), rows, left=(0, 2)
    )
    if accuracy is not None:
        _console.note(f"top-1 accuracy {accuracy:.2f} %")
    name = json_of(conversion.metadata["backbone"])["name"]
    _console.print_text(f"wrote {out}: {recognition.form.method}, {name}, {recognition.num_classes} classes")


def json_of(text: str) -> dict[str, Any]:
    """Parse a JSON object."""
    import json

    value: dict[str, Any] = json.loads(text)
    return value


def _write_back(file: Path, to: str, out: Path | None, force: bool, *, as_json: bool, quiet: bool) -> None:
    from ltk.convert.export import export_model, suffix_of, write_export
    from ltk.convert.output import choose_output

    default = file.with_name(f"{file.stem}-{to}{suffix_of(to)}")
    out = choose_output(file, out or default, force=force)
    export = export_model(file, to)
    write_export(export, out)
    if as_json:
        _console.print_json({"output": str(out), "how_to_load": export.how_to_load, "notes": export.notes})
        return
    if not quiet:
        for text in export.notes:
            _console.note(f"  note: {text}")
    _console.print_text(f"wrote {out}\nload it with {export.how_to_load}")
