"""A real, short run: exported, run in onnxruntime, used on image files, shown in a report."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from scipy.special import softmax

from ltk.data.image import ImageSpec
from ltk.data.transforms import create_eval_view
from ltk.engine.fit import fit
from ltk.errors import DataError, LtkError, UsageError
from ltk.evaluation import export, predict
from ltk.evaluation.choose import create_request
from ltk.evaluation.deploy import Deployment, create_deployment, remove_training_only
from ltk.evaluation.outcomes import Outcome, assess
from ltk.evaluation.pictures import read_images
from ltk.evaluation.pipeline import EvaluatedRun, Judge
from ltk.evaluation.posthoc import with_costs
from ltk.evaluation.reject import confidence_limits
from ltk.evaluation.report import create_report, write_plots
from ltk.methods import create_method
from ltk.models.backbones import Backbone
from ltk.resolve import resolve_config

REQUEST = create_request(adjust="la", tau=0.7, temperature="1.3")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    options = {"optim.epochs": 3, "run.device": "cpu", "run.precision": "fp32", "run.threads": 1, "data.val": 1}
    config = resolve_config("ce", dataset="digits", options=options).config
    return fit(config, out=tmp_path_factory.mktemp("runs") / "digits" / "ce-001").folder


@pytest.fixture(scope="module")
def result(run: Path) -> EvaluatedRun:
    return Judge().evaluate(run, REQUEST)


@pytest.fixture(scope="module")
def deployment(result: EvaluatedRun) -> Deployment:
    return create_deployment(result)


def test_probabilities_are_those_of_the_saved_logits(run: Path, result: EvaluatedRun, deployment: Deployment) -> None:
    images_BCHW = read_images(run, "test", range(50), deployment.model.stored)
    with torch.no_grad():
        found_BK = deployment.model(images_BCHW).numpy()
    counts_K = np.array(result.saved.class_counts)
    expected_BK = softmax((result.saved.logits_NK[:50] - 0.7 * np.log(counts_K / counts_K.sum())) / 1.3, axis=1)
    np.testing.assert_allclose(found_BK, expected_BK, atol=1e-5)


def test_the_view_is_that_of_evaluation(deployment: Deployment, result: EvaluatedRun) -> None:
    class Probe(torch.nn.Module):
        def predict(self, x_BCHW: torch.Tensor) -> torch.Tensor:
            seen.append(x_BCHW)
            return torch.zeros(len(x_BCHW), 10)

    seen: list[torch.Tensor] = []
    image = deployment.facts["image"]
    model = type(deployment.model)(Probe(), _spec(image, size=5), result.adjustment)  # type: ignore[arg-type]
    images_BCHW = torch.randint(0, 256, (3, 1, image["stored"], image["stored"]), dtype=torch.uint8)
    model(images_BCHW)
    expected = create_eval_view(5, image["mean"], image["std"])(images_BCHW)
    torch.testing.assert_close(seen[0], expected, atol=1e-6, rtol=1e-6)


def _spec(image: dict[str, object], size: int) -> ImageSpec:
    return replace(ImageSpec.from_json(dict(image)), size=size)


def _stored(deployment: Deployment) -> ImageSpec:
    return ImageSpec.from_json(dict(deployment.facts["image"]))


@pytest.mark.parametrize("style", export.FORMATS)
def test_an_exported_file_answers_as_the_original(
    run: Path, deployment: Deployment, tmp_path: Path, style: str
) -> None:
    path = tmp_path / "deep" / f"model.{style}"
    export.export_model(deployment, path)
    images_BCHW = read_images(run, "test", range(33), deployment.model.stored)
    assert export.check_export(deployment, path, images_BCHW) < 1e-5
    run_file = export.open_exported(path)
    for batch in (1, 7):  # the batch dimension is free
        probability_BK = run_file(images_BCHW[:batch])
        assert probability_BK.shape == (batch, 10)
        np.testing.assert_allclose(probability_BK.sum(axis=1), 1, atol=1e-5)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_an_exported_file_says_what_it_is(deployment: Deployment, tmp_path: Path) -> None:
    export.export_model(deployment, tmp_path / "m.onnx")
    model = onnx.load(tmp_path / "m.onnx")
    facts = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(facts["class_names"]) == [str(k) for k in range(10)]
    assert json.loads(facts["card"])["method"] == "ce"
    assert facts["correction"] == "logit adjustment tau=0.7; temperature 1.3"
    assert model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    export.export_model(deployment, tmp_path / "m.pt2")
    extra = {export.FACTS_FILE: ""}
    torch.export.load(tmp_path / "m.pt2", extra_files=extra)
    assert json.loads(extra[export.FACTS_FILE])["correction"] == facts["correction"]


def test_a_file_that_answers_otherwise_is_found(run: Path, deployment: Deployment, tmp_path: Path) -> None:
    other = create_deployment(Judge().evaluate(run))
    export.export_model(other, tmp_path / "m.onnx")
    images_BCHW = read_images(run, "test", range(20), deployment.model.stored)
    with pytest.raises(LtkError, match="answers differently"):
        export.check_export(deployment, tmp_path / "m.onnx", images_BCHW)
    with pytest.raises(UsageError, match="unknown export format 'tflite'"):
        export.export_model(deployment, tmp_path / "m.tflite")


def test_what_needs_all_test_images_is_not_deployed(run: Path, result: EvaluatedRun) -> None:
    transductive = Judge().evaluate(run, create_request(adjust="pn"))
    with pytest.raises(UsageError, match="single images cannot carry it"):
        create_deployment(transductive)
    other = replace(result, saved=replace(result.saved, class_counts=tuple(range(1, 11))))
    with pytest.raises(DataError, match="class counts are not those"):
        create_deployment(other)


def test_what_only_training_needs_is_left_out(tiny_backbone: Callable[[], Backbone]) -> None:
    method = create_method("paco", tiny_backbone(), torch.tensor([9, 3, 1])).eval()
    x_BCHW = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    kept, before = set(method.inference_state()), method.predict(x_BCHW)
    assert len(method.state_dict()) > len(kept)
    remove_training_only(method)
    assert set(method.state_dict()) == kept
    assert torch.equal(method.predict(x_BCHW), before)
    assert repr(method)  # exporters print it: no module may be left that lacks its parameters


def test_predictions_of_files(run: Path, result: EvaluatedRun, deployment: Deployment, tmp_path: Path) -> None:
    pixels = read_images(run, "test", range(6), deployment.model.stored).numpy()
    for i, image in enumerate(pixels):
        (tmp_path / f"sub{i % 2}").mkdir(exist_ok=True)
        Image.fromarray(image[0]).save(tmp_path / f"sub{i % 2}" / f"{i}.png")
    (tmp_path / "broken.png").write_text("<html>")
    (tmp_path / "notes.txt").write_text("no image")
    paths = predict.find_images([tmp_path])
    assert len(paths) == 7
    limit_K = np.full(10, 0.3)
    rows = {Path(row.image).name: row for row in predict.predict_images(deployment, result.adjustment, paths, limit_K)}
    for i in range(6):
        assert rows[f"{i}.png"].answer == str(result.outcome.predicted_N[i])
        assert rows[f"{i}.png"].probability == pytest.approx(result.outcome.confidence_N[i], abs=1e-4)
        assert rows[f"{i}.png"].abstain == (result.outcome.confidence_N[i] < 0.3)
    assert rows["broken.png"].abstain
    assert rows["broken.png"].fault
    lines = predict.write_predictions(list(rows.values())).splitlines()
    assert lines[0] == "image,class,probability,abstain,fault"
    assert any(line.endswith(f"broken.png,,,yes,{rows['broken.png'].fault}") for line in lines)


def test_images_are_turned_as_in_training(
    run: Path, result: EvaluatedRun, deployment: Deployment, tmp_path: Path
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned a quarter
    image = read_images(run, "test", [0], deployment.model.stored)[0, 0].numpy()
    Image.fromarray(image).save(tmp_path / "turned.png", exif=exif)
    Image.fromarray(np.rot90(image, 3)).save(tmp_path / "upright.png")
    paths = [tmp_path / "turned.png", tmp_path / "upright.png"]

    def probabilities(upright: bool) -> list[float]:
        turning = replace(deployment, upright=upright)
        return [row.probability for row in predict.predict_images(turning, result.adjustment, paths, np.zeros(10))]

    turned, expected = probabilities(True)
    assert turned == expected
    assert probabilities(False)[0] != expected
    assert deployment.facts["upright"] is False


def test_costs_decide_predictions(run: Path, result: EvaluatedRun, deployment: Deployment, tmp_path: Path) -> None:
    image = read_images(run, "test", [0], deployment.model.stored)[0, 0].numpy()
    Image.fromarray(image).save(tmp_path / "a.png")
    cost_KK = np.ones((10, 10))
    cost_KK[:, 7] = 0  # answering 7 is always free
    costly = with_costs(result.adjustment, cost_KK, "test")
    (row,) = predict.predict_images(deployment, costly, [tmp_path / "a.png"], np.zeros(10))
    assert row.answer == "7"


def test_sure_answers_are_as_sure_as_on_validation_images(
    run: Path, result: EvaluatedRun, deployment: Deployment, tmp_path: Path
) -> None:
    """Logits so far apart that in float32 most probabilities are 1: a limit between them would let all pass."""
    before = result.adjustment
    sharp = replace(before, scale_K=20 * before.scale_K, offset_K=20 * before.offset_K)
    model = type(deployment.model)(deployment.model.method, _stored(deployment), sharp)
    pixels = read_images(run, "test", range(40), model.stored).numpy()
    paths = [tmp_path / f"{i:02}.png" for i in range(40)]
    for path, image in zip(paths, pixels, strict=True):
        Image.fromarray(image[0]).save(path)
    rows = list(predict.predict_images(replace(deployment, model=model), sharp, paths, np.ones(10)))
    doubt_N = np.array([1 - row.probability for row in rows])
    assert np.count_nonzero((doubt_N > 1e-14) & (doubt_N < 1e-8)) > 5
    np.testing.assert_allclose(doubt_N, 1 - assess(result.saved, sharp).confidence_N[:40], rtol=0.01, atol=1e-13)


def test_a_model_without_finite_logits_abstains(
    run: Path, result: EvaluatedRun, deployment: Deployment, tmp_path: Path
) -> None:
    image = read_images(run, "test", [0], deployment.model.stored)[0, 0].numpy()
    Image.fromarray(image).save(tmp_path / "a.png")
    for value in (float("nan"), float("inf")):
        broken = replace(result.adjustment, offset_K=np.full(10, value))
        model = type(deployment.model)(deployment.model.method, _stored(deployment), broken)
        (row,) = predict.predict_images(replace(deployment, model=model), broken, [tmp_path / "a.png"], np.zeros(10))
        assert (row.answer, row.abstain, row.fault) == ("", True, "the logits of the model are not finite")


def test_no_images(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no images in"):
        predict.find_images([tmp_path])
    with pytest.raises(DataError, match="does not exist"):
        predict.find_images([tmp_path / "none"])


def test_limits_reach_the_precision_they_promise() -> None:
    rng = np.random.default_rng(0)
    confidence_N = rng.random(4000)
    predicted_N = rng.integers(0, 3, 4000)
    correct_N = rng.random(4000) < confidence_N  # calibrated
    outcome = Outcome(predicted_N, np.where(correct_N, 0, 1), confidence_N, np.zeros(4000))
    limit_K = confidence_limits(outcome, 4, 0.8)
    for k in range(3):
        accepted = (predicted_N == k) & (confidence_N >= limit_K[k])
        assert correct_N[accepted].mean() >= 0.8
        assert limit_K[k] == pytest.approx(0.6, abs=0.1)  # the mean of U(0.6, 1) is 0.8
    everything = confidence_N >= limit_K[3]  # class 3 was never answered: the limit of all together
    assert correct_N[everything].mean() >= 0.8
    never = Outcome(predicted_N, np.ones(4000, np.int64), confidence_N, np.zeros(4000))
    assert np.isinf(confidence_limits(never, 3, 0.8)).all()


def test_report_of_a_real_run(run: Path, result: EvaluatedRun, tmp_path: Path) -> None:
    tuned = Judge().evaluate(run, create_request(adjust="la", tune=True))
    report = create_report([tuned])
    page = report.html()
    names = [plot.name for plot in report.sections[0].plots]
    assert names == ["classes", "groups", "confusion", "reliability", "tuning", "training"]
    assert page.count("<svg") == 6
    assert page.count("data:image/png") >= 5  # misclassified pictures
    namespaces = {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink", "http://www.w3.org/1999/xhtml"}
    assert set(re.findall(r"https?://[^\s\"'<>]+", page)) <= namespaces  # nothing is fetched
    assert "<script" not in page
    assert "@import" not in page
    assert "best epoch on test (oracle)" not in page  # this run selects on validation images
    written = write_plots(report, tmp_path / "plots", "png")
    assert len(written) == 6
    for path in written:
        with Image.open(path) as image:
            assert image.size[0] > 900
    (svg, *_) = write_plots(report, tmp_path / "plots", "svg")
    assert svg.read_text().startswith("<svg")
