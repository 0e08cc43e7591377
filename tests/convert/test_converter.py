"""What the converter refuses, fills, keeps and says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from ltk.checkpoint import load_model, read_tensors
from ltk.convert import verify
from ltk.convert.class_order import Numbering
from ltk.convert.convert import Request, convert_file, write_conversion
from ltk.convert.keymaps import FORMATS
from ltk.errors import DataError, EnvironmentFault, UsageError
from tests.convert import legacy_models as legacy
from tests.convert.converting import assert_same_logits, convert_tree
from tests.convert.legacy_models import Tree


@pytest.fixture
def small() -> Tree:
    """A CIFAR ResNet-8 with a cosine classifier of 10 classes, as GCL saves it."""
    import timm

    import ltk.models.backbones  # noqa: F401  (registers the CIFAR nets)

    net = legacy.filled(timm.create_model("cifar_resnet8", num_classes=10))
    state = {name: value for name, value in net.state_dict().items() if not name.startswith("fc.")}
    return legacy.saved(state | {"linear.weight": torch.randn(64, 10, generator=torch.Generator().manual_seed(1))})


def weights(tree: Tree) -> Any:
    return tree["state_dict"]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_and_infinity(value: float, small: Tree, tmp_path: Path) -> None:
    weights(small)["module.layer1.0.conv1.weight"][0, 0] = value
    with pytest.raises(DataError, match=r"layer1\.0\.conv1\.weight \(9 of 2304\)"):
        convert_tree(small, tmp_path)
    conversion, out = convert_tree(small, tmp_path, Request(allow_nonfinite=True))
    assert any("nan or infinity" in note for note in conversion.notes)
    assert "nan or infinity" in read_tensors(out)[1]["source"]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_types_are_kept_and_named(dtype: torch.dtype, small: Tree, tmp_path: Path) -> None:
    state = {name: value.to(dtype) if value.is_floating_point() else value for name, value in weights(small).items()}
    conversion, out = convert_tree(small | {"state_dict": state}, tmp_path)
    assert read_tensors(out)[0]["backbone.net.conv1.weight"].dtype == dtype
    assert any(str(dtype) in note for note in conversion.notes)
    assert load_model(out).predict(torch.zeros(1, 3, 32, 32)).dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.int64, torch.complex64, torch.bool])
def test_values_of_another_kind_are_refused(dtype: torch.dtype, small: Tree, tmp_path: Path) -> None:
    weights(small)["module.conv1.weight"] = torch.ones(16, 3, 3, 3, dtype=dtype)
    with pytest.raises(DataError, match=r"conv1\.weight needs torch\.float32"):
        convert_tree(small, tmp_path)


def test_missing_tensors(small: Tree, tmp_path: Path) -> None:
    del weights(small)["module.layer2.0.bn2.running_var"]
    with pytest.raises(DataError, match=r"1 tensors do not fit: .*bn2\.running_var is in no part"):
        convert_tree(small, tmp_path)
    conversion, out = convert_tree(small, tmp_path, Request(allow_partial=True))
    assert conversion.account.random == ["backbone.net.layer2.0.bn2.running_var"]
    assert any(note.startswith("RANDOM") for note in conversion.notes)
    assert json.loads(read_tensors(out)[1]["source"])["random"] == conversion.account.random


def test_random_weights_are_always_the_same(small: Tree, tmp_path: Path) -> None:
    del weights(small)["module.layer2.0.conv1.weight"]
    name = "backbone.net.layer2.0.conv1.weight"
    first = convert_tree(small, tmp_path, Request(allow_partial=True))[0].account.tensors[name]
    torch.manual_seed(77)
    assert torch.equal(first, convert_tree(small, tmp_path, Request(allow_partial=True))[0].account.tensors[name])
    assert first.std() > 0


def test_wrong_shapes_are_named_with_both(small: Tree, tmp_path: Path) -> None:
    weights(small)["module.bn1.bias"] = torch.zeros(17)
    with pytest.raises(DataError, match=r"module\.bn1\.bias has shape \(17,\), backbone\.net\.bn1\.bias needs \(16,\)"):
        convert_tree(small, tmp_path)
    conversion, _ = convert_tree(small, tmp_path, Request(allow_partial=True))
    assert conversion.account.random == ["backbone.net.bn1.bias"]
    assert [row.fate for row in conversion.account.rows if row.source == "state_dict/module.bn1.bias"] == ["ignored"]


def test_names_nobody_knows(small: Tree, tmp_path: Path) -> None:
    weights(small)["module.surprise.weight"] = torch.zeros(2)
    with pytest.raises(DataError, match="no known format") as caught:
        convert_tree(small, tmp_path)
    assert "Nearest is gcl: 1 names are unknown (surprise.weight)" in caught.value.hint
    conversion, _ = convert_tree(small, tmp_path, Request(allow_partial=True))
    assert {row.note for row in conversion.account.rows if "surprise" in row.source} == {"unknown to the format"}


def test_counters_that_old_files_lack_are_zero(small: Tree, tmp_path: Path) -> None:
    old = {name: value for name, value in weights(small).items() if "num_batches" not in name}
    conversion, out = convert_tree(small | {"state_dict": old}, tmp_path)
    assert len(conversion.account.filled) == 7
    assert conversion.account.counts()["target"] == len(old) + 7
    assert int(read_tensors(out)[0]["backbone.net.bn1.num_batches_tracked"]) == 0


@pytest.mark.parametrize("change", [lambda value: value.float(), lambda value: value.reshape(1)])
def test_counters_of_another_type_or_shape(change: Any, small: Tree, tmp_path: Path) -> None:
    weights(small)["module.bn1.num_batches_tracked"] = change(torch.tensor(7))
    _, out = convert_tree(small, tmp_path)
    counter = read_tensors(out)[0]["backbone.net.bn1.num_batches_tracked"]
    assert (counter.item(), counter.shape, counter.dtype) == (7, (), torch.int64)
    weights(small)["module.bn1.num_batches_tracked"] = torch.tensor(float("nan"))
    with pytest.raises(DataError, match=r"num_batches_tracked needs torch\.int64"):
        convert_tree(small, tmp_path)


def test_averaged_models_of_torch(tmp_path: Path) -> None:
    net = legacy.plain(legacy.resnet(), 7)
    averaged = {"n_averaged": torch.tensor(5)} | legacy.prefixed("module.", net.tree)
    conversion, out = convert_tree(averaged, tmp_path)
    assert_same_logits(out, net.forward, 64)
    reasons = {row.source: row.note for row in conversion.account.rows if row.fate == "ignored"}
    assert reasons == {"n_averaged": "how many models were averaged (SWA)"}


def test_a_format_can_be_forced(small: Tree, tmp_path: Path) -> None:
    conversion, out = convert_tree(small, tmp_path, Request(form="ldam-drw"))
    assert conversion.recognition.form.method == "ldam"
    assert read_tensors(out)[1]["method"] == "ldam"
    with pytest.raises(DataError, match=r"no glmc file: it lacks fc_cb\.weight"):
        convert_tree(small, tmp_path, Request(form="glmc"))
    with pytest.raises(UsageError, match="unknown format 'gcll'") as caught:
        convert_tree(small, tmp_path, Request(form="gcll"))
    assert "'gcl'" in caught.value.hint


def test_formats_that_fit_alike_are_listed(small: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FORMATS, "twin", FORMATS["gcl"])
    with pytest.raises(DataError, match="fits several formats: gcl, twin") as caught:
        convert_tree(small, tmp_path)
    assert "--format" in caught.value.hint


def test_several_networks_in_a_file(small: Tree, tmp_path: Path) -> None:
    ema = {name: value + 1 for name, value in weights(small).items()}
    both = small | {"ema": {"state_dict": ema}}
    with pytest.raises(DataError, match=r"2 networks: state_dict \(43 .*\), ema/state_dict \(43 tensors\)") as caught:
        convert_tree(both, tmp_path)
    assert "--key" in caught.value.hint
    conversion, out = convert_tree(both, tmp_path, Request(key="ema"))
    assert torch.equal(read_tensors(out)[0]["backbone.net.conv1.weight"], ema["module.conv1.weight"])
    others = [row for row in conversion.account.rows if row.note == "another part of the file"]
    assert len(others) == 43
    with pytest.raises(UsageError, match="no state dict 'emma'"):
        convert_tree(both, tmp_path, Request(key="emma"))


@pytest.mark.parametrize("tree", [{}, {"epoch": 3, "acc": torch.tensor(0.5)}, [1, 2], torch.ones(3), "text", None])
def test_files_without_a_network(tree: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no state dict"):
        convert_tree(tree, tmp_path)


def test_names_at_the_top_cannot_write_to_the_terminal(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        convert_tree({"a\nfake: ok": 3, "b\x1b[31m": {"c\nd": torch.ones(3)}}, tmp_path)
    assert caught.value.hint == r"At its top it holds: a\nfake: ok, b\x1b[31m/c\nd."


@pytest.mark.parametrize("many", [9, 50])
def test_what_a_file_holds_is_told_in_a_line(many: int, small: Tree, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"holds {many} networks: .* and {many - 8} more") as caught:
        convert_tree([small["state_dict"] for _ in range(many)], tmp_path)
    assert len(caught.value.message) < 500


LOSSES = [
    torch.nn.CrossEntropyLoss(weight=torch.ones(10)),
    torch.nn.CrossEntropyLoss(weight=torch.ones(10)).state_dict(),
    {"per.class": torch.zeros(3)},
]


@pytest.mark.parametrize("loss", LOSSES)
def test_weights_of_a_loss_are_no_network(loss: Any, small: Tree, tmp_path: Path) -> None:
    conversion, _ = convert_tree(small | {"criterion": loss}, tmp_path)
    assert [row.note for row in conversion.account.rows if row.source.startswith("criterion/")] == [
        "belongs to no layer"
    ]


def test_a_layer_under_two_names(tmp_path: Path) -> None:
    example = legacy.plain(legacy.resnet(), 9)
    twice = example.tree | {f"classifier.{name}": example.tree[f"fc.{name}"] for name in ("weight", "bias")}
    conversion, out = convert_tree(twice, tmp_path)
    assert_same_logits(out, example.forward, 64)
    notes = {row.source: row.note for row in conversion.account.rows if row.fate == "ignored"}
    assert notes == {f"classifier.{name}": f"another name of fc.{name}" for name in ("weight", "bias")}
    twice["classifier.bias"] = twice["classifier.bias"].clone()
    with pytest.raises(DataError, match="no known format"):
        convert_tree(twice, tmp_path)


@pytest.mark.parametrize("claim", ["resnetblur18", "resnetblur18.in1k", "resnet18", "resnet50", "vgg", None, 3])
def test_the_architecture_that_a_file_names(claim: Any, tmp_path: Path) -> None:
    """Blurring holds no tensors: a blurring ResNet has the names and shapes of a plain one."""
    import timm

    name = "resnetblur18" if claim and "blur" in str(claim) else "resnet18"
    net = legacy.filled(timm.create_model(name, num_classes=7))
    conversion, out = convert_tree({"arch": claim, "state_dict": net.state_dict()}, tmp_path)
    assert conversion.recognition.backbone.name == name
    assert_same_logits(out, net, 64)
    notes = [note for note in conversion.notes if "resnetblur18" in note]
    assert len(notes) == (claim not in ("resnet18", "resnetblur18", "resnetblur18.in1k"))


def test_the_architecture_that_a_file_names_of_another_format(tmp_path: Path) -> None:
    import timm

    net: Any = legacy.filled(timm.create_model("resnetblur18", num_classes=7))
    state = {name.replace("fc.", "linear."): value for name, value in net.state_dict().items()}
    conversion, out = convert_tree({"arch": "resnetblur18", "state_dict": state}, tmp_path)
    assert conversion.recognition.name == "gcl-ce"
    assert_same_logits(out, net, 64)


def test_the_architecture_that_a_file_names_chooses_among_those_that_fit(tmp_path: Path) -> None:
    import timm

    net = legacy.filled(timm.create_model("resnetaa50d", num_classes=3))
    with pytest.raises(DataError, match="several architectures: resnet50d, resnetaa50d"):
        convert_tree({"state_dict": net.state_dict()}, tmp_path)
    _, out = convert_tree({"arch": "resnetaa50d", "state_dict": net.state_dict()}, tmp_path)
    assert_same_logits(out, net, 64)


ODD_NAMES = ["", "__metadata__", "a\nb.weight", "\x1b[31m.weight", "x" * 600, "\ud800.weight", 7, None, b"w"]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_unusable_names(name: Any, small: Tree, tmp_path: Path) -> None:
    weights(small)[name] = torch.ones(1)
    with pytest.raises(DataError, match=r"unusable name|is no text|__metadata__") as caught:
        convert_tree(small, tmp_path)
    assert caught.value.message.isprintable()


def test_names_that_become_one(small: Tree, tmp_path: Path) -> None:
    weights(small)["conv1.weight"] = torch.ones(16, 3, 3, 3)
    with pytest.raises(DataError, match=r"are one name once 'module\.' is taken off"):
        convert_tree(small, tmp_path)


def test_tied_tensors_are_recorded_and_separate(small: Tree, tmp_path: Path) -> None:
    weights(small)["module.layer1.0.bn2.weight"] = weights(small)["module.layer1.0.bn1.weight"]
    _, out = convert_tree(small, tmp_path)
    tensors, metadata = read_tensors(out)
    assert json.loads(metadata["source"])["tied"] == [["layer1.0.bn1.weight", "layer1.0.bn2.weight"]]
    assert torch.equal(tensors["backbone.net.layer1.0.bn1.weight"], tensors["backbone.net.layer1.0.bn2.weight"])


def test_class_counts_of_the_user(small: Tree, tmp_path: Path) -> None:
    counts = (500, 400, 300, 200, 100, 50, 20, 10, 5, 2)
    _, out = convert_tree(small, tmp_path, Request(class_counts=counts))
    metadata = read_tensors(out)[1]
    assert json.loads(metadata["class_counts"]) == list(counts)
    assert json.loads(metadata["class_names"]) is None
    _, out = convert_tree(small, tmp_path)
    metadata = read_tensors(out)[1]
    assert json.loads(metadata["class_counts"]) is None
    assert json.loads(metadata["class_names"]) == [str(k) for k in range(10)]
    plain, _ = convert_tree(small, tmp_path)
    turned, _ = convert_tree(small, tmp_path, Request(class_counts=counts, numbering=Numbering("ascending")))
    assert torch.equal(turned.account.tensors["fc.weight"], plain.account.tensors["fc.weight"].flip(0))


def test_bad_options(small: Tree, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="gamma: unknown key"):
        convert_tree(small, tmp_path, Request(options={"gamma": 0.3}))
    with pytest.raises(UsageError, match="imagenet-lt has 1000 classes, the file has 10"):
        convert_tree(small, tmp_path, Request(dataset="imagenet-lt"))
    with pytest.raises(UsageError, match="unknown data set"):
        convert_tree(small, tmp_path, Request(dataset="cifar"))


def test_glmc_has_its_own_constants_on_cifar10(tmp_path: Path) -> None:
    example = legacy.glmc(legacy.resnet(small=True), 10)
    conversion, _ = convert_tree(example.tree, tmp_path)
    assert conversion.dataset == "cifar10"
    assert conversion.image.mean == (0.49139968, 0.48215827, 0.44653124)


def test_grey_images(tmp_path: Path) -> None:
    net = legacy.resnet()
    net.conv1 = torch.nn.Conv2d(1, 64, 7, 2, 3, bias=False)
    conversion, out = convert_tree(legacy.plain(net, 4).tree, tmp_path)
    assert conversion.image.channels == 1
    assert load_model(out).predict(torch.zeros(1, 1, 64, 64)).shape == (1, 4)


def test_a_model_of_ltk_is_not_converted_again(small: Tree, tmp_path: Path) -> None:
    _, out = convert_tree(small, tmp_path)
    with pytest.raises(DataError, match="a model file of ltk already"):
        convert_file(out, Request())


def test_safetensors_are_read_too(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    example = legacy.plain(legacy.resnet(), 9)
    path, out = tmp_path / "weights.bin", tmp_path / "new.safetensors"
    save_file(example.tree, path, {"format": "pt"})
    conversion = convert_file(path, Request())
    write_conversion(conversion, out)
    assert_same_logits(out, example.forward, 64)
    assert conversion.raw.kind == "SafetensorsFile"


def test_a_disk_that_lies_is_noticed(small: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def other(path: Path) -> Any:
        tensors, metadata = read_tensors(path)
        return tensors | {"fc.weight": tensors["fc.weight"] + 1}, metadata

    monkeypatch.setattr(verify, "read_tensors", other)
    with pytest.raises(EnvironmentFault, match="does not read back"):
        convert_tree(small, tmp_path)
    assert not (tmp_path / "new.safetensors").exists()


def test_the_accuracy_can_be_checked(tmp_path: Path) -> None:
    import timm

    net = legacy.filled(timm.create_model("cifar_resnet8", num_classes=10, in_chans=1))
    conversion, _ = convert_tree(dict(net.state_dict()), tmp_path, Request(dataset="digits", arch="cifar_resnet8"))
    measured = verify.measure_accuracy(conversion.method, "digits", None, conversion.image)
    assert 0 <= measured <= 40
    verify.check_accuracy(measured, measured + 0.4)
    with pytest.raises(DataError, match="top-1 accuracy is"):
        verify.check_accuracy(measured, measured + 0.6)


def test_a_forward_pass_is_checked(small: Tree, tmp_path: Path) -> None:
    conversion, _ = convert_tree(small, tmp_path)
    with pytest.raises(DataError, match=r"not \(2, 11\)"):
        verify.check_forward(conversion.method, 11, conversion.image)
    conversion.method.fc.weight.data.fill_(float("nan"))  # type: ignore[union-attr, operator]
    with pytest.raises(DataError, match="nan or infinity"):
        verify.check_forward(conversion.method, 10, conversion.image)
