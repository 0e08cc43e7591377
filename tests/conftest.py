"""What many tests share: recorded official numbers, a tiny backbone, batches, the contract every method keeps."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ltk.draws import fold, make_key
from ltk.methods.base import Method
from ltk.models.backbones import Backbone
from ltk.types import Batch, Progress, StepOutput

GOLDEN = Path(__file__).parent / "golden"
SIZE = 8

torch.set_num_threads(1)


def _with_floats(value: Any) -> Any:
    """Turn the strings "nan", "inf" and "-inf" of a golden file into floats."""
    if isinstance(value, dict):
        return {key: _with_floats(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_floats(item) for item in value]
    return float(value) if value in ("nan", "inf", "-inf") else value


def load_golden(name: str) -> list[dict[str, Any]]:
    """Return the cases of one file of recorded official numbers."""
    cases: list[dict[str, Any]] = _with_floats(json.loads((GOLDEN / f"{name}.json").read_text()))["cases"]
    return cases


@pytest.fixture(autouse=True, scope="session")
def _interrupts() -> None:
    """Answer to SIGINT: a shell starts what it runs in the background with the signal ignored."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "golden(name, ..., where=None): run once per recorded case, given as `case`")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    marker = metafunc.definition.get_closest_marker("golden")
    if marker is not None:
        keep = marker.kwargs.get("where", lambda case: True)
        cases = [
            (f"{name}-{i}", case) for name in marker.args for i, case in enumerate(load_golden(name)) if keep(case)
        ]
        metafunc.parametrize("case", [case for _, case in cases], ids=[label for label, _ in cases])


@pytest.fixture(scope="session")
def golden() -> Callable[[str], list[dict[str, Any]]]:
    """``golden(name)``: the cases of one file of recorded official numbers."""
    return load_golden


class TinyNet(nn.Module):
    """One convolution with batch normalisation, behind timm's model interface."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.num_features = self.head_hidden_size = width
        self.stem = nn.Sequential(
            nn.Conv2d(3, width, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(width), nn.Tanh()
        )

    def forward_features(self, x_BCHW: Tensor) -> Tensor:
        map_BDHW: Tensor = self.stem(x_BCHW)
        return map_BDHW

    def forward_head(self, map_BDHW: Tensor, pre_logits: bool = False) -> Tensor:
        return map_BDHW.mean(dim=(2, 3))


@pytest.fixture
def tiny_backbone() -> Callable[[], Backbone]:
    """``tiny_backbone()``: a backbone of a few hundred parameters with D = 6, equal at every call."""

    def create() -> Backbone:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return Backbone(TinyNet(6))

    return create


def create_batches(method: Method, num_classes: int, size: int = 12, seed: int = 0) -> dict[str, Batch]:
    """Return one random batch per stream the method asks for."""
    generator = torch.Generator().manual_seed(seed)
    batches = {}
    for i, (name, stream) in enumerate(method.streams.items()):
        views = tuple(torch.randn(size, 3, SIZE, SIZE, generator=generator) for _ in range(stream.views))
        target_B = (torch.arange(size) + i) % num_classes
        batches[name] = Batch(views, target_B, torch.arange(size), fold(make_key(seed), i, torch.arange(size)))
    return batches


def create_progress(epoch: float = 0.0, epochs: int = 10, seed: int = 0) -> Progress:
    """Return the progress of a run at the start of an epoch."""
    return Progress(torch.tensor(float(epoch)), epochs, make_key(seed))


Step = Callable[..., StepOutput]


@pytest.fixture(scope="session")
def step() -> Step:
    """``step(method, num_classes, epoch=0, seed=0)``: the output of one training step on a random batch."""

    def run(method: Method, num_classes: int, *, epoch: float = 0.0, epochs: int = 10, seed: int = 0) -> StepOutput:
        output: StepOutput = method(
            create_batches(method, num_classes, seed=seed), create_progress(epoch, epochs, seed)
        )
        return output

    return run


@pytest.fixture(scope="session")
def check_contract(step: Step) -> Callable[[Callable[[], Method], int], None]:
    """``check_contract(create, num_classes)``: what the engine relies on, for a method that ``create`` builds."""

    def check(create: Callable[[], Method], num_classes: int) -> None:
        method = create().train()
        output = step(method, num_classes, epoch=3)
        assert output.loss.shape == ()
        assert torch.isfinite(output.loss)
        assert output.logits_BK.shape == (12, num_classes)
        assert not output.logits_BK.requires_grad
        output.loss.backward()  # type: ignore[no-untyped-call]
        trained = {name: p for name, p in method.named_parameters() if p.requires_grad}
        for name, parameter in trained.items():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            assert parameter.grad.abs().sum() > 0, name
        method.after_step()
        method.after_epoch()
        _check_state(method, create(), num_classes)

    return check


@pytest.fixture(scope="session")
def check_no_sync() -> Callable[[Method, int], None]:
    """``check_no_sync(method, num_classes)``: a step never reads a number back from the device.

    Tensors on the meta device have no numbers to read, so that a step that tried would raise.
    """

    def check(method: Method, num_classes: int) -> None:
        method = method.to("meta").train()
        batches = {
            name: Batch(tuple(_meta(x) for x in b.views), _meta(b.target_B), _meta(b.index_B), _meta(b.key_B))
            for name, b in create_batches(method, num_classes).items()
        }
        progress = create_progress()
        output = method(batches, Progress(_meta(progress.epoch), progress.epochs, _meta(progress.key)))
        output.loss.backward()
        method.after_step()
        assert output.loss.is_meta

    return check


def _meta(x: Tensor) -> Tensor:
    return x.to("meta")


def _check_state(method: Method, other: Method, num_classes: int) -> None:
    other.load_state_dict(method.state_dict())
    x_BCHW = torch.randn(5, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        logits_BK = method.eval().predict(x_BCHW)
        assert logits_BK.shape == (5, num_classes)
        assert torch.equal(logits_BK, other.eval().predict(x_BCHW))
    state: Mapping[str, Tensor] = method.inference_state()
    left_out = set(method.state_dict()) - set(state)
    assert not any(key.startswith(method.training_only or ("\0",)) for key in state)
    # What is left out must not decide a prediction.
    scrambled = {
        key: torch.zeros_like(value) if key in left_out else value for key, value in method.state_dict().items()
    }
    other.load_state_dict(scrambled)
    with torch.no_grad():
        assert torch.equal(logits_BK, other.eval().predict(x_BCHW))
