"""The averaged weights: their formula, and that they are what is evaluated, kept and continued."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ltk.checkpoint import load_checkpoint, load_model
from ltk.config import RunConfig
from ltk.engine.average import WeightAverage
from ltk.engine.fit import fit, resume
from ltk.engine.stage_two import StageTwoRequest, resolve_stage_two
from ltk.errors import StoppedError
from ltk.methods import create_method
from ltk.models.backbones import create_backbone
from ltk.resolve import resolve_config
from ltk.run_files import LAST
from tests.test_resume import Interrupter, assert_same_end


def create_config(decay: float) -> RunConfig:
    options = {"optim.epochs": 3, "run.device": "cpu", "run.precision": "fp32", "run.threads": 1}
    return resolve_config(
        "ce", dataset="digits", options=options, overrides=["model.width=4", f"optim.ema={decay}"]
    ).config


def test_it_is_an_exponential_moving_average() -> None:
    method = create_method("paco", create_backbone("cifar_resnet8", width=4), torch.tensor([4, 2]), queue_size=4)
    average = WeightAverage(method, 0.75)
    name = next(name for name, _ in method.backbone.named_parameters(prefix="backbone"))
    counter = next(name for name, _ in method.named_buffers() if name.endswith("num_batches_tracked"))
    expected = method.get_parameter(name).detach().clone()
    for step in range(3):
        with torch.no_grad():
            method.get_parameter(name).add_(step + 1.0)
            method.get_buffer(counter).add_(1)
        average.update()
        expected = 0.75 * expected + 0.25 * method.get_parameter(name).detach()
    torch.testing.assert_close(average.tensors()[name], expected)
    assert average.tensors()[counter] == 3
    assert not any(key.startswith(("queue", "key_")) for key in average.tensors())


def test_the_average_is_evaluated_and_kept(tmp_path: Path) -> None:
    plain, averaged = (fit(create_config(decay), out=tmp_path / str(decay)) for decay in (0.0, 0.9))
    trained = load_checkpoint(averaged.folder / "checkpoints" / LAST)
    for name, value in load_checkpoint(plain.folder / "checkpoints" / LAST).part("model").items():
        assert torch.equal(value, trained.part("model")[name]), "averaging changed the training"
    for source in (averaged.folder, averaged.folder / "model.safetensors"):
        kept = load_model(source).state_dict()
        assert all(torch.equal(kept[name], value) for name, value in trained.part("ema").items())
    assert not torch.equal(trained.part("ema")["fc.weight"], trained.part("model")["fc.weight"])
    assert [r["test"] for r in plain.records] != [r["test"] for r in averaged.records]
    assert "averaged, decay 0.9" in (averaged.folder / "card.json").read_text()


def test_a_resumed_average_is_the_uninterrupted_one(tmp_path: Path) -> None:
    fit(create_config(0.9), out=tmp_path / "whole")
    with pytest.raises(StoppedError):
        fit(create_config(0.9), out=tmp_path / "parts", reporter=Interrupter(1, 2))
    resume(tmp_path / "parts")
    assert_same_end(tmp_path / "whole", tmp_path / "parts")
    assert (tmp_path / "whole/model.safetensors").read_bytes() == (tmp_path / "parts/model.safetensors").read_bytes()


def test_an_averaged_classifier_keeps_the_bound_of_its_rows(tmp_path: Path) -> None:
    """MaxNorm shortens rows after every epoch; so does the average that is kept, also of a run that was continued."""
    fit(create_config(0.0), out=tmp_path / "stage-one")
    strong = ("optim.ema=0.9", "optim.lr=0.5", "optim.weight_decay=0")
    options = {"optim.epochs": 3, "run.device": "cpu", "run.precision": "fp32", "run.threads": 1}
    request = StageTwoRequest(tmp_path / "stage-one", "maxnorm", options=options, overrides=strong)
    config = resolve_stage_two(request).config
    fit(config, out=tmp_path / "whole")
    with pytest.raises(StoppedError):
        fit(config, out=tmp_path / "parts", reporter=Interrupter(1, 2))
    resume(tmp_path / "parts")
    for folder in ("whole", "parts"):
        bound = load_checkpoint(tmp_path / folder / "checkpoints" / LAST).part("model")["bound"]
        weight_KD = load_model(tmp_path / folder / "model.safetensors").get_parameter("fc.weight")
        assert weight_KD.norm(dim=1).max() <= bound * (1 + 1e-6)
