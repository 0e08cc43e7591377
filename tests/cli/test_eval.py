from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from ltk.cli import app
from ltk.errors import DataError, LtkError, UsageError
from ltk.evaluation.logits import SavedLogits, save_logits

COUNTS = (200, 60, 50, 10)
CARD: dict[str, Any] = {
    "method": "ce",
    "dataset": "toy",
    "imb": 20.0,
    "width": 16,
    "parameters": 75_002,
    "prior": "none",
}


def create_logits(bias: float, seed: int, images: str = "f") -> SavedLogits:
    target_N = np.repeat(np.arange(4), 40)
    shared, own = (np.random.default_rng(s).normal(size=(160, 4)) for s in (7, seed))
    logits_NK = shared + 0.5 * own + bias * np.log(COUNTS) + 1.5 * np.eye(4)[target_N]
    names = ("cat", "dog", "owl", "[red]fox")
    return SavedLogits(logits_NK.astype(np.float32), target_N, np.arange(160), names, COUNTS, fingerprint=images * 64)


@pytest.fixture
def create_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def create(
        name: str, bias: float = 0.8, *, seed: int = 0, val: bool = False, images: str = "f", **card: Any
    ) -> Path:
        folder = Path("runs/toy-imb20") / name
        (folder / "checkpoints").mkdir(parents=True)
        (folder / "checkpoints" / "last.safetensors").touch()
        (folder / "config.toml").write_text('preset = ""\n')
        (folder / "card.json").write_text(json.dumps(CARD | {"seed": seed} | card))
        save_logits(create_logits(bias, seed, images), folder / "logits" / "test.safetensors")
        if val:
            save_logits(create_logits(bias, 100 + seed), folder / "logits" / "val.safetensors")
        return folder

    return create


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    if result.exception and not isinstance(result.exception, SystemExit | LtkError):
        raise result.exception
    return result


def payload(*arguments: object) -> dict[str, Any]:
    result = run("eval", *arguments, "--json")
    assert result.exit_code == 0, result.output
    value: dict[str, Any] = json.loads(result.stdout)
    return value


def test_without_a_run_the_latest_is_taken_and_named(create_run: Callable[..., Path]) -> None:
    create_run("ce-001")
    create_run("ce-002")
    result = run("eval")
    assert "runs/toy-imb20/ce-002 (the latest run)" in result.stderr
    assert "toy-imb20/ce-002 · last checkpoint · test images" in result.stdout
    rows = [line for line in result.stdout.splitlines() if line.startswith("│")]
    assert [row.split("│")[1].strip() for row in rows] == ["all", "many", "medium", "few"]
    assert "groups: many > 100 >= medium >= 20 > few training images" in result.stdout
    assert "[red]fox" in result.stdout  # a name is text, not markup


def test_split_shows_the_groups_asked_for(create_run: Callable[..., Path]) -> None:
    folder = create_run("ce-001")
    assert list(payload(folder, "--split", "many,medium,few")["splits"]) == ["many", "medium", "few"]
    assert list(payload(folder, "--split", "few")["splits"]) == ["few"]
    assert "unknown split 'fwe'" in str(run("eval", folder, "--split", "fwe").exception)


def test_json_holds_the_figures(create_run: Callable[..., Path]) -> None:
    found = payload(create_run("ce-001"), "--per-class", "--worst", 2, "--shift")
    saved = create_logits(0.8, 0)
    right_N = saved.logits_NK.argmax(axis=1) == saved.target_N
    assert found["schema"] == "ltk.eval/1"
    assert found["splits"]["all"]["top1"] == right_N.mean()
    assert found["splits"]["few"]["images"] == 40
    assert found["per_class"][3]["accuracy"] == right_N[120:].mean()
    assert found["worst"]["classes"][0] == "[red]fox"
    assert len(found["worst"]["classes"]) == 2
    assert len(found["shifts"]) == 11
    assert found["card"]["method"] == "ce"
    assert "per_class" not in payload("ce-001")


def test_groups_can_be_chosen(create_run: Callable[..., Path]) -> None:
    folder = create_run("ce-001")
    assert payload(folder, "--groups", "55,11")["splits"]["many"]["classes"] == 2
    empty = payload(folder, "--groups", "300,201")["splits"]["medium"]
    assert (empty["classes"], empty["top1"]) == (0, None)
    row = next(
        line
        for line in run("eval", folder, "--groups", "300,201").stdout.splitlines()
        if "medium" in line and "│" in line
    )
    assert row.count(" - ") >= 3


def test_tuning_on_validation_images(create_run: Callable[..., Path]) -> None:
    folder = create_run("ce-001", val=True)
    found = payload(folder, "--adjust", "la", "--tune")
    assert found["tuning"]["split"] == "val"
    assert not found["oracle"]
    assert (folder / "logits" / "tuning-la-val.json").is_file()
    recipes = {recipe["name"]: recipe for recipe in found["comparison"]["recipes"]}
    assert list(recipes) == ["as trained", found["adjustment"]]
    verdict = found["comparison"]["verdicts"][1]
    assert (verdict["group"], verdict["verdict"]) == ("few", "helps")
    assert found["splits"]["few"]["top1"] > recipes["as trained"]["top1"]["few"]["mean"]


def test_an_oracle_is_labelled_everywhere(create_run: Callable[..., Path]) -> None:
    folder = create_run("ce-001")
    found = payload(folder, "--adjust", "la", "--oracle")
    assert found["oracle"]
    assert found["adjustment"].endswith("(oracle)")
    text = run("eval", folder, "--adjust", "la", "--oracle").stdout
    assert text.count("(oracle)") >= 4  # title, row, both verdicts
    assert "oracle figures chose a value on the test images" in text
    assert "one seed" not in text  # both rows are one training run
    assert "differ in more than their method" not in text


def test_pn_stands_beside_its_inductive_form(create_run: Callable[..., Path]) -> None:
    folder = create_run("ce-001", val=True)
    text = run("eval", folder, "--adjust", "pn", "--tau", "1.5").stdout
    assert "PN tau=1.5 (transductive)" in text
    assert "PN tau=1.5, mass of the validation images" in text
    assert "transductive figures use the whole unlabelled test set at once" in text


def test_runs_are_compared(create_run: Callable[..., Path]) -> None:
    folders = [create_run(f"ce-00{i}", seed=i) for i in range(2)]
    folders.append(create_run("la-001", bias=0.0, method="la", width=64))
    text = run("eval", *folders).stdout
    assert text.index("width: 16 (ce), 64 (la)") < text.index("comparison on the same test images")
    assert "la helps on few, against ce" in text
    found = payload(*folders)
    assert found["schema"] == "ltk.compare/1"
    assert [(recipe["name"], recipe["seeds"]) for recipe in found["recipes"]] == [("ce", 2), ("la", 1)]
    assert found["differences"] == {"width": {"ce": "16", "la": "64"}}
    assert payload(*folders, "--baseline", "la")["baseline"] == "la"


@pytest.mark.parametrize("style", ["markdown", "latex", "csv"])
def test_formats(create_run: Callable[..., Path], style: str) -> None:
    folders = [create_run("ce-001"), create_run("la-001", bias=0.0, method="la")]
    text = run("eval", *folders, "--format", style).stdout
    assert text.startswith({"markdown": "| recipe | all |", "latex": r"\begin{tabular}{l", "csv": "recipe,all,"}[style])
    if style == "csv":
        rows = list(csv.DictReader(io.StringIO(text)))
        assert [row["recipe"] for row in rows] == ["ce", "la"]
        assert float(rows[1]["few"]) > float(rows[0]["few"])


def test_other_images_are_not_compared(create_run: Callable[..., Path]) -> None:
    result = run("eval", create_run("ce-001"), create_run("la-001", images="e"))
    assert isinstance(result.exception, DataError)
    assert "different images" in str(result.exception)


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        (["--format", "yaml"], UsageError),
        (["--adjust", "la", "--tune", "--oracle"], UsageError),
        (["--adjust", "magic"], UsageError),
        (["--adjust", "la", "--tune"], DataError),
        (["--groups", "20,100"], UsageError),
        (["--baseline", "la", "ce-001", "nowhere"], DataError),
    ],
)
def test_mistakes_of_the_user(create_run: Callable[..., Path], arguments: list[str], kind: type[LtkError]) -> None:
    create_run("ce-001")
    assert isinstance(run("eval", *arguments).exception, kind)


def test_groups_of_a_file_need_no_split(create_run: Callable[..., Path]) -> None:
    folders = [create_run("ce-001"), create_run("la-001", bias=0.0, method="la")]
    Path("groups.csv").write_text("cat,common\ndog,common\nowl,rare\n[red]fox,rare\n")
    assert list(payload(folders[0], "--groups", "groups.csv")["splits"]) == ["all", "common", "rare"]
    assert list(payload(folders[0], "--groups", "groups.csv", "--split", "rare")["splits"]) == ["rare"]
    text = run("eval", *folders, "--groups", "groups.csv", "--format", "csv").stdout
    assert text.startswith("recipe,all,common,rare,balanced,")


@pytest.mark.parametrize("style", ["markdown", "latex", "csv"])
def test_tables_of_a_file_format_stand_apart(create_run: Callable[..., Path], style: str) -> None:
    options = ("--adjust", "pn", "--per-class", "--shift", "--format", style)
    text = run("eval", create_run("ce-001", val=True), *options).stdout
    first, *others = text.removesuffix("\n").split("\n\n")
    tables, titles = [first, *others[1::2]], [title.removeprefix("% ") for title in others[::2]]
    assert titles == ["per class", "shifted tests (re-weighted)", "comparison on the same test images"]
    assert all(title.startswith("% ") for title in others[::2]) == (style == "latex")
    if style == "latex":
        assert all(t.startswith(r"\begin{tabular}") and t.endswith(r"\end{tabular}") for t in tables)
    elif style == "markdown":
        assert all(line.startswith("|") for table in tables for line in table.splitlines())
        assert all(":--" in table.splitlines()[1] and table.count(":--") == 1 for table in tables)
    else:
        rows = [list(csv.reader(io.StringIO(table))) for table in tables]
        assert [len({len(row) for row in table}) for table in rows] == [1] * 4
        assert [table[0][0] for table in rows] == ["split", "class", "test classes", "recipe"]


@pytest.mark.parametrize(
    ("options", "several", "words"),
    [
        (["--per-class"], True, "--per-class is for one run"),
        (["--shift"], True, "--shift is for one run"),
        (["--worst", "3"], True, "--worst is for one run"),
        (["--baseline", "nonsense"], False, "--baseline is for several runs"),
    ],
)
def test_options_without_effect_are_refused(
    create_run: Callable[..., Path], options: list[str], several: bool, words: str
) -> None:
    folders = [create_run("ce-001"), create_run("la-001", bias=0.0, method="la")]
    fault = run("eval", *(folders if several else folders[:1]), *options).exception
    assert isinstance(fault, UsageError)
    assert words in fault.message
    assert fault.hint


def test_no_run_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert isinstance(run("eval").exception, DataError)


def test_report_export_and_predict_are_commands(create_run: Callable[..., Path]) -> None:
    folder = create_run("ce-001")
    result = run("report", folder, "--plots", "figures")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[0] == f"{folder}/report.html"
    assert "<svg" in (folder / "report.html").read_text()
    assert len(list(Path("figures").glob("*.svg"))) == 4
    several = run("report", folder, create_run("la-001", method="la"), "-o", "out/both.html")
    assert several.stdout.strip() == "out/both.html"
    assert isinstance(run("report", folder, "--plot-format", "gif").exception, UsageError)
    assert isinstance(run("export", folder, "--adjust", "pn").exception, UsageError)
    assert isinstance(run("predict", folder, "none.png").exception, DataError)


def test_values_chosen_on_the_judged_validation_images_are_an_oracle(create_run: Callable[..., Path]) -> None:
    folder = create_run("ce-001", val=True)
    for options in (["--adjust", "la", "--tune"], ["--adjust", "la", "--oracle"], ["--temperature", "val"]):
        found = payload(folder, "--on", "val", *options)
        assert found["oracle"]
        text = run("eval", folder, "--on", "val", *options).stdout
        assert "note: oracle figures chose a value on the val images" in text
        assert "comparison on the same val images" in text
        assert "test images" not in text
    assert [path.name for path in (folder / "logits").glob("tuning-*")] == ["tuning-la-val.json"]


def test_the_best_epoch_on_the_judged_images_is_an_oracle(create_run: Callable[..., Path]) -> None:
    folders = [create_run(name, best_checkpoint="best epoch on test (oracle)", method=name) for name in ("ce", "la")]
    for folder in folders:
        logits = replace(create_logits(0.5, 0), checkpoint="best")
        for split in ("test", "val"):
            save_logits(logits, folder / "logits" / f"{split}-best.safetensors")
    best = ("--checkpoint", "best")
    assert payload(folders[0], *best)["oracle"]
    assert not payload(folders[0])["oracle"]
    assert not payload(folders[0], *best, "--on", "val")["oracle"]
    text = run("eval", folders[0], *best).stdout
    assert "best checkpoint, best epoch on test (oracle) · test images" in text
    assert "note: oracle figures chose a value on the test images" in text
    for style in ("markdown", "csv", "latex"):
        assert "top-1 (oracle)" in run("eval", folders[0], *best, "--format", style).stdout
        assert "la (oracle)" in run("eval", *folders, *best, "--format", style).stdout
        assert "oracle" not in run("eval", *folders, "--format", style).stdout
    assert all(recipe["oracle"] for recipe in payload(*folders, *best)["recipes"])
    assert run("report", folders[0], *best).exit_code == 0
    page = (folders[0] / "report.html").read_text()
    assert "best checkpoint (best epoch on test (oracle))" in page
    assert "top-1 (oracle)" in page


def test_a_damaged_curve_stops_a_report_by_its_name(create_run: Callable[..., Path]) -> None:
    folder = create_run("ce-001")
    (folder / "logits" / "tuning-la-val.json").write_text("{")
    fault = run("report", folder).exception
    assert isinstance(fault, DataError)
    assert "tuning-la-val.json is damaged" in fault.message
