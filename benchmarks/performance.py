"""All benchmarks in one table, and docs/performance.md, written from their last results.

    python benchmarks/performance.py                       run all (a few minutes), print one table
    python benchmarks/performance.py step eval             run some
    python benchmarks/performance.py --write               run all and write docs/performance.md
    python benchmarks/performance.py --write --no-run      write it from the results that are there

Each benchmark runs in a process of its own; its results, with machine and date, are kept in ``.bench/NAME.json``. Not
run unless it is named: ``engines``, which compiles for minutes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks._measure import describe_machine, format_table
from benchmarks._tables import Results, section_rows, target_rows, to_markdown

ROOT = Path(__file__).parents[1]
CACHE, TARGET = ROOT / ".bench", ROOT / "docs" / "performance.md"


@dataclass(frozen=True)
class Section:
    """One benchmark as it is run for the document.

    Attributes:
        title: of its table.
        command: the script and its arguments.
        note: a sentence below the title.
    """

    title: str
    command: tuple[str, ...]
    note: str = ""


SECTIONS = {
    "step": Section(
        "A training step, 16 channels wide",
        ("step.py",),
        "Data included; the published settings on CIFAR-100-LT, the plain side as the official codes do it.",
    ),
    "step-64": Section(
        "GLMC as published, 64 channels wide",
        ("step.py", "--methods", "glmc", "--width", "64", "--batch", "32", "--rounds", "3"),
        "Half the published batch, to keep it short.",
    ),
    "step-workers": Section(
        "GLMC, the plain side's loaders in two processes of their own",
        ("step.py", "--methods", "glmc", "--workers", "1", "--steps", "3", "--rounds", "3"),
        "The plain side may use more cores than ltk here; processor time counts this process alone.",
    ),
    "views": Section(
        "Views",
        ("views.py", "--recipes", "crop-flip", "crop-flip-autoaugment-cutout", "simclr"),
        "ltk's batched views against PIL, image by image.",
    ),
    "eval": Section(
        "Evaluation",
        ("eval.py", "--images", "1024"),
        "Per-epoch figures in half precision with folded BatchNorm; saved logits in float32.",
    ),
    "bagmar": Section(
        "BaGMar's sums", ("bagmar.py",), "Vectors against class x class matrices and a loop over images."
    ),
    "memory": Section("Memory", ("memory.py",), "Peak bytes of tensors in a step, the stored images aside."),
    "scaling": Section("Growth", ("scaling.py",), "Milliseconds of processor time by size; p of time ~ size^p."),
    "parts": Section("Where the time of ltk's step goes", ("parts.py",), "Under the profiler."),
    "engines": Section(
        "torch.compile on this processor", ("engines.py",), "Eager / compiled, and what compiling costs."
    ),
}
ON_REQUEST = {"engines"}


def run(name: str) -> Results:
    """Run a section and keep its results."""
    section = SECTIONS[name]
    command = [sys.executable, str(ROOT / "benchmarks" / section.command[0]), *section.command[1:], "--json"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    kept = {"results": json.loads(done.stdout), "machine": describe_machine(1)}
    CACHE.mkdir(exist_ok=True)
    (CACHE / f"{name}.json").write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")
    return kept


def read(names: Iterable[str]) -> dict[str, Results]:
    """Return the kept results of sections, those that are there."""
    paths = {name: CACHE / f"{name}.json" for name in names}
    return {name: json.loads(path.read_text(encoding="utf-8")) for name, path in paths.items() if path.exists()}


def compose(kept: Mapping[str, Results], introduction: str) -> str:
    """Return the document."""
    parts = [introduction.strip(), "## In one table", to_markdown(target_rows(kept))]
    for name, section in SECTIONS.items():
        if name not in kept:
            continue
        machine = kept[name]["machine"]
        command = f"python benchmarks/{' '.join(section.command)}"
        where = (
            f"`{command}` on {machine['date']}: {machine['processor']}, {machine['cores']} cores, one thread,"
            f" load average {machine['load_average']}, torch {machine['torch']}, Python {machine['python']}."
        )
        tables = "\n\n".join(to_markdown(rows) for rows in section_rows(name, kept[name]["results"]))
        parts += [f"## {section.title}", f"{section.note}\n{where}".strip(), tables]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    """Parse, run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"some of: {', '.join(SECTIONS)}")
    parser.add_argument("--no-run", action="store_true", help="take the results that are there")
    parser.add_argument("--write", action="store_true", help=f"write {TARGET.relative_to(ROOT)}")
    options = parser.parse_args()
    for name in [] if options.no_run else options.sections or [name for name in SECTIONS if name not in ON_REQUEST]:
        print(f"{name} ...", file=sys.stderr, flush=True)
        run(name)
    kept = read(SECTIONS)
    print(format_table(target_rows(kept)))
    if options.write:
        introduction = (ROOT / "benchmarks" / "performance_intro.md").read_text(encoding="utf-8")
        TARGET.write_text(compose(kept, introduction), encoding="utf-8")


if __name__ == "__main__":
    main()
