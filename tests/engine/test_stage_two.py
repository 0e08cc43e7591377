"""Stage two of any run: what it takes over, what it leaves alone, and that it is a run like any other."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ltk.checkpoint import load_model, load_newest
from ltk.engine.adopt import adopt_model
from ltk.engine.before_after import compare_stages
from ltk.engine.fit import fit, resume
from ltk.engine.parent import find_parent
from ltk.engine.run_dir import find_run
from ltk.engine.stage_two import StageTwoRequest, resolve_stage_two
from ltk.errors import DataError, LtkError, StoppedError, UsageError
from ltk.evaluation.evaluate import ensure_logits
from ltk.evaluation.pipeline import Judge
from ltk.evaluation.protocol import recipe_key
from ltk.methods.functional import tau_normalise
from ltk.resolve import resolve_config
from tests.test_resume import Interrupter, assert_same_end

EPOCHS = 3
CHEAP = {"run.device": "cpu", "run.precision": "fp32", "run.threads": 1}
TRAINED = ["crt", "lws", "maxnorm", "gcl", "balanced-softmax"]


def train(folder: Path, method: str, *overrides: str, epochs: int = 3) -> Path:
    options = {**CHEAP, "optim.epochs": epochs}
    return fit(resolve_config(method, dataset="digits", options=options, overrides=overrides).config, out=folder).folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of short first stages: ce, gcl, glmc, reslt, ride (two experts), val (with validation images)."""
    folder = tmp_path_factory.mktemp("runs") / "digits"
    folder.mkdir()
    for method in ("ce", "gcl", "glmc", "reslt"):
        train(folder / method, method)
    train(folder / "ride", "reslt", "method.experts=2", epochs=1)
    train(folder / "val", "ce", "data.val=1", epochs=15)
    return folder


def tune(parent: Path, recipe: str | None = None, *overrides: str, out: Path | None = None, **options: Any) -> Path:
    """Run a second stage to its end and return its folder."""
    named = {**CHEAP, "optim.epochs": None if recipe == "tau-norm" else EPOCHS, **options}
    request = StageTwoRequest(parent, recipe, options=named, overrides=overrides)
    return fit(resolve_stage_two(request).config, out=out).folder


def backbone_of(path: Path) -> dict[str, Tensor]:
    return dict(load_model(path).backbone.state_dict())


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> list[str]:
    assert before.keys() == after.keys()
    return [name for name, value in before.items() if not torch.equal(value, after[name])]


@pytest.mark.parametrize(
    ("recipe", "cache"), [*itertools.product(TRAINED, (True, False)), ("tau-norm", None)], ids=str
)  # tau-norm trains nothing, so it has nothing to cache
def test_the_backbone_stays_bit_for_bit(runs: Path, tmp_path: Path, recipe: str, cache: bool | None) -> None:
    """Weights, running statistics and their counters."""
    options = {} if cache is None else {"parent.cache": cache}
    child = tune(runs / "ce", recipe, out=tmp_path / "child", **options)
    before = backbone_of(runs / "ce")
    assert any("running_mean" in name for name in before)
    assert changed(before, backbone_of(child)) == []
    assert changed(before, backbone_of(child / "model.safetensors")) == []


def test_only_the_statistics_drift_on_request(runs: Path, tmp_path: Path) -> None:
    child = tune(runs / "ce", "crt", "method.batch_norm=train", "parent.cache=false", out=tmp_path / "child")
    names = changed(backbone_of(runs / "ce"), backbone_of(child))
    assert names
    assert all("running_" in name or "num_batches" in name for name in names)


@pytest.mark.parametrize("recipe", TRAINED)
@pytest.mark.parametrize(("epoch", "step"), [(0, None), (1, 3)], ids=["between epochs", "within an epoch"])
def test_a_continued_second_stage_is_the_uninterrupted_one(
    runs: Path, tmp_path: Path, recipe: str, epoch: int, step: int | None
) -> None:
    """Even when stage one is gone by then: the run is self-contained."""
    parent = shutil.copytree(runs / "ce", tmp_path / "parent")
    config = resolve_stage_two(StageTwoRequest(parent, recipe, options={**CHEAP, "optim.epochs": EPOCHS})).config
    fit(config, out=tmp_path / "whole")
    with pytest.raises(StoppedError):
        fit(config, out=tmp_path / "parts", reporter=Interrupter(epoch, step))
    shutil.rmtree(parent)
    resume(tmp_path / "parts")
    assert_same_end(tmp_path / "whole", tmp_path / "parts")


def test_a_run_killed_before_its_first_checkpoint_begins_with_its_parent(runs: Path, tmp_path: Path) -> None:
    whole = tune(runs / "ce", "crt", out=tmp_path / "whole")
    parts = shutil.copytree(whole, tmp_path / "parts")
    for name in ("metrics.jsonl", "times.jsonl", "card.json", "model.safetensors"):
        (parts / name).unlink()
    shutil.rmtree(parts / "checkpoints")
    shutil.rmtree(parts / "logits")
    resume(parts)
    assert_same_end(whole, parts)


def test_features_made_once_are_those_of_plain_images(runs: Path, tmp_path: Path) -> None:
    """Without augmentation, cached and uncached training are the same up to rounding."""
    plain = ['views.recipes=["none"]']
    paths = [
        tune(runs / "gcl", "gcl", *plain, "method.mixup_alpha=0", out=tmp_path / str(cache), **{"parent.cache": cache})
        for cache in (True, False)
    ]
    weights = [load_model(path).state_dict()["fc.weight"] for path in paths]
    torch.testing.assert_close(*weights, rtol=1e-4, atol=1e-5)
    changed_views = tune(runs / "gcl", "gcl", "method.mixup_alpha=0", out=tmp_path / "views")
    assert not torch.allclose(weights[0], load_model(changed_views).state_dict()["fc.weight"], rtol=1e-4, atol=1e-5)


def test_cached_figures_are_those_of_the_saved_logits(runs: Path, tmp_path: Path) -> None:
    child = tune(runs / "ce", "crt", out=tmp_path / "child")
    last = json.loads((child / "metrics.jsonl").read_text().splitlines()[-1])
    saved = ensure_logits(child)
    assert last["test"]["top1"] == pytest.approx((saved.logits_NK.argmax(1) == saved.target_N).mean())
    assert Judge().evaluate(child).saved.num_classes == 10


def test_tau_normalisation_divides_rows_and_trains_nothing(runs: Path, tmp_path: Path) -> None:
    child = tune(runs / "ce", "tau-norm", out=tmp_path / "child", **{"method.tau": 0.7})
    old, new = load_model(runs / "ce").state_dict(), load_model(child).state_dict()
    torch.testing.assert_close(new["fc.weight"], tau_normalise(old["fc.weight"], 0.7))
    assert not new["fc.bias"].any()
    assert not (child / "metrics.jsonl").exists()
    card = json.loads((child / "card.json").read_text())
    assert card["epochs"] == 3
    assert card["updates"] == json.loads((runs / "ce" / "card.json").read_text())["updates"]


def test_tau_is_chosen_on_validation_images(runs: Path) -> None:
    from ltk.evaluation.choose import AdjustmentRequest

    chosen = resolve_stage_two(StageTwoRequest(runs / "val", "tau-norm", options=CHEAP))
    curve = Judge("test").evaluate(runs / "val", AdjustmentRequest(adjust="tau-norm", tune=True)).curve
    assert curve is not None
    assert curve.split == "val"
    assert chosen.config.method.options["tau"] == curve.chosen != 1.0
    assert any("chosen on the validation images" in note for note in chosen.notes)
    given = resolve_stage_two(StageTwoRequest(runs / "val", "tau-norm", options={**CHEAP, "method.tau": 0.3}))
    assert given.config.method.options["tau"] == 0.3
    without = resolve_stage_two(StageTwoRequest(runs / "ce", "tau-norm", options=CHEAP))
    assert without.config.method.options["tau"] == 1.0
    assert any("no validation images" in note for note in without.notes)


def test_max_norm_continues_the_rebalanced_classifier_of_glmc(runs: Path, tmp_path: Path) -> None:
    stage_one = load_model(runs / "glmc").state_dict()["fc_cb.weight"]
    norms_K = stage_one.norm(dim=1)
    bound = norms_K.min() + 0.1 * (norms_K.max() - norms_K.min())
    config = resolve_stage_two(StageTwoRequest(runs / "glmc", options={**CHEAP, "optim.epochs": EPOCHS})).config
    assert config.method.options["recipe"] == "maxnorm"
    with pytest.raises(StoppedError):
        fit(config, out=tmp_path / "child", reporter=Interrupter(0, 1))
    begun = load_newest(tmp_path / "child" / "checkpoints")[0].part("model")
    assert torch.nn.functional.cosine_similarity(begun["fc.weight"], stage_one).min() > 0.99
    torch.testing.assert_close(begun["bound"], bound)
    resume(tmp_path / "child")
    after = load_model(tmp_path / "child").state_dict()["fc.weight"]
    assert after.norm(dim=1).max() <= bound * (1 + 1e-5)


def test_gcl_continues_its_cosine_classifier(runs: Path, tmp_path: Path) -> None:
    child = tune(runs / "gcl", None, out=tmp_path / "child", **{"optim.lr": 1e-9})
    old, new = load_model(runs / "gcl"), load_model(child)
    torch.testing.assert_close(new.state_dict()["fc.weight"], old.state_dict()["fc.weight"], rtol=1e-5, atol=1e-6)
    x_BCHW = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(new.predict(x_BCHW) / 20, old.predict(x_BCHW) / 30, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("method", "recipe"), [("ce", "crt"), ("gcl", "gcl"), ("glmc", "maxnorm"), ("reslt", "crt")])
def test_each_method_has_its_own_second_stage(runs: Path, method: str, recipe: str) -> None:
    config = resolve_stage_two(StageTwoRequest(runs / method)).config
    assert config.method.label == recipe
    assert config.preset == f"stage2-{recipe}/digits"
    assert config.run.seed == 0


@pytest.mark.parametrize("parent", ["reslt", "ride"])
def test_branches_leave_pooled_features_for_a_fresh_classifier(runs: Path, tmp_path: Path, parent: str) -> None:
    for recipe in ("crt", "balanced-softmax"):
        child = tune(runs / parent, recipe, out=tmp_path / recipe)
        assert changed(backbone_of(runs / parent), backbone_of(child)) == []
    for recipe in ("lws", "tau-norm", "maxnorm", "gcl"):
        with pytest.raises(UsageError, match="ResLT has none") as fault:
            tune(runs / parent, recipe, out=tmp_path / recipe)
        assert "balanced-softmax" in fault.value.hint
        assert not (tmp_path / recipe).exists()


def test_a_third_stage_goes_on_with_the_scaled_classifier(runs: Path, tmp_path: Path) -> None:
    scaled = tune(runs / "ce", "lws", out=tmp_path / "lws")
    state = load_model(scaled).state_dict()
    third = tune(scaled, "tau-norm", out=tmp_path / "third", **{"method.tau": 0.0})
    expected = state["fc.scale_K"][:, None] * state["fc.weight"]
    torch.testing.assert_close(load_model(third).state_dict()["fc.weight"], expected)
    torch.testing.assert_close(torch.from_numpy(ensure_logits(scaled).weight_norm_K), expected.norm(dim=1))
    card = json.loads((third / "card.json").read_text())
    assert card["method"] == "ce + lws + tau-norm"
    assert card["epochs"] == 3 + EPOCHS


def test_the_card_counts_all_stages_and_names_the_parent(runs: Path, tmp_path: Path) -> None:
    child = tune(runs / "gcl", "crt", out=tmp_path / "child")
    card, first = (json.loads((path / "card.json").read_text()) for path in (child, runs / "gcl"))
    assert card["method"] == "gcl + crt"
    assert card["epochs"] == first["epochs"] + EPOCHS == 6
    steps = first["updates"] // first["epochs"]
    assert card["updates"] == 6 * steps
    assert card["images_seen"] == 6 * 342
    assert card["init"] == "gcl, last epoch"
    assert card["parent"]["path"] == str(runs / "gcl")
    assert card["parent"]["fingerprint"] == card["fingerprint"] == first["fingerprint"]
    assert len(card["parent"]["sha256"]) == 64
    assert card["stage_one"]["options"] == first["options"]
    assert card["parameters"] == sum(p.numel() for p in load_model(child).parameters())


def test_seeds_of_one_recipe_belong_together(runs: Path, tmp_path: Path) -> None:
    """The parent run differs from seed to seed, its recipe does not."""
    cards = []
    for seed in (0, 1):
        parent = train(tmp_path / f"ce-{seed}", "ce", f"run.seed={seed}", epochs=1)
        cards.append(json.loads((tune(parent, "crt", out=tmp_path / f"child-{seed}") / "card.json").read_text()))
    assert cards[0]["parent"] != cards[1]["parent"]
    assert [card["seed"] for card in cards] == [0, 1]
    assert recipe_key(cards[0]) == recipe_key(cards[1])
    other = tune(train(tmp_path / "ce-2", "ce", "optim.lr=0.05", "method.mixup_alpha=0.5", epochs=1), "crt")
    assert recipe_key(json.loads((other / "card.json").read_text())) != recipe_key(cards[0])


def test_before_and_after_are_compared_on_the_same_images(runs: Path, tmp_path: Path) -> None:
    child = tune(runs / "ce", "crt", out=tmp_path / "child")
    comparison = compare_stages(child)
    assert comparison is not None
    assert [recipe.name for recipe in comparison.recipes] == ["ce", "ce + crt"]
    assert comparison.baseline == "ce"
    assert {verdict.recipe for verdict in comparison.verdicts} == {"ce + crt"}
    assert "parent" not in {row.key for row in comparison.differences}
    assert {"epochs", "init"} <= {row.key for row in comparison.differences}


def test_it_lies_beside_its_parent_where_every_command_finds_it(runs: Path) -> None:
    child = tune(runs / "gcl", "lws")
    assert child == runs / "gcl-lws-001"
    assert tune(runs / "gcl", "lws") == runs / "gcl-lws-002"
    root = runs.parent
    assert find_run("gcl-lws-001", root) == child
    assert find_run(None, root) == runs / "gcl-lws-002"
    assert find_parent(None, root) != runs / "gcl-lws-002"  # a second stage is not the default for another one
    assert find_parent(Path("gcl"), root) == runs / "gcl"


def test_a_model_file_gives_the_same_second_stage_as_its_run(runs: Path, tmp_path: Path) -> None:
    adopted = adopt_model(runs / "ce" / "model.safetensors", tmp_path, dataset="digits", root=None, imb=50)
    from_file = tune(adopted, "crt", out=tmp_path / "file")
    from_run = tune(runs / "ce", "crt", out=tmp_path / "run")
    states = [load_model(path).state_dict() for path in (from_file, from_run)]
    assert changed(*states) == []
    card = json.loads((from_file / "card.json").read_text())
    assert card["epochs"] is None
    assert card["method"] == "ce + crt"
    comparison = compare_stages(from_file)
    assert comparison is not None
    assert not comparison.differences


def test_the_best_checkpoint_is_called_an_oracle(runs: Path, tmp_path: Path) -> None:
    config = resolve_stage_two(StageTwoRequest(runs / "ce", "tau-norm", "best", options=CHEAP)).config
    child = fit(config, out=tmp_path / "child").folder
    assert json.loads((child / "card.json").read_text())["init"] == "ce, best epoch on test (oracle)"
    best = load_model(runs / "ce" / "checkpoints" / "best.safetensors").state_dict()["fc.weight"]
    torch.testing.assert_close(load_model(child).state_dict()["fc.weight"], tau_normalise(best, 1.0))


def test_a_stopped_parent_is_said_to_be_one(tmp_path: Path) -> None:
    options = {**CHEAP, "optim.epochs": 9}
    with pytest.raises(StoppedError):
        fit(
            resolve_config("ce", dataset="digits", options=options).config, out=tmp_path / "ce", reporter=Interrupter(1)
        )
    resolved = resolve_stage_two(StageTwoRequest(tmp_path / "ce", "crt", options={**CHEAP, "optim.epochs": 1}))
    assert "stopped after epoch 2 of 9" in resolved.notes[0]
    child = fit(resolved.config, out=tmp_path / "child").folder
    assert json.loads((child / "card.json").read_text())["epochs"] == 3


def test_where_features_are_made_once(runs: Path) -> None:
    """Published recipes run as published; elsewhere features are made once, unless the recipe mixes images."""
    cached = {recipe: resolve_stage_two(StageTwoRequest(runs / "ce", recipe)).config for recipe in TRAINED}
    assert {recipe: config.parent.cache for recipe, config in cached.items()} == {
        "crt": True,
        "lws": True,
        "maxnorm": True,
        "gcl": False,
        "balanced-softmax": True,
    }
    anew = resolve_stage_two(StageTwoRequest(runs / "ce", "crt", options={"parent.cache": False}))
    assert not anew.config.parent.cache
    assert any("anew in every epoch" in note for note in anew.notes)
    assert ("parent.cache", True, False) in anew.departures


def test_a_derived_recipe_freezes_the_statistics_it_caches(runs: Path, tmp_path: Path) -> None:
    """CIFAR's cRT lets them drift; derived for other images it makes features once, which must not change."""
    parent = shutil.copytree(runs / "ce", tmp_path / "ce")
    text = (parent / "config.toml").read_text().replace("image_size = 8", "image_size = 32")
    (parent / "config.toml").write_text(text.replace('dataset = "digits"', 'dataset = "folder"'))
    resolved = resolve_stage_two(StageTwoRequest(parent, "crt"))
    assert resolved.config.preset.startswith("stage2-crt/cifar")
    assert resolved.config.parent.cache
    assert resolved.config.method.options["batch_norm"] == "eval"
    assert any("no published recipe" in note for note in resolved.notes)


@pytest.mark.parametrize(
    ("recipe", "options", "overrides", "expected"),
    [
        ("crtt", {}, (), "'crt'"),
        ("crt", {"method.tau": 1.0}, (), "--tau belongs to --method tau-norm"),
        ("tau-norm", {"optim.epochs": 3}, (), "--epochs"),
        ("tau-norm", {"method.rule": "uniform"}, (), "--rule"),
        ("crt", {}, ("data.imb=10",), "not the images of"),
        ("crt", {}, ("method.batch_norm=train",), "made once"),
        ("maxnorm", {"method.rule": "balanced-rw"}, (), "weigh it twice"),
        ("crt", {"method.rule": "balanced"}, (), "balanced-rs"),
        ("crt", {}, ("parent.chekpoint=best",), "checkpoint"),
        ("crt", {}, ("model.width=8",), "another backbone"),
    ],
)
def test_what_cannot_work_is_refused(
    runs: Path, tmp_path: Path, recipe: str, options: dict[str, Any], overrides: tuple[str, ...], expected: str
) -> None:
    request = StageTwoRequest(runs / "ce", recipe, options=options, overrides=overrides)
    with pytest.raises(LtkError) as fault:
        fit(resolve_stage_two(request).config, out=tmp_path / "child")
    assert expected in f"{fault.value.message} {fault.value.hint}"
    assert not (tmp_path / "child").exists()


def test_a_parent_that_changed_is_refused(runs: Path, tmp_path: Path) -> None:
    parent = shutil.copytree(runs / "ce", tmp_path / "ce")
    config = resolve_stage_two(StageTwoRequest(parent, "crt", options=CHEAP)).config
    shutil.copy(runs / "gcl" / "checkpoints" / "last.safetensors", parent / "checkpoints")
    with pytest.raises(DataError, match="has changed"):
        fit(config, out=tmp_path / "child")


def test_a_classifier_is_never_retrained_on_random_features(runs: Path, tmp_path: Path) -> None:
    config = resolve_stage_two(StageTwoRequest(runs / "ce", "crt", options=CHEAP)).config
    alone = config.model_copy(update={"parent": type(config.parent)()})
    with pytest.raises(UsageError, match="features of a finished run"):
        fit(alone, out=tmp_path / "child")


def test_any_method_can_start_from_the_backbone_of_a_run(runs: Path, tmp_path: Path) -> None:
    frozen = ["method.frozen_backbone=true", "method.freeze_bn=true", f"parent.path={runs / 'ce'}"]
    child = train(tmp_path / "bagmar", "bagmar", *frozen, "model.backbone=cifar_resnet8", epochs=1)
    assert changed(backbone_of(runs / "ce"), backbone_of(child)) == []
    with pytest.raises(UsageError, match="made once"):
        train(tmp_path / "cached", "bagmar", *frozen, "parent.cache=true", epochs=1)


def test_two_seeds_draw_two_classifiers(runs: Path, tmp_path: Path) -> None:
    make: Callable[[int], Path] = lambda seed: tune(  # noqa: E731
        runs / "ce", "crt", out=tmp_path / f"{seed}", **{"run.seed": seed}
    )
    assert "fc.weight" in changed(*(dict(load_model(make(seed)).state_dict()) for seed in (1, 2)))
