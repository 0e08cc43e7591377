"""GPaCo and its multi-task form against the numbers of the official code and the plainest loop."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ltk.draws import make_key
from ltk.methods.contrastive import class_prior, paco_loss, supervised_contrastive_loss
from ltk.methods.gpaco import GPaCo, multitask_loss
from ltk.models.backbones import Backbone
from ltk.types import Batch, Progress, StepOutput

COUNTS = torch.tensor([50, 20, 8, 3])
Tiny = Callable[[], Backbone]


def tensor(value: Any) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def check_case(case: dict[str, Any], loss_function: Callable[..., Tensor], knobs: dict[str, Any]) -> None:
    given = case["inputs"]
    features_AD = tensor(given["features[q;k;queue]"]).requires_grad_()
    logits_NK = tensor(given["sup_logits"]).requires_grad_()
    labels_A = torch.tensor(given["labels[y;y;queue_l]"])
    loss = loss_function(features_AD, labels_A, logits_NK, **knobs)
    loss.backward()  # type: ignore[no-untyped-call]
    assert float(loss.detach()) == pytest.approx(case["outputs"]["loss"], rel=1e-6)
    torch.testing.assert_close(features_AD.grad, tensor(case["grads"]["features"]), rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(logits_NK.grad, tensor(case["grads"]["sup_logits"]), rtol=1e-6, atol=1e-8)


def knobs_of(case: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """Official parameter names as ltk's; the prior from the counts, if any."""
    knobs = {ours: case["params"][theirs] for theirs, ours in names.items() if theirs in case["params"]}
    counts = case["inputs"]["cls_num_list"]
    return knobs | {"prior_K": None if counts is None else class_prior(torch.tensor(counts))}


@pytest.mark.golden("c05_gpaco_loss")
def test_loss_and_gradients(case: dict[str, Any]) -> None:
    same = {name: name for name in ("alpha", "beta", "gamma", "temperature", "base_temperature")}
    check_case(case, paco_loss, knobs_of(case, same | {"supt": "center_temperature", "smooth": "smoothing"}))


@pytest.mark.golden("c05_gpaco_multitask")
def test_multitask_loss_and_gradients(case: dict[str, Any]) -> None:
    knobs = knobs_of(case, {name: name for name in ("alpha", "temperature", "base_temperature")})
    if case["params"]["loss"] == "MultiTaskBLoss":  # plain cross-entropy
        knobs["prior_K"] = None
    check_case(case, multitask_loss, knobs)


@pytest.mark.parametrize(("prior", "smoothing", "expected"), [((100, 10, 1), 0.0, 6.89415982), (None, 0.1, 4.75210819)])
def test_loss_by_hand(prior: tuple[int, ...] | None, smoothing: float, expected: float) -> None:
    rows = F.normalize(tensor([[1, 0], [1, 1], [1, 0.2], [0.5, 1], [0, 1], [-1, 1]]), dim=1)
    centers = tensor([[0.5, 0.2, -0.1], [0.3, -0.4, 0.6], [0.25, 0.1, -0.05], [0.15, -0.2, 0.3]])
    labels = torch.tensor([0, 2, 0, 2, 2, 1])
    prior_K = None if prior is None else class_prior(torch.tensor(prior))
    loss = paco_loss(rows, labels, centers, prior_K, temperature=0.2, alpha=0.05, smoothing=smoothing)
    assert float(loss) == pytest.approx(expected, rel=1e-7)


def test_supervised_contrast_is_the_plain_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    rows = F.normalize(torch.randn(11, 3, generator=generator, dtype=torch.float64), dim=1)
    labels = [0, 1, 2, 0, 1, 2, 2, 1, -1, 0, 2]
    losses = []
    for i in range(6):
        others = [a for a in range(11) if a != i and labels[a] >= 0]
        similarity = {a: float(rows[i] @ rows[a]) / 0.3 for a in others}
        log_mass = math.log(sum(math.exp(s) for s in similarity.values()))
        positives = [a for a in others if labels[a] == labels[i]]
        losses.append(-sum(similarity[a] - log_mass for a in positives) / len(positives))
    got = supervised_contrastive_loss(rows, torch.tensor(labels), 6, temperature=0.3)
    assert float(got) == pytest.approx(sum(losses) / 6, rel=1e-9)


class ConvNet(nn.Module):
    """The encoder of the recorded forward pass: conv, BatchNorm, ReLU, average pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.num_features = 4
        self.conv = nn.Conv2d(3, 4, 3, bias=False)
        self.bn = nn.BatchNorm2d(4)

    def forward_features(self, x_BCHW: Tensor) -> Tensor:
        map_BDHW: Tensor = F.relu(self.bn(self.conv(x_BCHW)))
        return map_BDHW

    def forward_head(self, map_BDHW: Tensor, pre_logits: bool = False) -> Tensor:
        return map_BDHW.mean(dim=(2, 3))


def renamed(official: dict[str, Any]) -> dict[str, Tensor]:
    places = {"encoder_q.fc": "projector.0", "encoder_q": "backbone.net", "linear": "classifier"}
    prefixes = {name: next(p for p in places if name.startswith(p + ".")) for name in official}
    return {places[prefix] + name[len(prefix) :]: tensor(official[name]) for name, prefix in prefixes.items()}


def test_forward_and_inference_of_the_official_code(
    golden: Callable[[str], list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    case, inference = golden("c05_gpaco_moco")[2:]
    given, expected = case["inputs"], case["outputs"]
    method = GPaCo(Backbone(ConvNet()), torch.ones(5), embedding=3, queue_size=8)
    method.projector = nn.Sequential(nn.Linear(4, 3))
    method.double().load_state_dict(renamed(given["state"]), strict=False)
    queue = {"keys_QE": tensor(given["queue"]), "labels_Q": torch.tensor(given["queue_l"])}
    method.queue.load_state_dict(queue | {"pointer": torch.tensor(given["ptr"])})
    seen: list[tuple[Tensor, ...]] = []

    def spy(*args: Tensor, **knobs: float) -> Tensor:
        seen.append(args)
        return paco_loss(*args, **knobs)  # type: ignore[arg-type]

    monkeypatch.setattr("ltk.methods.gpaco.paco_loss", spy)
    labels = torch.tensor(given["labels"])
    batch = Batch((tensor(given["im_q"]), tensor(given["im_k"])), labels, labels, labels)
    output = method.train()({"main": batch}, Progress(torch.tensor(0.0), 10, make_key(0)))

    for got, name in ((seen[0][0], "features"), (seen[0][2], "logits"), (method.queue.keys_QE, "queue_after")):
        torch.testing.assert_close(got.detach(), tensor(expected[name]), rtol=1e-9, atol=1e-12)
    assert seen[0][1].tolist() == expected["target"]
    assert torch.equal(output.logits_BK, seen[0][2][: len(labels)])
    assert method.queue.labels_Q.tolist() == expected["queue_l_after"]
    assert int(method.queue.pointer) == expected["ptr_after"]
    for name, value in renamed(expected["state_after(changed entries)"]).items():
        torch.testing.assert_close(method.state_dict()[name], value, rtol=1e-9, atol=1e-12)
    logits_BK = method.eval().predict(tensor(inference["inputs"]["im"]))
    torch.testing.assert_close(logits_BK, tensor(inference["outputs"]["logits"]), rtol=1e-9, atol=1e-12)


def create(backbone: Backbone, **options: Any) -> GPaCo:
    torch.manual_seed(0)
    return GPaCo(backbone, COUNTS, embedding=5, queue_size=16, **options)


@pytest.mark.parametrize("options", [{}, {"objective": "multitask"}, {"prior": False, "smoothing": 0.1}])
def test_contract(tiny_backbone: Tiny, check_contract: Callable[..., None], options: dict[str, Any]) -> None:
    check_contract(lambda: create(tiny_backbone(), **options), len(COUNTS))


def test_every_option_changes_the_loss(tiny_backbone: Tiny, step: Callable[..., StepOutput]) -> None:
    variants: list[dict[str, Any]] = [
        {},
        {"temperature": 0.1},
        {"alpha": 0.5},
        {"beta": 0.5},
        {"gamma": 0.5},
        {"smoothing": 0.1},
        {"prior": False},
        {"queue_init": "unit"},
        {"queue_init": "empty"},
        {"projector_init": "kaiming"},
        {"objective": "multitask"},
        {"objective": "multitask", "prior": False},
    ]
    losses = [float(step(create(tiny_backbone(), **options), 4).loss.detach()) for options in variants]
    assert len(set(losses)) == len(variants)


def test_both_views_learn_and_the_second_is_kept(tiny_backbone: Tiny) -> None:
    method = create(tiny_backbone())
    generator = torch.Generator().manual_seed(0)
    views = tuple(torch.randn(6, 3, 8, 8, generator=generator).requires_grad_() for _ in range(2))
    target_B = torch.arange(6) % 4
    output = method({"main": Batch(views, target_B, target_B, target_B)}, Progress(torch.tensor(0.0), 10, make_key(0)))
    output.loss.backward()
    for view in views:
        assert view.grad is not None
        assert view.grad.abs().sum() > 0
    kept = F.normalize(create(tiny_backbone()).projector(create(tiny_backbone()).backbone(views[1])), dim=1)
    torch.testing.assert_close(method.queue.keys_QE[:6], kept.detach())
    assert method.queue.labels_Q[:6].tolist() == target_B.tolist()
