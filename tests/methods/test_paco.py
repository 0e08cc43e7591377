"""PaCo against the numbers of its official code and the plainest loop."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ltk.draws import make_key
from ltk.errors import UsageError
from ltk.methods.contrastive import class_prior, paco_loss
from ltk.methods.paco import PaCo, PaCoOptions
from ltk.models.backbones import Backbone, create_backbone
from ltk.models.momentum import create_momentum_copy, update_momentum_copy
from ltk.models.queue import EMPTY, KeyQueue, initial_keys
from ltk.types import Batch, Progress, StepOutput

COUNTS = torch.tensor([50, 20, 8, 3])
Tiny = Callable[[], Backbone]


def tensor(value: Any) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def progress() -> Progress:
    return Progress(torch.tensor(0.0), 10, make_key(0))


def plain_paco_loss(
    rows: list[list[float]],
    labels: list[int],
    centers: list[list[float]],
    prior: list[float] | None,
    *,
    temperature: float,
    alpha: float,
    beta: float = 1.0,
    gamma: float = 1.0,
    smoothing: float = 0.0,
) -> float:
    """The paper's loss, one anchor, candidate and class at a time."""
    losses = []
    for i, center in enumerate(centers):
        classes = range(len(center))
        logits = [z + (math.log(prior[c]) if prior else 0.0) for c, z in enumerate(center)]
        others = [a for a in range(len(rows)) if a != i and labels[a] >= 0]
        similarity = {a: sum(x * y for x, y in zip(rows[i], rows[a], strict=True)) / temperature for a in others}
        mass = sum(math.exp(z) for z in logits) + gamma * sum(math.exp(s) for s in similarity.values())
        positives = [a for a in others if labels[a] == labels[i]]
        off = smoothing / (len(center) - 1)
        targets = [1 - smoothing if c == labels[i] else off for c in classes]
        pull = beta * sum(targets[c] * (logits[c] - math.log(mass)) for c in classes)
        pull += alpha * sum(similarity[a] - math.log(mass) for a in positives)
        losses.append(-pull / (beta + alpha * len(positives)))
    return sum(losses) / len(losses)


@pytest.mark.golden("c05_paco_loss")
def test_loss_and_gradients(case: dict[str, Any]) -> None:
    given, params = case["inputs"], case["params"]
    features_AD = tensor(given["features[q;k;queue]"]).requires_grad_()
    center_logits_BK = tensor(given["sup_logits"]).requires_grad_()
    prior_K = class_prior(torch.tensor(given["cls_num_list"]))
    torch.testing.assert_close(prior_K[None], tensor(case["outputs"]["class_prior"]), rtol=1e-7, atol=0)
    names = ("alpha", "beta", "gamma", "temperature", "base_temperature")
    knobs = {name: params[name] for name in names if name in params}
    loss = paco_loss(
        features_AD,
        torch.tensor(given["labels[y;y;queue_l]"]),
        center_logits_BK,
        prior_K,
        center_temperature=params.get("supt", 1.0),
        **knobs,
    )
    loss.backward()  # type: ignore[no-untyped-call]
    assert float(loss.detach()) == pytest.approx(case["outputs"]["loss"], rel=1e-6)
    torch.testing.assert_close(features_AD.grad, tensor(case["grads"]["features"]), rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(center_logits_BK.grad, tensor(case["grads"]["sup_logits"]), rtol=1e-6, atol=1e-8)


CENTERS = [[0.5, 0.2, -0.1], [0.3, -0.4, 0.6]]
ROWS = F.normalize(tensor([[1, 0], [1, 1], [1, 0.2], [0.5, 1], [0, 1], [-1, 1]]), dim=1)
LABELS = [0, 2, 0, 2, 2, 1]


@pytest.mark.parametrize(("prior", "expected"), [((100, 10, 1), 6.73427160), (None, None)])
def test_loss_by_hand(prior: tuple[int, ...] | None, expected: float | None) -> None:
    prior_K = None if prior is None else class_prior(torch.tensor(prior))
    got = float(paco_loss(ROWS, torch.tensor(LABELS), tensor(CENTERS), prior_K, temperature=0.2, alpha=0.05))
    shares = None if prior_K is None else prior_K.tolist()
    assert got == pytest.approx(plain_paco_loss(ROWS.tolist(), LABELS, CENTERS, shares, temperature=0.2, alpha=0.05))
    assert expected is None or got == pytest.approx(expected, rel=1e-7)


def test_counts_in_place_of_shares_change_the_loss() -> None:
    got = paco_loss(ROWS, torch.tensor(LABELS), tensor(CENTERS), tensor([100, 10, 1]), temperature=0.2, alpha=0.05)
    assert float(got) == pytest.approx(2.91642801, rel=1e-7)


@pytest.mark.parametrize("anchors", [4, 8])
@pytest.mark.parametrize(("gamma", "smoothing"), [(1.0, 0.0), (0.5, 0.0), (1.0, 0.2)])
def test_loss_is_the_plain_loop(anchors: int, gamma: float, smoothing: float) -> None:
    generator = torch.Generator().manual_seed(anchors)
    rows = F.normalize(torch.randn(13, 3, generator=generator, dtype=torch.float64), dim=1)
    labels = torch.tensor([0, 1, 2, 2, 0, 1, 2, 2, 1, EMPTY, 0, 2, 2])
    centers = torch.randn(anchors, 3, generator=generator, dtype=torch.float64)
    knobs = {"temperature": 0.3, "alpha": 0.4, "beta": 0.8, "gamma": gamma, "smoothing": smoothing}
    prior_K = class_prior(torch.tensor([7, 2, 1]))
    got = float(paco_loss(rows, labels, centers, prior_K, **knobs))
    expected = plain_paco_loss(rows.tolist(), labels.tolist(), centers.tolist(), prior_K.tolist(), **knobs)
    assert got == pytest.approx(expected, rel=1e-7)


def test_empty_slots_take_no_part() -> None:
    rows, labels = torch.cat((ROWS, torch.zeros(3, 2))), torch.tensor([*LABELS, EMPTY, EMPTY, EMPTY])
    expected = paco_loss(ROWS, torch.tensor(LABELS), tensor(CENTERS), temperature=0.2, alpha=0.05)
    got = paco_loss(rows, labels, tensor(CENTERS), temperature=0.2, alpha=0.05)
    torch.testing.assert_close(got, expected)


def test_small_constants_at_a_small_temperature() -> None:
    """An anchor at 1/T = 25 from all else: the 1e-12 beside e^-25 is felt, and the anchor itself gets no gradient."""
    rows = tensor([[1.0], [-1.0]]).requires_grad_()
    loss = paco_loss(rows, torch.tensor([0, 1]), torch.zeros(1, 2).double(), temperature=0.04, alpha=0.0)
    loss.backward()  # type: ignore[no-untyped-call]
    mass = 2 * math.exp(-25) + math.exp(-50) + 1e-12
    assert float(loss.detach()) == pytest.approx(25 + math.log(mass), rel=1e-9)
    assert rows.grad is not None
    assert float(rows.grad.abs().max()) < 1e-8
    shares = tensor([1.0, 1e-9])
    rare = paco_loss(rows.detach(), torch.tensor([1, 0]), torch.zeros(1, 2).double(), shares, temperature=1.0, alpha=0)
    assert float(rare) == pytest.approx(math.log(1 + 2e-9 + math.exp(-1)) - math.log(2e-9), rel=1e-9)


def test_loss_is_float32_under_autocast() -> None:
    rows, centers = ROWS.float(), tensor(CENTERS).float()
    expected = paco_loss(rows, torch.tensor(LABELS), centers, temperature=0.05, alpha=0.05)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = paco_loss(rows, torch.tensor(LABELS), centers, temperature=0.05, alpha=0.05)
    assert torch.equal(got, expected)


# --- queue and momentum ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["c05_paco_moco", "c05_gpaco_moco"])
def test_queue(golden: Callable[[str], list[dict[str, Any]]], name: str) -> None:
    start, enqueue = golden(name)[:2]
    keys_QE = initial_keys(tensor(start["inputs"]["raw_randn(K,dim)"]), "official")
    # The recorded start was overwritten by the recorded enqueue steps; what they began from is the true one.
    torch.testing.assert_close(keys_QE, tensor(enqueue["inputs"]["queue"]), rtol=1e-9, atol=0)
    torch.testing.assert_close(keys_QE.norm(dim=1), tensor(start["outputs"]["row_norms"]), rtol=1e-9, atol=0)
    queue = KeyQueue(len(keys_QE), keys_QE.shape[1], num_classes=5).double()
    load_queue(queue, enqueue["inputs"])
    for step in enqueue["outputs"]["steps"]:
        queue.enqueue(tensor(step["keys"]), torch.tensor(step["labels"]))
        assert torch.equal(queue.keys_QE, tensor(step["queue_after"]))
        assert queue.labels_Q.tolist() == step["queue_l_after"]
        assert int(queue.pointer) == step["ptr_after"]


def load_queue(queue: KeyQueue, given: dict[str, Any]) -> None:
    queue.load_state_dict(
        {
            "keys_QE": tensor(given["queue"]),
            "labels_Q": torch.tensor(given["queue_l"]),
            "pointer": torch.tensor(given["ptr"]),
        }
    )


@pytest.mark.parametrize(("size", "batch"), [(6, 3), (7, 3), (5, 4), (3, 8)])
def test_queue_keeps_the_newest_keys(size: int, batch: int) -> None:
    queue = KeyQueue(size, 1, 3, "empty")
    assert queue.labels_Q.tolist() == [EMPTY] * size
    for step in range(5):
        ids = torch.arange(step * batch, (step + 1) * batch)
        queue.enqueue(ids[:, None].float(), ids)
    newest = list(range(5 * batch - size, 5 * batch))
    assert sorted(queue.labels_Q.tolist()) == newest
    assert queue.keys_QE[:, 0].tolist() == queue.labels_Q.tolist()
    assert int(queue.pointer) == 5 * batch % size
    assert [i % size for i in newest] == [queue.labels_Q.tolist().index(i) for i in newest]


def test_queue_starts() -> None:
    noise = torch.randn(16, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(initial_keys(noise, "official").norm(dim=0), torch.ones(4))
    torch.testing.assert_close(initial_keys(noise, "unit").norm(dim=1), torch.ones(16))
    assert initial_keys(noise, "empty").abs().sum() == 0


@pytest.mark.golden("c05_paco_moco")
def test_momentum_steps(case: dict[str, Any]) -> None:
    if not case["params"]["what"].startswith("momentum update"):
        return
    given = {name: tensor(value) for name, value in case["inputs"]["parameters"].items()}
    modules = [nn.Linear(4, 3).double(), nn.Linear(4, 5).double()]
    copies = [create_momentum_copy(module) for module in modules]
    for pair, name in ((modules, ("encoder_q.fc", "linear")), (copies, ("encoder_k.fc", "linear_k"))):
        for module, prefix in zip(pair, name, strict=True):
            module.load_state_dict({key: given[f"{prefix}.{key}"] for key in ("weight", "bias")})
    for after in case["outputs"]["after_each_step"]:
        update_momentum_copy(copies, modules, case["params"]["m"])
        for module, prefix in zip(copies, ("encoder_k.fc", "linear_k"), strict=True):
            for key in ("weight", "bias"):
                expected = tensor(after[f"{prefix}.{key}"])
                torch.testing.assert_close(module.get_parameter(key).data, expected, rtol=1e-9, atol=1e-15)


def test_momentum_leaves_buffers_and_originals() -> None:
    norm = nn.BatchNorm1d(2)
    follower = create_momentum_copy(norm)
    norm(torch.randn(4, 2, generator=torch.Generator().manual_seed(0)))
    nn.init.constant_(norm.weight, 3.0)
    update_momentum_copy([follower], [norm], 0.5)
    assert follower.weight.tolist() == [2.0, 2.0]
    assert norm.weight.tolist() == [3.0, 3.0]
    assert follower.running_mean is not None
    assert follower.running_mean.tolist() == [0.0, 0.0]
    assert not follower.weight.requires_grad


# --- the method -----------------------------------------------------------------------------------------------------


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
    """Official names of the recorded state as PaCo's; the classifier's copy, which nothing uses, left out."""
    places = {"encoder_q.fc": "projector", "encoder_k.fc": "key_projector", "linear": "classifier"}
    places |= {"encoder_q": "backbone.net", "encoder_k": "key_backbone.net"}
    result = {}
    for name, value in official.items():
        prefix = next((p for p in places if name.startswith(p + ".")), None)
        if prefix:
            result[places[prefix] + name[len(prefix) :]] = tensor(value)
    return result


def test_forward_and_inference_of_the_official_code(
    golden: Callable[[str], list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = [case for case in golden("c05_paco_moco") if "forward" in case["params"]["what"]]
    (case,), (inference,) = cases, golden("c05_paco_moco")[-1:]
    given, expected = case["inputs"], case["outputs"]
    method = PaCo(Backbone(ConvNet()), torch.ones(5), embedding=3, queue_size=8, momentum=case["params"]["m"])
    method.projector, method.key_projector = nn.Sequential(nn.Linear(4, 3)), nn.Sequential(nn.Linear(4, 3))
    method.key_projector.requires_grad_(False)
    state = {name.replace("projector.", "projector.0."): value for name, value in renamed(given["state"]).items()}
    method.double().load_state_dict(state, strict=False)
    load_queue(method.queue, given)
    seen: list[tuple[Tensor, ...]] = []

    def spy(*args: Tensor, **knobs: float) -> Tensor:
        seen.append(args)
        return paco_loss(*args, **knobs)  # type: ignore[arg-type]

    monkeypatch.setattr("ltk.methods.paco.paco_loss", spy)

    labels = torch.tensor(given["labels"])
    views = (tensor(given["im_q"]), tensor(given["im_k"]))
    output = method.train()({"main": Batch(views, labels, labels, labels)}, progress())

    torch.testing.assert_close(seen[0][0].detach(), tensor(expected["features"]), rtol=1e-9, atol=1e-12)
    assert seen[0][1].tolist() == expected["target"]
    torch.testing.assert_close(output.logits_BK, tensor(expected["logits"]), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(method.queue.keys_QE, tensor(expected["queue_after"]), rtol=1e-9, atol=1e-12)
    assert method.queue.labels_Q.tolist() == expected["queue_l_after"]
    assert int(method.queue.pointer) == expected["ptr_after"]
    changed = renamed(expected["state_after(changed entries)"])
    assert len(changed) == 9
    for name, value in changed.items():
        got = method.state_dict()[name.replace("projector.", "projector.0.")]
        torch.testing.assert_close(got, value, rtol=1e-9, atol=1e-12)
    logits_BK = method.eval().predict(tensor(inference["inputs"]["im"]))
    torch.testing.assert_close(logits_BK, tensor(inference["outputs"]["logits"]), rtol=1e-9, atol=1e-12)


def create(backbone: Backbone, **options: Any) -> PaCo:
    torch.manual_seed(0)
    return PaCo(backbone, COUNTS, **{"embedding": 5, "queue_size": 16} | options)


@pytest.mark.parametrize("options", [{}, {"prior": False, "queue_init": "empty"}, {"virtual_gpus": 3}])
def test_contract(tiny_backbone: Tiny, check_contract: Callable[..., None], options: dict[str, Any]) -> None:
    check_contract(lambda: create(tiny_backbone(), **options), len(COUNTS))


def test_every_option_changes_the_step(tiny_backbone: Tiny, step: Callable[..., StepOutput]) -> None:
    variants: list[dict[str, Any]] = [
        {},
        {"temperature": 0.1},
        {"alpha": 0.5},
        {"beta": 0.5},
        {"gamma": 0.5},
        {"prior": False},
        {"embedding": 6},
        {"queue_size": 17},
        {"queue_init": "unit"},
        {"queue_init": "empty"},
        {"projector_init": "kaiming"},
        {"virtual_gpus": 2},
    ]
    losses = [float(step(create(tiny_backbone(), **options), 4).loss.detach()) for options in variants]
    assert len(set(losses)) == len(variants)


def test_key_encoder_gets_no_gradient_and_follows(tiny_backbone: Tiny, step: Callable[..., StepOutput]) -> None:
    method = create(tiny_backbone(), momentum=0.9)
    follower = method.get_parameter("key_backbone.net.stem.0.weight")
    before = follower.clone()
    nn.init.constant_(method.get_parameter("backbone.net.stem.0.weight"), 1.0)
    output = step(method, len(COUNTS))
    output.loss.backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(follower, (0.9 * before + 0.1).requires_grad_(False))
    assert all(p.grad is None for p in method.key_backbone.parameters())
    assert int(method.queue.pointer) == 12
    torch.testing.assert_close(method.queue.keys_QE[:12].norm(dim=1), torch.ones(12))


def test_keys_have_length_one_under_autocast(tiny_backbone: Tiny, step: Callable[..., StepOutput]) -> None:
    method = create(tiny_backbone())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = step(method, len(COUNTS))
    assert output.loss.dtype == torch.float32
    torch.testing.assert_close(method.queue.keys_QE[:12].norm(dim=1), torch.ones(12), rtol=1e-6, atol=0)


def test_first_steps_of_an_empty_queue_contrast_within_the_batch(
    tiny_backbone: Tiny, step: Callable[..., StepOutput]
) -> None:
    small, large = (PaCo(tiny_backbone(), COUNTS, embedding=5, queue_size=size, queue_init="empty") for size in (1, 40))
    state = {name: value for name, value in small.state_dict().items() if not name.startswith("queue.")}
    large.load_state_dict(state, strict=False)
    torch.testing.assert_close(step(small, len(COUNTS)).loss, step(large, len(COUNTS)).loss)


def test_virtual_gpus_are_the_mean_over_parts(tiny_backbone: Tiny) -> None:
    """Two virtual GPUs give the mean of two steps on half the batch each; keys in eval mode, free of batch effects."""
    generator = torch.Generator().manual_seed(0)
    views = (torch.randn(12, 3, 8, 8, generator=generator), torch.randn(12, 3, 8, 8, generator=generator))
    target_B = torch.arange(12) % 4

    def run(part: slice, virtual_gpus: int) -> tuple[float, PaCo]:
        method = create(tiny_backbone(), virtual_gpus=virtual_gpus)
        method.key_backbone.eval()
        method.key_projector.eval()
        batch = Batch((views[0][part], views[1][part]), target_B[part], target_B[part], target_B[part])
        return float(method({"main": batch}, progress()).loss.detach()), method

    both, method = run(slice(None), 2)
    halves = [run(slice(0, 6), 1), run(slice(6, 12), 1)]
    assert both == pytest.approx(sum(loss for loss, _ in halves) / 2, rel=1e-5)
    assert both != pytest.approx(run(slice(None), 1)[0], rel=1e-4)
    torch.testing.assert_close(method.queue.keys_QE[6:12], halves[1][1].queue.keys_QE[:6])


def test_a_last_batch_is_shared_by_fewer_virtual_gpus(tiny_backbone: Tiny, step: Callable[..., StepOutput]) -> None:
    """Four of them cannot have two images each of five."""
    method = create(tiny_backbone(), virtual_gpus=4)
    batch = Batch((torch.randn(5, 3, 8, 8), torch.randn(5, 3, 8, 8)), *[torch.arange(5) % 4] * 3)
    assert torch.isfinite(method({"main": batch}, progress()).loss)
    method.queue.check_batch_size(4)
    with pytest.raises(UsageError, match="virtual_gpus 4 leaves less than 2 images"):
        method.check_batch_size(4)


def spread(method: PaCo) -> float:
    """Standard deviation of the projector's last weight."""
    return float(method.get_parameter("projector.3.weight").detach().std())


def test_kaiming_projector_is_wider(tiny_backbone: Tiny) -> None:
    default, kaiming = (create(tiny_backbone(), projector_init=init) for init in ("default", "kaiming"))
    assert spread(kaiming) > 1.5 * spread(default)


def test_last_block_alone_learns() -> None:
    method = PaCo(create_backbone("cifar_resnet8", width=4), COUNTS, trainable="last-block", queue_size=8)
    trained = {name for name, p in method.backbone.named_parameters() if p.requires_grad}
    assert {name for name in trained if "conv" in name} == {
        "net.layer3.0.conv1.weight",
        "net.layer3.0.conv2.weight",
    }
    assert "net.bn1.weight" in trained
    with pytest.raises(UsageError, match="last residual block"):
        PaCo(create_backbone("convnext_atto"), COUNTS, trainable="last-block")


def test_options_refuse_what_has_no_meaning() -> None:
    for bad in ({"temperature": 0}, {"momentum": 1.5}, {"queue_init": "zeros"}, {"queue_sise": 8}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            PaCoOptions(**bad)  # type: ignore[arg-type]
