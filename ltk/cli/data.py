"""``ltk data``: what there is, bring it here, check it, look at it, cut it, pack it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from ltk.cli import _console
from ltk.cli import _data_output as output
from ltk.cli._commands import CONTEXT, Commands
from ltk.cli._options import AsJson, complete_dataset
from ltk.cli._source_options import SourceChoice, with_source
from ltk.errors import UsageError

app = Commands(
    help="Data sets: list, prepare, verify, stats, split, pack, preview.",
    no_args_is_help=True,
    context_settings=CONTEXT,
    pretty_exceptions_enable=False,
)

Root = Annotated[Path | None, typer.Option("--root", help="Data root (LTK_DATA, else ~/.cache/ltk/data).")]
Imb = Annotated[float | None, typer.Option("--imb", help="Cut to this imbalance: largest class / smallest (no cut).")]
ImbType = Annotated[str, typer.Option("--imb-type", help="Profile of the cut: exp, step or none.")]
Subset = Annotated[str, typer.Option("--subset", help="Which images: ldam, glmc, glmc-replacement, first-n.")]
SubsetSeed = Annotated[
    int | None,
    typer.Option("--subset-seed", min=0, max=2**32 - 1, help="Seed of the cut (the rule's official one)."),
]
Head = Annotated[
    int | None, typer.Option("--head", min=1, help="Images of the largest class (as many as every class has).")
]
Val = Annotated[float, typer.Option("--val", help="Images per class (or share < 1) held out for validation.")]
GroupLimits = Annotated[
    str | None, typer.Option("--groups", help="Many/medium/few: 100,20 or tertile (the data set's).")
]


@contextmanager
def _progress(text: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a bar on a terminal, nothing elsewhere; the function given moves it on."""
    from rich.progress import Progress

    console = _console.notes()
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(text, total=total)
        yield lambda done: bar.advance(task, done)


@app.command("list")
def list_sources(root: Root = None, as_json: AsJson = False) -> None:
    """List the data sets, whether they are here, and how to get them.

    Examples:
      ltk data list
      ltk data list --root /data --json
    """
    from ltk.data.presence import list_presence
    from ltk.data.sources import default_root

    output.show_presence(list_presence(root or default_root()), root or default_root(), as_json=as_json)


@app.command()
def prepare(
    name: Annotated[str, typer.Argument(help="Data set.", autocompletion=complete_dataset)],
    given: Annotated[
        Path | None, typer.Option("--from", help="The archive, or the folder that holds it (download).")
    ] = None,
    root: Root = None,
) -> None:
    """Download, check and unpack a data set; for licensed ones say what to place where.

    Examples:
      ltk data prepare cifar100
      ltk data prepare cifar10 --from ~/Downloads/cifar-10-python.tar.gz
      ltk data prepare places-lt
    """
    from ltk.data.catalogue import get_facts
    from ltk.data.cifar import LAYOUTS
    from ltk.data.prepare import plan_licensed, prepare_cifar
    from ltk.data.sources import default_root, open_source

    place = root or default_root()
    if get_facts(name).built_in:
        _console.note(f"{name} is built in: nothing to prepare.")
        return
    if name not in LAYOUTS:
        steps = plan_licensed(name, place)
        output.show_steps(name, steps)
        if not all(step.present for step in steps):
            raise output.incomplete(name, steps)
        output.show_source(open_source(name, root=place))
        return
    with _progress(f"{name}, bytes", 0) as advance:
        had = 0

        def count(now: int, total: int) -> None:
            nonlocal had
            advance(now - had)
            had = now

        prepare_cifar(name, place, given, count)
    output.show_source(open_source(name, root=place))


@app.command()
@with_source
def verify(
    chosen: SourceChoice,
    deep: Annotated[bool, typer.Option("--deep", help="Look for the same image in two splits or classes.")] = False,
    near: Annotated[
        int | None,
        typer.Option("--near", min=0, max=16, help="And for near duplicates: differing bits of 64 (not looked for)."),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Fail on duplicates too.")] = False,
    checksums: Annotated[
        Path | None,
        typer.Option("--checksums", help="Compare the files with these SHA-256; written if not there (none)."),
    ] = None,
    write_bad: Annotated[
        Path | None, typer.Option("--write-bad", help="Write all findings to this file (none).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check that every image opens, counts are right, and (--deep) that no image is in train and test.

    Examples:
      ltk data verify cifar10
      ltk data verify photos/ --deep --near 4
      ltk data verify photos/ --checksums photos.sha256
      ltk data verify places-lt --root /data --write-bad bad.txt
    """
    from ltk.data.checks import verify_source

    source = chosen.open(warn=False)
    with _progress("reading", sum(len(split) for split in source.splits.values())) as advance:
        findings = verify_source(
            source, chosen.root, deep=deep, near=near, strict=strict, checksums=checksums, advance=advance
        )
    output.show_findings(chosen.title, findings, write_bad, as_json=as_json)


def _require_cut(imb: float | None, imb_type: str, subset: str, head: int | None) -> None:
    """Refuse options of a cut where none is asked for."""
    given = {"--head": head is not None, "--imb-type": imb_type == "step", "--subset": subset != "ldam"}
    for flag, is_given in given.items():
        if imb is None and is_given:
            raise UsageError(f"{flag} is for a cut and does nothing without one", "Add --imb N, or leave it out.")


@app.command()
@with_source
def stats(
    chosen: SourceChoice,
    imb: Imb = None,
    imb_type: ImbType = "exp",
    subset: Subset = "ldam",
    subset_seed: SubsetSeed = None,
    head: Head = None,
    val: Val = 0,
    groups: GroupLimits = None,
    plot: Annotated[Path | None, typer.Option("--plot", help="Write the histogram to this picture (none).")] = None,
    as_json: AsJson = False,
) -> None:
    """Show the class counts: histogram, imbalance, Gini, many/medium/few; train against test.

    Examples:
      ltk data stats cifar100 --imb 100
      ltk data stats photos/ --groups tertile --plot counts.png
    """
    output.check_picture(plot, output.PLOTS)
    _require_cut(imb, imb_type, subset, head)
    from ltk.data.splits import create_manifest, note_held_out

    source = chosen.open()
    manifest = create_manifest(source, imb=imb, imb_type=imb_type, subset=subset, seed=subset_seed, val=val, head=head)
    for note in note_held_out(manifest, source):
        _console.warn(note)
    output.show_stats(chosen.title, source, manifest, groups, plot, as_json=as_json)


@app.command()
@with_source
def split(
    chosen: SourceChoice,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write the manifest (JSON) to this file (none).")
    ] = None,
    imb: Imb = None,
    imb_type: ImbType = "exp",
    subset: Subset = "ldam",
    subset_seed: SubsetSeed = None,
    head: Head = None,
    val: Val = 0,
    as_json: AsJson = False,
) -> None:
    """Choose the images of a long-tailed cut, show its fingerprint, and write it down.

    Examples:
      ltk data split cifar10 --imb 100 -o cifar10-imb100.json
      ltk data split photos/ --val 0.1
    """
    _require_cut(imb, imb_type, subset, head)
    from ltk.data.splits import create_manifest, note_held_out

    source = chosen.open()
    manifest = create_manifest(source, imb=imb, imb_type=imb_type, subset=subset, seed=subset_seed, val=val, head=head)
    for note in note_held_out(manifest, source):
        _console.warn(note)
    if out:
        manifest.write(out)
    output.show_manifest(chosen.title, manifest, out, as_json=as_json)


@app.command()
@with_source
def pack(
    chosen: SourceChoice,
    size: Annotated[
        int | None, typer.Option("--size", min=2, max=1024, help="Side in pixels (what training reads by default).")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder (beside the images or in the data root; training looks in no other)."),
    ] = None,
) -> None:
    """Decode all images once into a memory-mapped array.

    Without --size and --out training uses it by itself; else the last line says whether it will, and how.

    Examples:
      ltk data pack photos/
      ltk data pack imagenet-lt --root /data --size 256
    """
    from dataclasses import replace

    from ltk.data.pack_writer import pack_source

    source = chosen.open()
    if out:  # where packs of other folders may lie
        source = replace(source, name=chosen.title)
    images = sum(len(part) for part in source.splits.values())
    with _progress("packing", images) as advance:
        path, info = pack_source(source, size or source.stored_size, out, advance=advance)
    output.show_pack(source, path, info)


@app.command()
@with_source
def preview(
    chosen: SourceChoice,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The picture to write (NAME-preview.png).")] = None,
    aug: Annotated[str, typer.Option("--aug", help="Show this view recipe on one image per class (none).")] = "",
    part: Annotated[str, typer.Option("--split", help="train, val or test.")] = "train",
    rows: Annotated[int, typer.Option("--rows", min=1, help="Classes.")] = 12,
    columns: Annotated[int, typer.Option("--columns", min=2, help="Images per class.")] = 8,
) -> None:
    """Write a contact sheet, from the largest class to the smallest.

    Examples:
      ltk data preview digits
      ltk data preview cifar10 --aug autoaugment -o views.png
    """
    output.check_picture(out, output.SHEETS)
    from ltk.data.preview import draw_sheet
    from ltk.errors import unknown_name

    source = chosen.open()
    if part not in source.splits:
        raise unknown_name("split", part, source.splits)
    path = out or Path(f"{chosen.title}-preview.png")
    draw_sheet(source, source.splits[part], path, aug=aug, rows=rows, columns=columns)
    _console.print_text(str(path))
