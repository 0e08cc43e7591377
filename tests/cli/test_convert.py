"""``ltk convert`` from the outside: exit codes, what is printed, what is on the disk afterwards."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor
from typer.testing import CliRunner, Result

from ltk.checkpoint import load_model
from ltk.cli import app
from ltk.cli.convert import convert
from ltk.errors import LtkError

ROOT = Path(__file__).parents[2]
OPTIONS = {
    "file", "out", "force", "form", "arch", "key", "classifier", "options", "training_state", "dataset", "class_counts",
    "class_order", "ties", "allow_partial", "allow_nonfinite", "expect_accuracy", "root", "to", "as_json", "quiet",
}  # fmt: skip


def run(*arguments: object) -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(app, ["convert", *(str(argument) for argument in arguments)])


def code_of(result: Result) -> int:
    """The exit code the shell would see."""
    return result.exception.exit_code if isinstance(result.exception, LtkError) else result.exit_code


def message_of(result: Result) -> str:
    """What the error says."""
    return f"{result.exception} {getattr(result.exception, 'hint', '')}"


def start(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the command as a user does."""
    command = [sys.executable, "-m", "ltk", "convert", *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=cwd, env=environment, check=False)


def net_weights() -> dict[str, Tensor]:
    """A CIFAR ResNet-8 without classifier, as the official codes name it."""
    import timm

    import ltk.models.backbones  # noqa: F401  registers the CIFAR nets

    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = timm.create_model("cifar_resnet8", num_classes=0)
    return {f"module.{name}": value for name, value in net.state_dict().items()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """stage1.pth, stage2.pth (a classifier alone) and evil.pth."""
    generator = torch.Generator().manual_seed(0)
    first = net_weights() | {"module.linear.weight": torch.randn(64, 10, generator=generator)}
    torch.save({"epoch": 3, "state_dict": first, "best_acc1": torch.tensor(1.0)}, tmp_path / "stage1.pth")
    second = {"module.weight": torch.randn(64, 10, generator=generator)}
    torch.save({"epoch": 3, "state_dict": second}, tmp_path / "stage2.pth")
    (tmp_path / "evil.pth").write_bytes(b"\x80\x02cos\nsystem\n(X\x0b\x00\x00\x00touch markertR.")
    return tmp_path


def test_the_set_of_options_is_frozen() -> None:
    assert set(inspect.signature(convert).parameters) == OPTIONS


def test_a_file_becomes_a_model(folder: Path) -> None:
    result = run(folder / "stage1.pth")
    assert result.exit_code == 0, result.exception
    out = folder / "stage1.safetensors"
    assert load_model(out).predict(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    for text in ("GCL stage 1", "holds linear.weight", "44 tensors", "mapped", "a recorded number", "cifar_resnet8"):
        assert text in result.output
    with safe_open(out, "pt") as file:
        assert json.loads(file.metadata()["source"])["file"] == "stage1.pth"


def test_the_report_as_json(folder: Path) -> None:
    result = start("stage1.pth", "--json", cwd=folder)
    report = json.loads(result.stdout)
    assert report["format"] == "gcl"
    assert report["tensors"]["counts"] == {
        "source": 44, "mapped": 43, "kept aside": 0, "ignored": 1, "target": 43, "filled": 0, "random": 0,
    }  # fmt: skip
    assert len(report["tensors"]["rows"]) == 44
    assert report["backbone"] == {"name": "cifar_resnet8", "options": {}}
    assert report["output"] == "stage1.safetensors"


def test_stage_two(folder: Path) -> None:
    assert run(folder / "stage1.pth", "--classifier", folder / "stage2.pth", "--quiet").exit_code == 0
    weight = torch.load(folder / "stage2.pth")["state_dict"]["module.weight"]
    model: Any = load_model(folder / "stage1.safetensors")
    assert torch.equal(model.fc.weight, weight.t())
    alone = run(folder / "stage2.pth")
    assert code_of(alone) == 3
    assert "--classifier stage2.pth" in message_of(alone)


def test_hostile_files_cost_no_import_of_torch_and_leave_nothing(folder: Path) -> None:
    before = time.monotonic()
    result = start("evil.pth", cwd=folder)
    assert result.returncode == 4
    assert "os.system" in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
    assert sorted(path.name for path in folder.iterdir()) == ["evil.pth", "stage1.pth", "stage2.pth"]
    assert time.monotonic() - before < 10


def test_the_scale_of_training_is_told_for_every_data_set(folder: Path) -> None:
    for arguments in ((), ("--classifier", folder / "stage2.pth", "--dataset", "cifar10", "--force")):
        result = run(folder / "stage1.pth", *arguments)
        assert "30 in stage 1, 20 in stage 2 on CIFAR, 15 on Places-LT" in result.output


@pytest.mark.parametrize("target", ["timm", "legacy-bagmar"])
def test_what_was_never_converted_cannot_go_back(target: str, folder: Path) -> None:
    from safetensors.torch import save_file

    save_file(net_weights(), folder / "theirs.safetensors")
    for name in ("stage1.pth", "theirs.safetensors"):
        result = run(folder / name, "--to", target)
        assert code_of(result) == 3
        assert message_of(result) == f"{folder / name} was not written by ltk Convert it first: ltk convert FILE"


def test_bad_input(folder: Path) -> None:
    (folder / "cut.pth").write_bytes((folder / "stage1.pth").read_bytes()[:5000])
    (folder / "page.pth").write_text("<!DOCTYPE html>quota exceeded")
    (folder / "there.safetensors").touch()
    (folder / "counts.txt").write_text("5 4 -3")
    stage1 = folder / "stage1.pth"
    table: list[tuple[int, str, tuple[object, ...]]] = [
        (3, "no such file", (folder / "none.pth",)),
        (3, "not a file", (folder, "--out", folder / "x.safetensors")),
        (3, "incomplete", (folder / "cut.pth",)),
        (3, "HTML", (folder / "page.pth",)),
        (5, "exists", (stage1, "--out", folder / "there.safetensors")),
        (2, "overwrite its source", (stage1, "--out", stage1)),
        (2, "no file to write", (stage1, "--out", "-")),
        (2, "no file to write", (stage1, "--out", folder)),
        (2, "does not exist", (stage1, "--out", folder / "no" / "x.safetensors")),
        (2, "'gcl'", (stage1, "--format", "gclx")),
        (3, "no paco file", (stage1, "--format", "paco")),
        (2, "unknown key", (stage1, "--set", "gamma=1")),
        (2, "is not NAME=VALUE", (stage1, "--set", "gamma")),
        (2, "1000 classes", (stage1, "--dataset", "imagenet-lt")),
        (2, "something else", (stage1, "--class-counts", folder / "counts.txt")),
        (2, "no state dict 'ema'", (stage1, "--key", "ema")),
        (2, "needs the data set", (stage1, "--expect-accuracy", "50")),
        (2, "unknown target", (stage1, "--to", "keras")),
        (3, "", (stage1, "--to", "timm")),
    ]
    for code, text, arguments in table:
        result = run(*arguments)
        assert code_of(result) == code, (arguments, result.exception)
        assert text in message_of(result), (arguments, message_of(result))
        assert not (folder / "stage1.safetensors").exists()


def test_a_source_is_never_changed(folder: Path) -> None:
    before = (folder / "stage1.pth").read_bytes()
    run(folder / "stage1.pth", "--force")
    run(folder / "stage1.pth", "--force")
    assert (folder / "stage1.pth").read_bytes() == before


def test_class_counts_and_options(folder: Path) -> None:
    (folder / "counts.json").write_text("[10, 9, 8, 7, 6, 5, 4, 3, 2, 1]")
    counts = ("--class-counts", folder / "counts.json")
    assert run(folder / "stage1.pth", *counts, "--set", "scale=30", "--set", "margin=0.1").exit_code == 0
    with safe_open(folder / "stage1.safetensors", "pt") as file:
        assert json.loads(file.metadata()["method_options"]) == {"scale": 30, "margin": 0.1}
        assert json.loads(file.metadata()["class_counts"])[0] == 10


def test_partial_files_are_announced(folder: Path) -> None:
    content = torch.load(folder / "stage1.pth")
    del content["state_dict"]["module.conv1.weight"], content["state_dict"]["module.bn1.bias"]
    content["state_dict"]["module.conv1.weight"] = torch.zeros(16, 3, 3, 3)
    torch.save(content, folder / "stage1.pth")
    assert code_of(run(folder / "stage1.pth")) == 3
    result = run(folder / "stage1.pth", "--allow-partial")
    assert result.exit_code == 0
    assert "RANDOM, not in the file: backbone.net.bn1.bias" in result.output


def test_the_expected_accuracy(folder: Path) -> None:
    weights = net_weights()
    weights["module.conv1.weight"] = weights["module.conv1.weight"][:, :1]
    weights |= {"module.fc.weight": torch.zeros(10, 64), "module.fc.bias": torch.eye(10)[4]}
    torch.save(weights, folder / "fours.pth")
    chosen = (folder / "fours.pth", "--arch", "cifar_resnet8", "--dataset", "digits", "--expect-accuracy")
    wrong = run(*chosen, 30)
    assert code_of(wrong) == 3
    assert "10.00 %, not 30.00 %" in message_of(wrong)
    assert not (folder / "fours.safetensors").exists()
    assert run(*chosen, 10).exit_code == 0


def test_back_to_other_code(folder: Path) -> None:
    import timm
    from safetensors.torch import load_file

    torch.save(
        net_weights() | {"module.fc.weight": torch.ones(7, 64), "module.fc.bias": torch.ones(7)}, folder / "ce.pth"
    )
    assert run(folder / "ce.pth").exit_code == 0
    result = run(folder / "ce.safetensors", "--to", "timm")
    assert result.exit_code == 0, result.exception
    assert "timm.create_model('cifar_resnet8', num_classes=7, in_chans=3)" in result.output
    net = timm.create_model("cifar_resnet8", num_classes=7)
    net.load_state_dict(load_file(folder / "ce-timm.safetensors"), strict=True)
    assert code_of(run(folder / "ce.safetensors", "--to", "timm")) == 5
    again = run(folder / "ce.safetensors", "--to", "timm", "--force", "--json")
    assert json.loads(again.stdout)["output"].endswith("ce-timm.safetensors")
