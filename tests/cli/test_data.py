from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from ltk.cli._data_output import PLOTS, SHEETS
from ltk.cli.data import app
from ltk.data.splits import Manifest
from ltk.errors import DataError, LtkError, UsageError

COUNTS = {"ant": 30, "bee": 9, "cicada": 1}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LTK_DATA", str(tmp_path / "data-root"))
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.chdir(tmp_path)


def run(*arguments: object) -> Result:
    """Run `ltk data` and let errors of the user through, as the main command does."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if isinstance(result.exception, LtkError):
        raise result.exception
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def run_json(*arguments: object) -> Any:
    return json.loads(run(*arguments, "--json").stdout)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    for name, count in COUNTS.items():
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(count):
            pixels = generator.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"lot{i // 3}_{i}.png")
    return tmp_path / "photos"


def test_list_names_every_data_set_and_how_to_get_it() -> None:
    out = run("list").stdout
    for name in ("digits", "cifar10", "cifar100", "imagenet-lt", "places-lt", "inat2018"):
        assert name in out
    assert "ltk data prepare cifar100" in out
    found = {entry["name"]: entry for entry in run_json("list")["datasets"]}
    assert found["digits"]["state"] == "built in"
    assert found["inat2018"]["images"] == {"train": 437_513, "test": 24_426}


def test_stats_of_a_cut(tmp_path: Path) -> None:
    result = run_json("stats", "digits", "--imb", 50, "--plot", tmp_path / "counts.png")
    assert result["train"] == [124, 80, 51, 33, 21, 14, 9, 5, 3, 2]
    assert (result["images"], result["largest"], result["smallest"], result["imbalance"]) == (342, 124, 2, 62.0)
    assert [(g["name"], g["classes"], g["train"], g["test"]) for g in result["groups"]] == [
        ("many", 3, 255, 150),
        ("medium", 3, 68, 150),
        ("few", 4, 19, 200),
    ]
    assert (tmp_path / "counts.png").stat().st_size > 5000
    out = run("stats", "digits", "--imb", 50).stdout
    assert "342 of 1,297 training images" in out
    assert "█" * 40 in out


def test_stats_of_an_own_folder_warns_of_rare_classes(photos: Path) -> None:
    result = run("stats", photos, "--groups", "tertile")
    assert "train has fewer than 3 images of 1 class: cicada (1)" in result.stderr
    assert "Warning" not in result.stdout
    assert "tertile" in result.stdout
    few = run_json("stats", photos, "--groups", "10,6", "--test", 0.5)["groups"][2]
    assert (few["classes"], few["train"]) == (2, 6)


def test_an_empty_group_is_a_dash(photos: Path) -> None:
    row = next(line for line in run("stats", photos).stdout.splitlines() if "many" in line)
    assert row.split("│")[2:4] == [" 0 ".rjust(9), " - ".rjust(18)]


def test_names_with_markup_are_shown_as_they_are(photos: Path) -> None:
    (photos / "ant").rename(photos / "[red]ant")
    assert "[red]ant" in run("stats", photos).stdout


def test_split_writes_the_manifest(tmp_path: Path) -> None:
    out = run("split", "digits", "--imb", 20, "--subset", "glmc", "--val", 2, "-o", tmp_path / "split.json").stdout
    manifest = Manifest.read(tmp_path / "split.json")
    assert f"fingerprint {manifest.fingerprint}" in out
    assert (manifest.subset, manifest.imb, manifest.val) == ("glmc", 20, 2)
    result = run_json("split", "digits", "--imb", 20, "--subset", "glmc", "--val", 2)
    assert result["fingerprint"] == manifest.fingerprint
    assert result["images"] == {name: len(own) for name, own in manifest.indices.items()}


@pytest.mark.parametrize(
    ("imb", "words"), [("0", "at least 1"), ("-1", "at least 1"), ("nan", "at least 1"), ("0.01", "Use 100")]
)
def test_useless_imbalance_is_refused(imb: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        run("stats", "digits", f"--imb={imb}")
    assert words in caught.value.message + caught.value.hint


def test_verify_finds_and_writes_down_what_is_wrong(photos: Path, tmp_path: Path) -> None:
    assert "every image can be read" in run("verify", photos, "--deep").stdout
    (photos / "bee/lot1_3.png").write_bytes(b"<html>")
    (photos / "ant/lot9_99.png").write_bytes((photos / "bee/lot0_0.png").read_bytes())
    with pytest.raises(DataError) as caught:
        run("verify", photos, "--deep", "--write-bad", tmp_path / "bad.txt")
    assert "1 image cannot be read" in caught.value.message
    text = (tmp_path / "bad.txt").read_text()
    assert "bee/lot1_3.png: not an image (it is a web page or SVG)" in text
    assert "ant/lot9_99.png = bee/lot0_0.png" in text or "bee/lot0_0.png = ant/lot9_99.png" in text


def test_verify_in_json_keeps_everything(photos: Path) -> None:
    result = run_json("verify", photos)
    assert result["ok"] is True
    warning = next(f for f in result["findings"] if f["level"] == "warning" and f["text"].startswith("one or two"))
    assert warning["items"] == ["cicada (1)"]


def test_pack_then_train_data_come_from_it(photos: Path) -> None:
    from ltk.data.files import FileSplit
    from ltk.data.sources import open_source

    out = run("pack", photos, "--size", 12).stdout
    assert "40 images of 12x12" in out
    split = open_source("folder", root=photos).splits["train"]
    assert isinstance(split, FileSplit)
    assert split.pack(12) is not None
    assert split.pack(16) is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "finds it by itself at data.image_size=16 (the default)"),
        (("--upright",), "(the default) and data.source.upright=true"),
        (("--size", 12), "finds it at data.image_size=12 alone; by default it reads these images at 16 (--size 16)"),
        (("--out", "packs"), "will not find it: it looks in"),
    ],
)
def test_pack_says_whether_training_finds_it(photos: Path, arguments: tuple[object, ...], words: str) -> None:
    assert words in run("pack", photos, *arguments).stdout


def test_a_pack_is_found_at_the_size_that_is_named(large: Path) -> None:
    from ltk.data.files import FileSplit
    from ltk.data.image import resolve_image
    from ltk.data.sources import open_source

    assert "finds it at data.image_size=196 alone" in run("pack", large, "--size", 224).stdout
    assert "no data.image_size reads at 220" in run("pack", large, "--size", 220).stdout
    source = open_source("folder", root=large)
    train = source.splits["train"]
    assert isinstance(train, FileSplit)
    assert train.pack(resolve_image(source).stored) is None
    assert train.pack(resolve_image(source, 196).stored) is not None


@pytest.fixture
def large(tmp_path: Path) -> Path:
    for name in ("ant", "bee"):
        (tmp_path / "large" / name).mkdir(parents=True)
        for i in range(2):
            Image.effect_noise((140, 140), 60).save(tmp_path / "large" / name / f"{i}.png")
    return tmp_path / "large"


def test_packs_of_two_folders_in_one_place_keep_apart(photos: Path, large: Path) -> None:
    for folder in (photos, large):
        run("pack", folder, "--size", 16, "--out", "packs")
    assert sorted(path.name for path in Path("packs").glob("*.json")) == ["large-16.json", "photos-16.json"]


def test_own_images_are_called_by_their_folder(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_json("stats", photos)["name"] == run_json("split", photos)["name"] == "photos"
    assert run_json("verify", photos)["name"] == "photos"
    assert run_json("verify", "folder", "--root", photos)["name"] == "photos"
    assert run_json("stats", "digits")["name"] == "digits"
    assert run("stats", photos).stdout.startswith("photos ")
    monkeypatch.chdir(photos)
    assert run("preview", ".", "--rows", 1).stdout == "photos-preview.png\n"
    (photos / "bee/lot1_3.png").write_bytes(b"<html>")
    with pytest.raises(DataError, match=r"^photos: "):
        run("verify", ".")


def test_a_folder_and_a_root_are_one_too_many(photos: Path, tmp_path: Path) -> None:
    for arguments in ((), ("--csv", tmp_path / "table.csv")):
        with pytest.raises(UsageError, match="photos is a folder of images, and --root names a folder too"):
            run("stats", photos, "--root", tmp_path, *arguments)


@pytest.mark.parametrize("command", [("preview", "--out"), ("stats", "--plot")], ids=" ".join)
@pytest.mark.parametrize("name", ["x.foo", "x"])
def test_unknown_kinds_of_pictures_are_refused_before_anything_is_read(command: tuple[str, str], name: str) -> None:
    with pytest.raises(UsageError) as caught:
        run(command[0], "absent/folder", command[1], name)
    assert "x" in caught.value.message
    assert ".png" in caught.value.hint


def test_every_kind_of_picture_that_is_named_is_written(photos: Path) -> None:
    for suffix in SHEETS:
        run("preview", photos, "--rows", 1, "--columns", 2, "-o", f"sheet{suffix}")
    for suffix in PLOTS:
        run("stats", photos, "--plot", f"plot{suffix}")
    assert len(list(Path().glob("sheet.*"))) == len(SHEETS)
    assert len(list(Path().glob("plot.*"))) == len(PLOTS)


@pytest.mark.parametrize("option", ["--seed", "--subset-seed", "--min-per-class"])
def test_numbers_out_of_range_are_refused(photos: Path, option: str) -> None:
    result = run("stats", photos, f"{option}=-1")
    assert result.exit_code == 2
    assert option in result.stderr


@pytest.mark.parametrize("command", ["stats", "split"])
@pytest.mark.parametrize("option", [("--head", 20), ("--imb-type", "step"), ("--subset", "glmc")])
def test_options_of_a_cut_need_one(command: str, option: tuple[str, object]) -> None:
    with pytest.raises(UsageError, match=f"{option[0]} is for a cut") as caught:
        run(command, "digits", *option)
    assert "--imb" in caught.value.hint
    run(command, "digits", *option, "--imb", 2)


def test_preview_writes_a_picture(photos: Path, tmp_path: Path) -> None:
    assert run("preview", photos).stdout == "photos-preview.png\n"
    run("preview", photos, "--aug", "crop-flip", "--split", "test", "-o", tmp_path / "views.png")
    with Image.open(tmp_path / "views.png") as image:
        assert image.size == (150 + 8 * 74, 2 * 74)
    with pytest.raises(UsageError, match="unknown split 'tests'"):
        run("preview", photos, "--split", "tests")


def test_lists_tables_and_lots(photos: Path, tmp_path: Path) -> None:
    names = sorted(f"{path.parent.name}/{path.name}" for path in photos.glob("*/*.png"))
    labels = {name: i for i, name in enumerate(COUNTS)}
    (tmp_path / "train.txt").write_text("".join(f"{n} {labels[n.split('/')[0]]}\r\n" for n in names))
    (tmp_path / "test.txt").write_text(f"{names[0]} 0")
    lists = ("--train-list", tmp_path / "train.txt", "--test-list", tmp_path / "test.txt")
    assert run_json("stats", "list", "--root", photos, *lists)["train"] == [30, 9, 1]
    assert run_json("stats", photos, *lists)["train"] == [30, 9, 1]
    rows = [f"{n},{n.split('/')[0]},{n.split('/')[1].split('_')[0]}" for n in names]
    (tmp_path / "table.csv").write_text("\n".join(["path,label,lot", *rows]))
    table = ("csv", "--root", photos, "--csv", tmp_path / "table.csv")
    by_column = run_json("split", *table, "--group-col", "lot")
    by_pattern = run_json("split", *table, "--group-regex", r"(lot\d+)_")
    assert by_column["fingerprint"] == by_pattern["fingerprint"] != run_json("split", *table)["fingerprint"]


def test_prepare_of_licensed_sets_says_what_to_place_where(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["prepare", "inat2018", "--root", str(tmp_path)])
    assert isinstance(result.exception, DataError)
    assert result.exception.exit_code == 3
    assert "iNaturalist18_train.txt" in result.exception.message
    for words in ("train_val2018.tar.gz", "437,513 lines", f"{tmp_path}/lists/iNaturalist18_val.txt", "24,426 lines"):
        assert words in result.stdout


def test_prepare_answers_unknown_and_built_in_names() -> None:
    with pytest.raises(UsageError) as caught:
        run("prepare", "cifar1000")
    assert "cifar100" in caught.value.hint
    assert "nothing to prepare" in run("prepare", "digits").stderr


def test_help_shows_every_option_and_imports_no_torch() -> None:
    code = (
        "import sys\n"
        "from typer.testing import CliRunner\n"
        "from ltk.cli.data import app\n"
        "for name in ('list', 'prepare', 'verify', 'stats', 'split', 'pack', 'preview'):\n"
        "    result = CliRunner().invoke(app, [name, '--help'])\n"
        "    assert result.exit_code == 0, result.output\n"
        "    assert 'Examples' in result.output\n"
        "    assert name in ('list', 'prepare') or '--group-regex' in result.output\n"
        "assert 'torch' not in sys.modules and 'scipy' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
