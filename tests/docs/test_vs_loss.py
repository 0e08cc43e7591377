"""The method of docs/add-a-method.md, tested as any method of one's own should be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from ltk.description import build_from_metadata
from ltk.errors import UnsafeError, UsageError
from ltk.methods import create_method, get_method_class
from ltk.methods.base import Method
from ltk.models.backbones import Backbone
from ltk.resolve import resolve_config

NAME = "vs_loss:VectorScaling"
COUNTS_K = torch.tensor([40, 20, 10, 5])
EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
Create = Callable[[], Backbone]


@pytest.fixture(autouse=True)
def on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))


def test_it_keeps_the_contract(
    check_contract: Callable[[Callable[[], Method], int], None], tiny_backbone: Create
) -> None:
    check_contract(lambda: create_method(NAME, tiny_backbone(), COUNTS_K), 4)


def test_a_step_waits_for_no_device(check_no_sync: Callable[[Method, int], None], tiny_backbone: Create) -> None:
    check_no_sync(create_method(NAME, tiny_backbone(), COUNTS_K), 4)


def test_the_loss_is_the_plain_loop_of_the_paper() -> None:
    """Equation 2, a sample and a class at a time."""
    from vs_loss import vector_scaling_loss  # type: ignore[import-not-found, unused-ignore]

    generator = torch.Generator().manual_seed(0)
    logits_BK = torch.randn(6, 4, generator=generator, dtype=torch.float64)
    target_B = torch.tensor([0, 1, 2, 3, 3, 0])
    scale = [(n / 40) ** 0.3 for n in (40, 20, 10, 5)]
    shift = [float(torch.tensor(n / 75, dtype=torch.float64).log()) for n in (40, 20, 10, 5)]
    losses = []
    for z_K, y in zip(logits_BK.tolist(), target_B.tolist(), strict=True):
        terms = [torch.tensor(d * z + i, dtype=torch.float64).exp() for d, z, i in zip(scale, z_K, shift, strict=True)]
        losses.append(-(terms[y] / sum(terms)).log())
    found = vector_scaling_loss(logits_BK, target_B, torch.tensor(scale).double(), torch.tensor(shift).double())
    assert float(found) == pytest.approx(float(torch.stack(losses).mean()), abs=1e-7)


def test_without_scales_and_shifts_it_is_cross_entropy(step: Callable[..., object], tiny_backbone: Create) -> None:
    def loss(name: str, **options: float) -> float:
        method = create_method(name, tiny_backbone(), COUNTS_K, **options)
        torch.manual_seed(0)
        torch.nn.init.normal_(method.fc.weight)  # type: ignore[arg-type, union-attr]
        torch.nn.init.zeros_(method.fc.bias)  # type: ignore[arg-type, union-attr]
        return float(step(method, 4).loss.detach())  # type: ignore[attr-defined]

    assert loss(NAME, gamma=0, tau=0) == pytest.approx(loss("ce"), abs=1e-6)
    assert loss(NAME, gamma=0, tau=1) == pytest.approx(loss("balanced-softmax"), abs=1e-6)
    assert loss(NAME) != pytest.approx(loss("ce"), abs=1e-3)


def test_the_file_is_short() -> None:
    assert len((EXAMPLES / "vs_loss.py").read_text().splitlines()) < 80


def test_it_takes_everything_else_from_cross_entropy() -> None:
    resolved = resolve_config(NAME, dataset="digits", overrides=["method.gamma=0.1"])
    assert resolved.config.method.options == {"gamma": 0.1}
    assert resolved.config.method.label == "VectorScaling"
    assert resolved.config.model == resolve_config("ce", dataset="digits").config.model
    assert "ce/digits" in resolved.notes[-1]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("no_such_module:Method", "no_such_module"),
        ("vs_loss:NoSuchClass", "NoSuchClass"),
        ("vs_loss:vector_scaling_loss", "no method"),
        ("vs_loss:VectorScalingOptions", "no method"),
        ("vs_loss.VectorScaling", "unknown method"),
        (":VectorScaling", "unknown method"),
    ],
)
def test_a_wrong_name_is_a_usage_error(name: str, expected: str) -> None:
    with pytest.raises(UsageError, match=expected):
        get_method_class(name)


def test_a_file_cannot_have_a_module_imported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A model file names its method; a module that the user did not name is not imported for it."""
    (tmp_path / "planted.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    metadata = {
        "method": "planted:Method",
        "backbone": '{"name": "cifar_resnet8"}',
        "class_counts": "[1, 1]",
        "class_names": "null",
        "method_options": "{}",
        "image": '{"size": 32, "channels": 1, "mean": [0.5], "std": [0.5]}',
    }
    with pytest.raises(UnsafeError, match="planted:Method"):
        build_from_metadata(metadata)
    monkeypatch.setenv("LTK_TRUST", "planted")
    with pytest.raises(SystemExit, match="imported"):
        build_from_metadata(metadata)


def test_cross_entropy_is_what_the_test_compares_with() -> None:
    """The plain loop above, at scale 1 and shift 0, is torch's cross-entropy (a check of the check)."""
    from vs_loss import vector_scaling_loss

    logits_BK, target_B = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0])
    found = vector_scaling_loss(logits_BK, target_B, torch.ones(2), torch.zeros(2))
    assert float(found) == pytest.approx(float(F.cross_entropy(logits_BK, target_B)))
