"""A checkpoint in the folder of another run is not judged, exported or continued under that run's name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from ltk.checkpoint import load_model_and_metadata, read_tensors, write_tensors
from ltk.config import ParentSettings
from ltk.engine.adopt import adopt_model
from ltk.engine.fit import fit, resume
from ltk.engine.parent import open_parent
from ltk.errors import DataError
from ltk.evaluation.deploy import create_deployment
from ltk.evaluation.pipeline import Judge
from ltk.evaluation.weights import load_own_model
from ltk.resolve import resolve_config

LAST = Path("checkpoints/last.safetensors")
OTHERS: dict[str, tuple[str, dict[str, object]]] = {
    "method": ("balanced-softmax", {}),
    "method_options": ("focal", {"method.gamma": 1.0}),
    "class_counts": ("ce", {"data.imb_type": "step"}),
    "backbone": ("ce", {"model.width": 8}),
    "images": ("ce", {"data.subset": "first-n"}),
    "seed": ("ce", {"run.seed": 1}),
}


def train(method: str, out: Path, **options: object) -> Path:
    fixed = {"optim.epochs": 1, "run.device": "cpu", "run.precision": "fp32", "run.threads": 1, "model.width": 4}
    config = resolve_config(method, dataset="digits", imb=50, options={**fixed, **options}).config
    return fit(config, out=out).folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    train("ce", folder / "ce")
    train("focal", folder / "focal")
    return folder


def copy(runs: Path, name: str, target: Path) -> Path:
    return shutil.copytree(runs / name, target / name)


@pytest.mark.parametrize("difference", OTHERS)
def test_the_checkpoint_of_another_run_is_refused(runs: Path, tmp_path: Path, difference: str) -> None:
    method, options = OTHERS[difference]
    run = copy(runs, "focal" if method == "focal" else "ce", tmp_path)
    other = train(method, tmp_path / "other", **options)
    shutil.copy(other / LAST, run / LAST)
    with pytest.raises(DataError, match=f"is another run's: other .*{difference}") as caught:
        Judge().evaluate(run)
    assert caught.value.exit_code == 3
    with pytest.raises(DataError, match="is another run's"):
        open_parent(ParentSettings(path=run))


def test_neither_exported_nor_continued(runs: Path, tmp_path: Path) -> None:
    run = copy(runs, "ce", tmp_path)
    result = Judge().evaluate(run)
    other = train("ce", tmp_path / "other", **{"data.imb_type": "step"})
    shutil.copy(other / LAST, run / LAST)
    with pytest.raises(DataError, match="is another run's"):
        create_deployment(result)
    state = read_tensors(runs / "ce" / LAST)[1]["state"]
    tensors, metadata = read_tensors(run / LAST)
    write_tensors(run / LAST, tensors, metadata | {"state": state})
    with pytest.raises(DataError, match="is another run's: other class_counts"):
        resume(run)


def test_the_best_checkpoint_of_another_run_is_refused(runs: Path, tmp_path: Path) -> None:
    run = copy(runs, "ce", tmp_path)
    shutil.copy(runs / "focal/checkpoints/best.safetensors", run / "checkpoints")
    Judge().evaluate(run)
    with pytest.raises(DataError, match="is another run's: other method"):
        Judge(checkpoint="best").evaluate(run)


def test_an_option_that_the_file_does_not_name_is_the_default(runs: Path, tmp_path: Path) -> None:
    """As in a run of an earlier version, whose method had fewer options."""
    run = copy(runs, "focal", tmp_path)
    tensors, metadata = read_tensors(run / LAST)
    assert json.loads(metadata["method_options"])
    write_tensors(run / LAST, tensors, metadata | {"method_options": "{}"})
    load_own_model(run, run / LAST)


def test_an_adopted_model_is_known_by_its_checksum(runs: Path, tmp_path: Path) -> None:
    run = adopt_model(runs / "ce/model.safetensors", tmp_path, dataset="digits", root=None, imb=None)
    Judge().evaluate(run)
    open_parent(ParentSettings(path=run))
    shutil.rmtree(run / "logits")
    shutil.copy(runs / "focal/model.safetensors", run)
    load_model_and_metadata(run)
    with pytest.raises(DataError, match="is another run's: other model file"):
        Judge().evaluate(run)


@pytest.mark.parametrize(
    "state", ["[" * 5000, "[]", "{}", '{"fingerprint": 1, "config": []}', '{"config": {"run": 3}}']
)
def test_a_state_that_is_none_is_damage(runs: Path, tmp_path: Path, state: str) -> None:
    run = copy(runs, "ce", tmp_path)
    tensors, metadata = read_tensors(run / LAST)
    write_tensors(run / LAST, tensors, metadata | {"state": state})
    with pytest.raises(DataError, match=r"damaged|other state"):
        Judge().evaluate(run)
    (run / "checkpoints/previous.safetensors").unlink()
    with pytest.raises(DataError):
        resume(run)


@pytest.mark.parametrize("change", ["rename", "position"])
def test_a_checkpoint_that_does_not_fit_its_network_is_not_continued(runs: Path, tmp_path: Path, change: str) -> None:
    run = copy(runs, "ce", tmp_path)
    tensors, metadata = read_tensors(run / LAST)
    if change == "rename":
        name = next(name for name in tensors if name.startswith("model."))
        tensors[f"{name}x"] = tensors.pop(name)
    else:
        state = json.loads(metadata["state"])
        state["position"]["step"] = -1
        metadata["state"] = json.dumps(state)
    write_tensors(run / LAST, tensors, metadata)
    with pytest.raises(DataError, match="does not fit its network"):
        resume(run)
