"""The results of the benchmarks as tables: rows of cells, the first row the header."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks._measure import RATIO_COLUMNS, Ratio, ratio_cells

Results = dict[str, Any]
Rows = list[list[str]]

# label, least ratio aimed at, section, key of its results
TARGETS = (
    ("training step, GLMC 16 wide", 2.2, "step", "glmc"),
    ("training step, GLMC 64 wide", 3.3, "step-64", "glmc"),
    ("training step, cross-entropy 16 wide", 2.1, "step", "ce"),
    ("training step, GCL 16 wide", 2.1, "step", "gcl"),
    ("training step, BaGMar 16 wide", 2.1, "step", "bagmar"),
    ("training step, PaCo 16 wide", None, "step", "paco"),
    ("training step, GPaCo 16 wide", None, "step", "gpaco"),
    ("training step, ResLT 16 wide", None, "step", "reslt"),
    ("crop, flip, normalise", 15.0, "views", "crop-flip"),
    ("evaluation, per-epoch figures", 4.5, "eval", "width 16, per epoch"),
    ("evaluation, saved logits (float32)", None, "eval", "width 16, saved logits"),
    ("BaGMar's sums, 8,142 classes", 100.0, "bagmar", "8142"),
)


def target_rows(kept: Mapping[str, Results]) -> Rows:
    """Return the table of aims: label, aim, what was measured."""
    rows = [["times as fast as the plain side", "aim", "measured", "quartiles", "by processor time", "reached"]]
    for label, aim, section, key in TARGETS:
        if section not in kept:
            continue
        ratio = _read_ratio(kept[section]["results"][key])
        _, _, middle, spread, cpu = ratio_cells(ratio)
        reached = "" if aim is None else "yes" if ratio.ratio >= aim else "no"
        rows.append([label, "" if aim is None else f"{aim:g}", middle, spread, cpu, reached])
    if "memory" in kept:
        steps = kept["memory"]["results"]["step"]
        shares = f"{min(v['ratio'] for v in steps.values()):.2f} to {max(v['ratio'] for v in steps.values()):.2f}"
        reached = "yes" if steps["glmc"]["ratio"] >= 1 else "no"
        rows.append(["peak memory of a step, plain / ltk", "1", shares, "", "", reached])
    return rows


def section_rows(name: str, results: Results) -> list[Rows]:
    """Return the tables of a section."""
    if name == "memory":
        return _memory_tables(results)
    if name == "scaling":
        rows = [["what, by what", "sizes", "CPU ms", "p"]]
        for label, growth in results.items():
            sizes = [size for size in growth if size != "exponent"]
            times = " / ".join(f"{growth[size]:.1f}" for size in sizes)
            rows.append([label, " / ".join(sizes), times, f"{growth['exponent']:.2f}"])
        return [rows]
    if name == "parts":
        parts = list(next(iter(results.values()))["parts"])
        rows = [["method", *parts, "slowest operators"]]
        for method, value in results.items():
            shares = [f"{100 * value['parts'][part]:.1f} %" for part in parts]
            rows.append([method, *shares, ", ".join(value["slowest"])])
        return [rows]
    return [_ratio_table(results)]


def _read_ratio(value: Mapping[str, Any]) -> Ratio:
    fields = value["ratio"] if isinstance(value["ratio"], dict) else value
    return Ratio(**{key: fields[key] for key in Ratio.__dataclass_fields__})


def _ratio_table(results: Results) -> Rows:
    extras = {"relative_error": "error of the logits", "agreement": "same class", "compile_seconds": "s to compile"}
    shown = [key for key in extras if key in next(iter(results.values()))]
    rows = [["", *RATIO_COLUMNS, *(extras[key] for key in shown)]]
    for label, value in results.items():
        rows.append([label, *ratio_cells(_read_ratio(value)), *(f"{value[key]:.3g}" for key in shown)])
    return rows


def _memory_tables(results: Results) -> list[Rows]:
    step = [["peak in MB", "ltk", "plain", "plain / ltk"]]
    step += [
        [method, f"{v['ltk'] / 1e6:.1f}", f"{v['plain'] / 1e6:.1f}", f"{v['ratio']:.2f}"]
        for method, v in results["step"].items()
    ]
    sizes = [key for key in next(iter(results["classes"].values())) if key != "bytes_per_class"]
    classes = [["ltk's peak in MB by classes", *sizes, "bytes per class"]]
    classes += [
        [method, *(f"{v[size] / 1e6:.1f}" for size in sizes), str(v["bytes_per_class"])]
        for method, v in results["classes"].items()
    ]
    keys = [key for key in results["queue"] if key != "bytes_per_key"]
    queue = [["ltk's peak in MB by queue", *keys, "bytes per key"]]
    queue.append(
        ["paco", *(f"{results['queue'][key] / 1e6:.1f}" for key in keys), str(results["queue"]["bytes_per_key"])]
    )
    return [step, classes, queue]


def to_markdown(rows: Rows) -> str:
    """Return rows as a Markdown table, numbers to the right."""
    head, *body = rows
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in body)])
