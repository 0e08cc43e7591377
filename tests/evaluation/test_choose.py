from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from ltk.cli import app
from ltk.errors import DataError, UsageError
from ltk.evaluation.choose import Choice, choose_adjustment, create_request
from ltk.evaluation.compare import compare_entries
from ltk.evaluation.inputs import read_costs, read_prior
from ltk.evaluation.logits import SavedLogits
from ltk.evaluation.metrics import predict_classes
from ltk.evaluation.payload import describe_run
from ltk.evaluation.pipeline import Judge
from ltk.evaluation.posthoc import no_adjustment, predicted_mass
from ltk.evaluation.sections import create_section
from ltk.evaluation.tune import read_curves

CreateSaved = Callable[..., SavedLogits]
PLAIN = {"prior": "none"}


def no_split(name: str) -> SavedLogits:
    raise DataError(f"no {name} split")


def choose(saved: SavedLogits, load: Callable[[str], SavedLogits] = no_split, **options: Any) -> Choice:
    return choose_adjustment(create_request(**options), saved, load, PLAIN)


def balanced(saved: SavedLogits, choice: Choice) -> float:
    return float((predict_classes(choice.adjustment.scores(saved.logits_NK)) == saved.target_N).mean())


def test_tau_is_tuned_on_validation_images(create_saved: CreateSaved, tmp_path: Path) -> None:
    test, val = create_saved(bias=0.8), create_saved(bias=0.8, seed=5, noise_seed=6)
    choice = choose(test, lambda _: val, adjust="la", tune=True)
    curve = choice.curve
    assert curve is not None
    assert (curve.split, curve.adjust) == ("val", "la")
    assert not choice.adjustment.oracle
    by_hand = [balanced(val, choose(val, adjust="la", tau=tau)) for tau in curve.values]
    assert list(curve.balanced) == pytest.approx(by_hand)
    assert curve.chosen == curve.values[int(np.argmax(by_hand))]
    assert choice.adjustment.label == f"logit adjustment tau={curve.chosen:g}"
    assert balanced(test, choice) > balanced(test, choose(test)) + 0.05
    curve.write(tmp_path)
    assert read_curves(tmp_path) == [curve]


def test_an_oracle_is_labelled(saved: SavedLogits) -> None:
    choice = choose(saved, adjust="la", oracle=True)
    assert choice.adjustment.oracle
    assert choice.adjustment.label.endswith("(oracle)")
    assert choice.curve is not None
    assert choice.curve.split == "test"
    assert balanced(saved, choice) == pytest.approx(max(choice.curve.balanced))


def test_tuning_needs_validation_images(saved: SavedLogits) -> None:
    for options in ({"adjust": "la", "tune": True}, {"temperature": "val"}):
        with pytest.raises(DataError, match="the run has none") as caught:
            choose(saved, **options)
        assert "--val" in caught.value.hint


@pytest.mark.parametrize(
    "options",
    [
        {"tau": 1.0},
        {"tune": True},
        {"adjust": "la", "tune": True, "oracle": True},
        {"adjust": "la", "tune": True, "tau": 1.0},
        {"adjust": "la", "tau": -1.0},
        {"adjust": "la", "tau": float("nan")},
        {"adjust": "lA"},
        {"temperature": "cold"},
    ],
)
def test_contradictions_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        create_request(**options)


def test_pn_and_its_inductive_form(create_saved: CreateSaved) -> None:
    test, val = create_saved(bias=0.8), create_saved(bias=0.8, seed=5, noise_seed=6)
    transductive = choose(test, lambda _: val, adjust="pn", tau=1.5).adjustment
    inductive = choose(test, lambda _: val, adjust="pn-inductive", tau=1.5).adjustment
    start = no_adjustment(4)
    np.testing.assert_allclose(
        transductive.offset_K - transductive.offset_K[0], _pn_offset(predicted_mass(start, [test.logits_NK])), rtol=1e-6
    )
    np.testing.assert_allclose(
        inductive.offset_K - inductive.offset_K[0], _pn_offset(predicted_mass(start, [val.logits_NK])), rtol=1e-6
    )
    assert transductive.transductive
    assert not inductive.transductive
    assert "validation images" in inductive.label


def test_pn_is_transductive_where_its_mass_is_that_of_the_judged_images(create_saved: CreateSaved) -> None:
    splits = {name: create_saved(bias=0.8, noise_seed=seed) for seed, name in enumerate(("test", "val", "train"))}

    def without_val(name: str) -> SavedLogits:
        return no_split(name) if name == "val" else splits[name]

    for judged, load, is_transductive in (
        ("test", splits.__getitem__, False),
        ("val", splits.__getitem__, True),
        ("train", splits.__getitem__, False),
        ("test", without_val, False),
        ("train", without_val, True),
    ):
        for strength in ({"tau": 1.5}, {"oracle": True}):
            request = create_request(adjust="pn-inductive", **strength)
            adjustment = choose_adjustment(request, splits[judged], load, PLAIN, judged).adjustment
            assert adjustment.transductive == is_transductive
            assert ("transductive" in adjustment.label) == is_transductive


def _pn_offset(mass_K: Any) -> Any:
    offset_K = -1.5 * np.log(mass_K)
    return offset_K - offset_K[0]


def test_pn_without_validation_images_takes_the_training_images(saved: SavedLogits) -> None:
    def load(name: str) -> SavedLogits:
        return saved if name == "train" else no_split(name)

    assert "training images" in choose(saved, load, adjust="pn-inductive").adjustment.label


def test_tau_normalisation_needs_a_linear_classifier(saved: SavedLogits) -> None:
    with pytest.raises(DataError, match="one linear classifier"):
        choose(saved, adjust="tau-norm")
    norm_K, bias_K = np.array([4, 2, 2, 1], np.float32), np.array([1, 0, 0, -1], np.float32)
    choice = choose(replace(saved, weight_norm_K=norm_K, bias_K=bias_K), adjust="tau-norm", tau=1.0)
    expected = (saved.logits_NK - bias_K) / norm_K
    np.testing.assert_allclose(choice.adjustment.scores(saved.logits_NK), expected, rtol=1e-5)


def test_priors(saved: SavedLogits, tmp_path: Path) -> None:
    counts_K = np.array(saved.class_counts, float)
    uniform = choose(saved, prior="uniform").adjustment
    np.testing.assert_allclose(uniform.offset_K - uniform.offset_K[0], -np.log(counts_K / counts_K[0]))
    unchanged = choose(saved, prior="train").adjustment
    np.testing.assert_allclose(unchanged.offset_K - unchanged.offset_K[0], 0, atol=1e-12)
    path = tmp_path / "shares.csv"
    path.write_text("class 3,3\nclass 0,1\nclass 1,1\nclass 2,0\n")
    given = choose(saved, prior=str(path)).adjustment
    np.testing.assert_allclose(given.prior_K, [0.2, 0.2, 0, 0.6], atol=1e-12)
    estimated = choose(saved, prior="estimate").adjustment
    assert estimated.transductive
    with pytest.raises(UsageError, match="neither uniform"):
        choose(saved, prior="unifrom")


def test_a_loss_that_used_the_prior_has_equal_shares_already(saved: SavedLogits) -> None:
    request = create_request(prior="uniform")
    adjustment = choose_adjustment(request, saved, no_split, {"prior": "training counts"}).adjustment
    np.testing.assert_allclose(adjustment.offset_K, adjustment.offset_K[0])


def test_temperature(saved: SavedLogits, create_saved: CreateSaved) -> None:
    assert choose(saved, temperature="2").adjustment.label == "temperature 2"
    val = create_saved(seed=5, noise_seed=6)
    fitted = choose(saved, lambda _: val, temperature="val").adjustment
    assert fitted.label.startswith("temperature ")
    assert fitted.scale_K[0] != 1


def test_costs_of_a_file(saved: SavedLogits, tmp_path: Path) -> None:
    path = tmp_path / "costs.csv"
    path.write_text("class 3,*,20\n*,class 0,2\nclass 3,class 0,50\nclass 1,class 1,0.5\n")
    cost_KK = read_costs(path, saved.class_names)
    expected = [[0, 1, 1, 1], [2, 0.5, 1, 1], [2, 1, 0, 1], [50, 20, 20, 0]]
    assert cost_KK.tolist() == expected
    choice = choose(saved, cost=path)
    assert choice.adjustment.label == "costs costs.csv"
    decided_N = predict_classes(choice.adjustment.decisions(saved.logits_NK))
    assert (decided_N == 3).sum() > (predict_classes(saved.logits_NK) == 3).sum()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("class 9,*,1\n", "unknown class 'class 9'"),
        ("class 1,*,-1\n", ":1: '-1' is not a number"),
        ("class 1,*,nan\n", "'nan' is not a number"),
        ("class 1,1\n", ":1: 2 fields"),
    ],
)
def test_costs_that_do_not_fit(saved: SavedLogits, tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "costs.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_costs(path, saved.class_names)


@pytest.mark.parametrize(("text", "message"), [("a,1\n", "no share for b"), ("a,0\nb,0\n", "all shares are 0")])
def test_priors_that_do_not_fit(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "shares.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_prior(path, ("a", "b"))
    with pytest.raises(DataError, match="cannot read"):
        read_prior(tmp_path / "none.csv", ("a", "b"))


def test_a_value_chosen_on_the_judged_images_is_an_oracle(create_saved: CreateSaved) -> None:
    test, val = create_saved(), create_saved(seed=5, noise_seed=6)
    for options, split, is_oracle in (
        ({"adjust": "la", "tune": True}, "val", True),
        ({"adjust": "la", "tune": True}, "test", False),
        ({"temperature": "val"}, "val", True),
        ({"temperature": "val"}, "test", False),
        ({"adjust": "la", "oracle": True}, "val", True),
    ):
        judged = val if split == "val" else test
        choice = choose_adjustment(create_request(**options), judged, lambda _: val, PLAIN, split)
        assert choice.adjustment.oracle == is_oracle
        assert choice.adjustment.label.endswith("(oracle)") == is_oracle
        if choice.curve:
            assert choice.curve.split == "val"


def test_a_damaged_curve_is_named(create_saved: CreateSaved, tmp_path: Path) -> None:
    for text in ("{", "[]", '{"adjust": "la"}'):
        (tmp_path / "tuning-la-val.json").write_text(text)
        with pytest.raises(DataError, match=r"tuning-la-val\.json is damaged"):
            read_curves(tmp_path)


def test_each_checkpoint_has_its_curve(create_saved: CreateSaved, tmp_path: Path) -> None:
    for checkpoint in ("last", "best"):
        saved = create_saved(checkpoint=checkpoint)
        curve = choose(saved, adjust="la", oracle=True).curve
        assert curve is not None
        curve.write(tmp_path)
        assert read_curves(tmp_path, checkpoint) == [curve]
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["tuning-la-test-best.json", "tuning-la-test.json"]


def without(saved: SavedLogits, k: int) -> SavedLogits:
    kept_N = saved.target_N != k
    parts = {name: getattr(saved, name)[kept_N] for name in ("logits_NK", "target_N", "index_N")}
    return replace(saved, **parts)


def test_a_value_chosen_without_a_class_is_remarked(saved: SavedLogits, create_saved: CreateSaved) -> None:
    val = create_saved(seed=5, noise_seed=6)
    both: dict[str, Any] = {"adjust": "la", "tune": True, "temperature": "val"}
    assert choose(saved, lambda _: val, **both).remarks == ()
    told = "chosen on validation images, of which none is of 1 class: class 3"
    assert choose(saved, lambda _: without(val, 3), **both).remarks == (f"tau and temperature {told}",)
    assert choose(saved, lambda _: without(val, 3), adjust="la", tune=True).remarks == (f"tau {told}",)
    assert choose(saved, lambda _: without(val, 3), adjust="la", tau=1.0, temperature="2").remarks == ()


@pytest.mark.parametrize(("factor", "bound"), [(1e4, "20"), (1e-4, "0.05")])
def test_a_temperature_at_its_bound_is_remarked(saved: SavedLogits, factor: float, bound: str) -> None:
    val = replace(saved, logits_NK=saved.logits_NK * np.float32(factor))
    (remark,) = choose(saved, lambda _: val, temperature="val").remarks
    assert remark == f"the fitted temperature {bound} is as far as the search goes, no best value"
    assert choose(saved, lambda _: val, temperature=bound).remarks == ()


def test_an_untested_class_is_remarked_wherever_figures_stand(
    create_run: Callable[..., Path], saved: SavedLogits
) -> None:
    result = Judge().evaluate(create_run("a", without(saved, 3)))
    remark = "balanced accuracy is the mean over 3 of 4 classes: no test image of class 3"
    assert result.remarks == (remark,)
    assert remark in compare_entries([result.entry()], result.groups).notes
    assert describe_run(result, result.assessment(), ("all",))["notes"] == [remark]
    printed = CliRunner().invoke(app, ["eval", str(result.run.path)], env={"COLUMNS": "200"}).stdout
    assert f"note: {remark}" in printed
    assert ("balanced (3 of 4 classes)") in dict(create_section(result, "a").headline)
    assert Judge().evaluate(create_run("b", saved)).remarks == ()
