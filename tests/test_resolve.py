"""From what the user says about the images to a preset: their options are known before they are opened."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from ltk.errors import DataError, UnsafeError, UsageError
from ltk.resolve import name_source, resolve_config


def write_images(root: Path, size: int) -> Path:
    for name in ("ant", "bee"):
        (root / name).mkdir(parents=True)
        for i in range(4):
            Image.effect_noise((size, size), 60).save(root / name / f"{i}.png")
    return root


def write_table(root: Path) -> Path:
    rows = [f"{path.parent.name}/{path.name},{path.parent.name}" for path in sorted(root.glob("*/*.png"))]
    path = root.with_suffix(".csv")
    path.write_text("\n".join(["path,label", *rows]))
    return path


def write_list(root: Path) -> Path:
    path = root.with_suffix(".txt")
    path.write_text("".join(f"{name}/{i}.png {label}\n" for label, name in enumerate(("ant", "bee")) for i in range(4)))
    return path


def test_tables_and_lists_start_from_the_preset_of_the_same_folder(tmp_path: Path) -> None:
    root = write_images(tmp_path / "big", 160)
    table, names = write_table(root), write_list(root)
    expected = resolve_config("ce", dataset=str(root)).config
    assert expected.preset.startswith("ce/imagenet-lt")
    csv = resolve_config("ce", dataset="csv", root=root, options={"data.source.csv": table})
    lists = {"data.source.train_list": names, "data.source.test_list": names}
    listed = resolve_config("ce", dataset="list", root=root, options=lists)
    overridden = resolve_config("ce", dataset="csv", root=root, overrides=[f"data.source.csv={table}"])
    for resolved in (csv, listed, overridden):
        assert resolved.config.preset == expected.preset
        assert resolved.config.model == expected.model


def test_a_folder_with_a_table_or_lists_is_opened_by_them(tmp_path: Path) -> None:
    root = write_images(tmp_path / "photos", 16)
    table, names = write_table(root), write_list(root)
    csv = resolve_config("ce", dataset=str(root), options={"data.source.csv": table}).config.data
    assert (csv.dataset, csv.root, csv.title) == ("csv", root, "photos")
    lists = {"data.source.train_list": names, "data.source.test_list": names}
    assert resolve_config("ce", dataset=str(root), options=lists).config.data.dataset == "list"


@pytest.mark.parametrize("named", [True, False])
def test_options_of_the_source_are_known_when_it_is_opened(tmp_path: Path, named: bool) -> None:
    root = write_images(tmp_path / "photos", 16)
    outside = write_images(tmp_path / "outside", 16)
    (root / "ant" / "link.png").symlink_to(outside / "ant" / "0.png")
    with pytest.raises(UnsafeError):
        resolve_config("ce", dataset=str(root))
    key = "data.source.allow_outside"
    given = {"options": {key: True}} if named else {"overrides": iter([f"{key}=true"])}
    assert resolve_config("ce", dataset=str(root), **given).config.data.source.allow_outside  # type: ignore[arg-type]


def test_options_of_the_source_are_checked_before_it_is_opened(tmp_path: Path) -> None:
    for override in ("data.source.min_per_class=0", "data.source.allow_outsid=true"):
        with pytest.raises(UsageError, match=r"data\.source"):
            resolve_config("ce", dataset=str(tmp_path), overrides=[override])


def test_a_preset_or_file_opens_nothing(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text('preset = ""\n')
    (tmp_path / "empty").mkdir()
    code = (
        "import sys; from ltk.resolve import resolve_config\n"
        "for what in ('ce/digits', 'own.toml'): resolve_config(what, dataset='empty')\n"
        "assert not {'torch', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, timeout=60)


def test_a_folder_and_a_root_are_one_too_many(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a folder of images, and --root names a folder too"):
        resolve_config("ce", dataset=str(tmp_path), root=tmp_path / "mnt")
    assert name_source(str(tmp_path), None) == ("folder", tmp_path)
    assert name_source("cifar10", tmp_path) == ("cifar10", tmp_path)


def test_a_path_that_is_not_there_is_no_unknown_data_set(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no folder"):
        resolve_config("ce", dataset=str(tmp_path / "absent"))
