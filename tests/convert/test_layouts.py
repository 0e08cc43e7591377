"""Every official layout, recognised by itself and evaluated as its own code does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from ltk.checkpoint import load_model
from ltk.convert.class_order import class_map
from ltk.convert.convert import Request
from ltk.data.catalogue import train_counts
from ltk.errors import DataError
from tests.convert import legacy_models as legacy
from tests.convert.converting import assert_same_logits, convert_tree
from tests.convert.legacy_models import Legacy, Tree, resnet


def shortcut(name: str) -> str:
    return name.replace("downsample", "shortcut")


def bagmar_best(body: Tree, head: Tree) -> Tree:
    return {"epoch": 9, "best_acc": 0.5, "state_dict_best": {"feat_model": body, "classifier": head}, "centroids": None}


def bagmar_latest(body: Tree, head: Tree) -> Tree:
    return {"epoch": 9, "state_dict": {"feat_model": body, "classifier": head}}


def mislas(body: Tree, head: Tree) -> Tree:
    return {"epoch": 9, "state_dict_model": body, "state_dict_classifier": head, "best_acc1": torch.tensor(3.0)}


TWO_EACH = (2, 2, 2, 2)
LAYOUTS: dict[str, tuple[Callable[[], Legacy], str, str, int]] = {
    "GLMC ResNet-18": (lambda: legacy.glmc(resnet(False, TWO_EACH, True), 10), "glmc", "cifar_stem_resnet18", 32),
    "GLMC bottleneck": (lambda: legacy.glmc(resnet(True, small=True), 7), "glmc", "cifar_stem_resnet50", 32),
    "GLMC ResNeXt": (
        lambda: legacy.glmc(resnet(True, groups=32, width_per_group=4), 12, small=False), "glmc", "resnet50", 64,
    ),
    "GCL ImageNet style": (lambda: legacy.gcl(resnet(), 20), "gcl", "resnet18", 64),
    "GCL square": (lambda: legacy.gcl(resnet(), 512), "gcl", "resnet18", 64),
    "GCL cross-entropy": (lambda: legacy.gcl(resnet(), 20, with_bias=True), "gcl-ce", "resnet18", 64),
    "PaCo": (lambda: legacy.moco(resnet(), 11, generalised=False), "paco", "resnet18", 64),
    "GPaCo": (lambda: legacy.moco(resnet(True), 11, generalised=True), "gpaco", "resnet50", 64),
    "GPaCo on CIFAR": (
        lambda: legacy.moco(resnet(small=True), 100, True, shortcut), "gpaco", "cifar_stem_resnet18", 32,
    ),
    "ResLT without data set": (lambda: legacy.reslt(30, 0.3, 3), "reslt", "resnet18", 64),
    "RIDE-ResLT": (lambda: legacy.ride(30, 0.3), "ride-reslt", "resnet18", 64),
    "RIDE-ResLT, other names": (lambda: legacy.ride(30, 0.3, "finalBlock{e}.{i}"), "ride-reslt", "resnet18", 64),
    "BaGMar": (lambda: legacy.apart(resnet(), 9, bagmar_best), "bagmar", "resnet18", 64),
    "BaGMar latest": (lambda: legacy.apart(resnet(), 9, bagmar_latest), "bagmar", "resnet18", 64),
    "BaGMar by MiSLAS": (lambda: legacy.apart(resnet(True), 9, mislas), "bagmar", "resnet50", 64),
    "torchvision": (lambda: legacy.plain(resnet(True), 9), "torchvision", "resnet50", 64),
    "Places without data set": (lambda: legacy.places("block_state_dict", 40), "gcl-parts", "resnet50", 64),
    "Places linear": (lambda: legacy.places("state_dict_block", 40, with_bias=True), "bagmar", "resnet50", 64),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYOUTS)
def test_layout(name: str, tmp_path: Path) -> None:
    create, form, backbone, size = LAYOUTS[name]
    example = create()
    conversion, out = convert_tree(example.tree, tmp_path)
    assert conversion.recognition.name == form
    assert conversion.recognition.backbone.name == backbone
    assert_same_logits(out, example.forward, size)
    assert conversion.account.random == []
    paths = [row.source for row in conversion.account.rows]
    assert len(paths) == len(set(paths))
    assert all(row.target or row.note for row in conversion.account.rows)
    assert {row.target for row in conversion.account.rows if row.target} == set(conversion.account.tensors)


@pytest.mark.parametrize("key", ["block_state_dict", "state_dict_block"])
def test_places_classes_come_back_in_order(key: str, tmp_path: Path) -> None:
    example = legacy.places(key, 365)
    conversion, out = convert_tree(example.tree, tmp_path)
    order = class_map(train_counts("places-lt").tolist(), descending=True)
    assert_same_logits(out, example.forward, 64, order)
    assert conversion.dataset == "places-lt"
    assert conversion.image.size == 224
    assert any("descending" in note for note in conversion.notes)


def test_inaturalist_has_two_branches_and_its_own_order(tmp_path: Path) -> None:
    example = legacy.reslt(8142, 0.0, 2)
    conversion, out = convert_tree(example.tree, tmp_path)
    order = class_map(train_counts("inat2018").tolist(), descending=False)
    assert_same_logits(out, example.forward, 64, order)
    notes = {row.note for row in conversion.account.rows if row.target.startswith("branches.0.conv")}
    assert notes == {"first two of three branches"}
    assert conversion.image.mean == (0.466, 0.471, 0.380)


def test_options_win_over_the_official_ones(tmp_path: Path) -> None:
    example = legacy.reslt(30, 0.9, 3)
    _, out = convert_tree(example.tree, tmp_path, Request(options={"gamma": 0.9}))
    assert_same_logits(out, example.forward, 64)
    example = legacy.gcl(resnet(), 20)
    _, out = convert_tree(example.tree, tmp_path, Request(options={"scale": 30.0}))
    assert_same_logits(out, lambda x: 30 * example.forward(x), 64)


def test_training_state_is_kept_on_request(tmp_path: Path) -> None:
    example = legacy.moco(resnet(), 11, generalised=False)
    without, _ = convert_tree(example.tree, tmp_path)
    kept, out = convert_tree(example.tree, tmp_path, Request(training_state=True))
    assert {row.fate for row in without.account.rows} == {"mapped", "ignored"}
    state = load_model(out).state_dict()
    source = example.tree["state_dict"]
    assert torch.equal(state["queue.keys_QE"], source["module.queue"])
    assert torch.equal(state["queue.labels_Q"], source["module.queue_l"])
    assert state["queue.pointer"].item() == 16
    assert torch.equal(state["key_backbone.net.conv1.weight"], source["module.encoder_k.conv1.weight"])
    assert torch.equal(state["projector.3.weight"], source["module.encoder_q.fc.3.weight"])
    assert torch.equal(state["key_projector.1.running_var"], source["module.encoder_k.fc.1.running_var"])
    counts = kept.account.counts()
    assert counts["kept aside"] > 60
    assert counts["ignored"] == 3  # linear_k and the recorded accuracy
    glmc = legacy.glmc(resnet(small=True), 10)
    _, out = convert_tree(glmc.tree, tmp_path, Request(training_state=True))
    state = load_model(out).state_dict()
    assert torch.equal(state["projector.weight"], glmc.tree["state_dict"]["module.projection_head.0.weight"])
    assert torch.equal(state["predictor.bias"], glmc.tree["state_dict"]["module.contrast_head.0.bias"])


def test_stage_two_replaces_the_classifier(tmp_path: Path) -> None:
    net = resnet()
    example, layer = legacy.gcl(net, 20), legacy.linear(512, 20, 9)
    second = tmp_path / "stage2.pth"
    torch.save(legacy.saved(dict(layer.state_dict())), second)
    conversion, out = convert_tree(example.tree, tmp_path, Request(classifier=second))
    assert_same_logits(out, lambda x: layer(legacy.pooled(net, x)), 64)
    replaced = [row for row in conversion.account.rows if "replaced by stage2.pth" in row.note]
    assert [row.source for row in replaced] == ["state_dict/module.linear.weight"]
    with pytest.raises(DataError, match="classifier alone"):
        convert_tree(torch.load(second), tmp_path)
    torch.save(legacy.saved(dict(legacy.linear(512, 30).state_dict())), second)
    with pytest.raises(DataError, match=r"stage2\.pth has shape \(30, 512\), not \(512, 20\)"):
        convert_tree(example.tree, tmp_path, Request(classifier=second))


def test_other_resnets_of_timm_are_found_by_their_shapes(tmp_path: Path) -> None:
    import timm

    net = legacy.filled(timm.create_model("resnet10t", num_classes=6))
    conversion, out = convert_tree({"state_dict": dict(net.state_dict())}, tmp_path)
    assert conversion.recognition.backbone.name == "resnet10t"
    assert_same_logits(out, net, 64)


@pytest.mark.parametrize("arch", ["vit_tiny_patch16_224", "convnext_atto", "cifar_resnet20"])
def test_any_timm_model_by_name(arch: str, tmp_path: Path) -> None:
    import timm

    net = legacy.filled(timm.create_model(arch, num_classes=6))
    conversion, out = convert_tree(dict(net.state_dict()), tmp_path, Request(arch=arch))
    assert conversion.recognition.backbone.name == arch
    assert_same_logits(out, net, 32 if arch.startswith("cifar") else 224)


def test_prefixes_come_off(tmp_path: Path) -> None:
    import timm

    net = legacy.filled(timm.create_model("cifar_resnet8", num_classes=6))
    for prefix in ("module.", "_orig_mod.", "module._orig_mod.", "model.", "module.model.", "net.module."):
        conversion, out = convert_tree(legacy.prefixed(prefix, net.state_dict()), tmp_path)
        assert conversion.recognition.name == "torchvision"
        assert_same_logits(out, net, 32)


def test_whole_modules_are_state_dicts(tmp_path: Path) -> None:
    net = resnet()
    net.fc = legacy.linear(512, 5)
    _, out = convert_tree(nn.DataParallel(net), tmp_path)
    assert_same_logits(out, net, 64)
