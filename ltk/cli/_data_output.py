"""How the results of ``ltk data`` are shown."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ltk.cli import _console
from ltk.data.catalogue import get_facts
from ltk.errors import DataError, UsageError
from ltk.files import write_atomically

if TYPE_CHECKING:
    from ltk.data.base import Source
    from ltk.data.duplicates import Finding
    from ltk.data.pack import PackInfo
    from ltk.data.prepare import Step
    from ltk.data.presence import Presence
    from ltk.data.splits import Manifest

SHEETS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".pdf")
PLOTS = (".png", ".svg", ".pdf", ".jpg", ".jpeg", ".webp", ".tif", ".tiff")
_SHOWN = 10
_LEAST_VIEW = 4  # pixels, of data.image_size
_MARKS = {"ok": "ok", "warning": "WARNING", "error": "ERROR"}


def show_presence(found: Sequence[Presence], root: Path, *, as_json: bool) -> None:
    """Show which data sets are here."""
    if as_json:
        _console.print_json({"root": str(root), "datasets": [entry.as_dict() for entry in found]})
        return
    rows = [
        (
            e.name,
            f"{e.classes:,}",
            *(f"{e.images.get(s, 0):,}" if s in e.images else "-" for s in _SPLITS),
            e.state,
            e.get,
        )
        for e in found
    ]
    columns = ("name", "classes", "train", "val", "test", "here", "how to get it")
    footer = "your own images: ltk data stats DIR"
    _console.print_table(f"data root {root}", columns, rows, footer=footer, left=(0, 5, 6))


_SPLITS = ("train", "val", "test")


def show_steps(name: str, steps: Sequence[Step]) -> None:
    """Show what has to be placed where; plain lines, so that addresses can be copied."""
    for step in steps:
        _console.print_text(f"{'here' if step.present else 'missing':8} {step.what}")
        if not step.present:
            _console.print_text(f"           from      {step.source}")
            _console.print_text(f"           place at  {step.where}")
            _console.print_text(f"           must be   {step.check}")
    _console.print_text(f"licence: {get_facts(name).licence}")


def incomplete(name: str, steps: Sequence[Step]) -> DataError:
    """Return the error that names what is missing."""
    missing = [step.what for step in steps if not step.present]
    return DataError(
        f"{name} is not complete: {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing",
        f"Place them as the table says, then run `ltk data prepare {name}` again.",
    )


def show_source(source: Source) -> None:
    """Say that a data set is ready."""
    images = ", ".join(f"{len(split):,} {name}" for name, split in source.splits.items())
    _console.print_text(f"{source.name} is ready: {source.num_classes:,} classes, {images} images")


def show_findings(name: str, findings: Sequence[Finding], write_to: Path | None, *, as_json: bool) -> None:
    """Show the results of the checks.

    Raises:
        DataError: some of them are errors.
    """
    errors = [finding for finding in findings if finding.level == "error"]
    if as_json:
        fields = [{"level": f.level, "text": f.text, "items": list(f.items)} for f in findings]
        _console.print_json({"name": name, "ok": not errors, "findings": fields})
    else:
        for finding in findings:
            _console.print_text(f"{_MARKS[finding.level]:8} {finding.text}")
            for item in finding.items[:_SHOWN]:
                _console.print_text(f"           {_console.printable(item)}")
            if len(finding.items) > _SHOWN:
                _console.print_text(f"           ... and {len(finding.items) - _SHOWN:,} more")
    if write_to:
        lines = [f"{f.level}\t{f.text}\t{item}" for f in findings for item in f.items if f.level != "ok"]
        write_atomically(write_to, "".join(line + "\n" for line in lines).encode(errors="surrogateescape"))
    if errors:
        hint = f"All of them are in {write_to}." if write_to else "Write all of them to a file with --write-bad FILE."
        raise DataError(f"{name}: {'; '.join(finding.text for finding in errors)}", hint)


def check_picture(path: Path | None, suffixes: Collection[str]) -> None:
    """Check that a picture can be written in the format its name asks for.

    Raises:
        UsageError: another suffix, or none.
    """
    if path is not None and path.suffix.lower() not in suffixes:
        kind = f"a file {path.suffix}" if path.suffix else "a file without a suffix"
        raise UsageError(f"{path}: no picture is written as {kind}", f"Use one of {' '.join(suffixes)}")


def show_stats(
    name: str, source: Source, manifest: Manifest, limits: str | None, plot: Path | None, *, as_json: bool
) -> None:
    """Show class counts."""
    import numpy as np

    from ltk.data.limits import parse_groups
    from ltk.data.statistics import draw_histogram, gini, plot_counts, summarise_groups

    train_K = np.array(manifest.counts)
    test_K = np.bincount(source.splits["test"].labels_N, minlength=source.num_classes)
    groups = parse_groups(limits) if limits else source.groups
    summaries = summarise_groups(train_K, test_K, groups)
    figures = {
        "name": name,
        "images": int(train_K.sum()),
        "classes": len(train_K),
        "largest": int(train_K.max()),
        "smallest": int(train_K.min()),
        "imbalance": round(float(train_K.max() / max(train_K.min(), 1)), 4),
        "gini": round(gini(train_K), 4),
        "fingerprint": manifest.fingerprint,
    }
    if plot:
        plot_counts(train_K.tolist(), test_K.tolist(), groups, plot, _title(name, manifest))
    if as_json:
        counts = {"class_names": source.class_names, "train": train_K.tolist(), "test": test_K.tolist()}
        _console.print_json({**figures, "groups": [vars(s) for s in summaries], **counts})
        return
    _console.print_text(
        f"{_title(name, manifest)}   {figures['images']:,} of {len(source.splits['train']):,} training images   "
        f"largest {figures['largest']:,} · smallest {figures['smallest']:,} · imbalance {figures['imbalance']:g} · "
        f"Gini {figures['gini']:.2f}"
    )
    histogram = draw_histogram(manifest.counts, source.class_names)
    _console.print_table("", ("class", "images", ""), histogram, left=(0, 2))
    rows = [(s.name, s.classes, _span(s.smallest, s.largest), f"{s.train:,}", f"{s.test:,}") for s in summaries]
    rows.append(("all", len(train_K), _span(train_K.min(), train_K.max()), f"{train_K.sum():,}", f"{test_K.sum():,}"))
    columns = ("group", "classes", "images per class", "training images", "test images")
    _console.print_table(f"groups {limits or ','.join(map(str, source.groups))}", columns, rows)


def _span(smallest: int | None, largest: int | None) -> str:
    if smallest is None or largest is None:
        return "-"
    return f"{smallest:,}" if smallest == largest else f"{smallest:,}-{largest:,}"


def _title(name: str, manifest: Manifest) -> str:
    title = _console.printable(name)
    if manifest.imb is None:
        return title
    return f"{title} imb {manifest.imb:g} ({manifest.imb_type}, {manifest.subset} seed {manifest.seed})"


def show_manifest(name: str, manifest: Manifest, path: Path | None, *, as_json: bool) -> None:
    """Show what a manifest holds."""
    sizes = {split: len(own) for split, own in manifest.indices.items()}
    if as_json:
        fields = {"fingerprint": manifest.fingerprint, "images": sizes, "counts": list(manifest.counts)}
        _console.print_json({"name": name, **fields, "file": str(path) if path else None})
        return
    for split, images in sizes.items():
        _console.print_text(f"{split:6} {images:>9,} images")
    counts = [f"{n:,}" for n in manifest.counts]
    shown = counts if len(counts) <= 20 else [*counts[:8], "...", *counts[-8:]]
    _console.print_text(f"counts {' '.join(shown)}")
    _console.print_text(f"fingerprint {manifest.fingerprint}")
    if path:
        _console.print_text(f"written to {path}")


_WHOLE = "\nresized crops are cut out of the files themselves, unless data.full_resolution=false"


def show_pack(source: Source, path: Path, info: PackInfo) -> None:
    """Say what was packed, and whether training will find it."""
    images, shards = len(info.names), len(info.shards(path))
    _console.print_text(
        f"{path}  {images:,} images of {info.size}x{info.size}, {images * 3 * info.size**2 / 1e6:,.0f} MB"
        f" in {shards} {'file' if shards == 1 else 'files'}, sha256 {info.sha256}"
    )
    _console.print_text(_describe_use(source, path, info))


def _describe_use(source: Source, path: Path, info: PackInfo) -> str:
    """Say whether training will read a pack, and at which setting."""
    from ltk.data.files import FileSplit
    from ltk.data.image import resolve_image
    from ltk.data.pack import pack_folders

    train, default = source.splits["train"], source.stored_size
    assert isinstance(train, FileSplit)  # nothing else is packed
    folders = pack_folders(train.root)
    if path.parent.resolve() not in [folder.resolve() for folder in folders]:
        return f"training will not find it: it looks in {folders[0]} and {folders[1]} alone (leave --out out)"
    turned = " and data.source.upright=true" if info.upright else ""
    if info.size == default:
        found = f"training finds it by itself at data.image_size={source.native_size} (the default){turned}"
        return found + _WHOLE if source.stored_size > source.native_size else found
    instead = f"by default it reads these images at {default} (--size {default})"
    sizes = [size for size in range(_LEAST_VIEW, info.size + 1) if resolve_image(source, size).stored == info.size]
    if not sizes:
        return f"training will not find it: no data.image_size reads at {info.size}; {instead}"
    return f"training finds it at data.image_size={sizes[0]}{turned} alone; {instead}"
