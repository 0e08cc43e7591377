"""--device: the same names for every command, and a device that is not there is never replaced by another."""

from __future__ import annotations

import pytest
import torch
from typer.testing import CliRunner

from ltk.cli import app
from ltk.cli._options import find_device
from ltk.errors import EnvironmentFault, UsageError

COMMANDS = (["eval", "run"], ["report", "run"], ["train", "ce"], ["finetune-classifier", "run"])


@pytest.mark.parametrize("name", ["", "gpu", "tpu", "meta", "xpu", "cuda:", "cuda:-1", "cuda:01", "cuda:300", "cuda:٣"])
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_unknown_devices_are_refused_first(command: list[str], name: str) -> None:
    """Before the run is looked for, which is not there."""
    result = CliRunner().invoke(app, [*command, f"--device={name}"])
    assert isinstance(result.exception, UsageError)
    assert "is none of auto, cpu, cuda and cuda:N" in result.exception.message


@pytest.mark.skipif(torch.cuda.is_available(), reason="asks for what is not there")
@pytest.mark.parametrize("name", ["cuda", "cuda:9", "mps"])
def test_a_device_that_is_not_there_is_said(name: str) -> None:
    with pytest.raises(EnvironmentFault):
        find_device(name)


def test_auto_is_a_device() -> None:
    assert find_device("cpu") == "cpu"
    assert torch.device(find_device("auto")).type in ("cpu", "cuda")
