"""Writing a deployed model as ONNX or PT2 (torch.export), and running the file against the original."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.export import Dim

from ltk.errors import EnvironmentFault, LtkError, unknown_name
from ltk.evaluation.deploy import Deployment
from ltk.files import disk_faults, write_atomically

FORMATS = ("onnx", "pt2")
OPSET = 18
TOLERANCE = 1e-4  # largest difference of a probability
FACTS_FILE = "ltk.json"  # inside a PT2 archive

Runner = Callable[[Tensor], NDArray[np.float32]]


def export_model(deployment: Deployment, path: Path) -> None:
    """Write a model file, in the format that its ending names.

    Args:
        deployment: model, class names and facts.
        path: file .onnx or .pt2 to write or replace.

    Raises:
        UsageError: another ending.
        EnvironmentFault: the packages that write ONNX are not installed, or the disk does not take the file.
    """
    style = _read_style(path)
    data = _to_onnx(deployment) if style == "onnx" else _to_pt2(deployment)
    with disk_faults(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, data)


def _read_style(path: Path) -> str:
    style = path.suffix.lower().removeprefix(".")
    if style not in FORMATS:
        raise unknown_name("export format", style, FORMATS)
    return style


def _to_onnx(deployment: Deployment) -> bytes:
    try:
        import onnx
        import onnxscript  # noqa: F401 - torch's exporter needs it
    except ImportError as error:
        raise EnvironmentFault("onnx and onnxscript are not installed", "pip install 'ltk[export]'") from error
    with _quiet_exporter():
        program = torch.onnx.export(
            deployment.model,
            (deployment.model.example(),),
            dynamo=True,
            opset_version=OPSET,
            input_names=["images"],
            output_names=["probabilities"],
            dynamic_shapes={"images_BCHW": {0: Dim("batch")}},
            verbose=False,
        )
    if program is None:
        raise LtkError("torch could not export this network to ONNX", "Try --format pt2.")
    model = program.model_proto
    for key, value in deployment.metadata.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    onnx.checker.check_model(model)
    return model.SerializeToString()


def _to_pt2(deployment: Deployment) -> bytes:
    buffer = io.BytesIO()
    with _quiet_exporter(), torch.no_grad():
        program = torch.export.export(
            deployment.model,
            (deployment.model.example(),),
            dynamic_shapes={"images_BCHW": {0: Dim("batch")}},
        )
        torch.export.save(program, buffer, extra_files={FACTS_FILE: json.dumps(deployment.metadata)})
    return buffer.getvalue()


@contextlib.contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Keep the exporter's progress and its deprecation warnings off the terminal."""
    levels = {name: logging.getLogger(name).level for name in ("torch.onnx", "onnxscript", "torch.export")}
    for name in levels:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def open_exported(path: Path) -> Runner:
    """Return a function from uint8 images_BCHW to probabilities_BK that runs the file.

    Raises:
        UsageError: neither .onnx nor .pt2.
        EnvironmentFault: onnxruntime is not installed.
    """
    if _read_style(path) == "pt2":
        module: Any = torch.export.load(path).module()
        return lambda images_BCHW: module(images_BCHW).detach().numpy()
    try:
        import onnxruntime
    except ImportError as error:
        raise EnvironmentFault("onnxruntime is not installed", "pip install 'ltk[export]', or --no-check") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])
    return lambda images_BCHW: session.run(["probabilities"], {"images": images_BCHW.numpy()})[0]


def check_export(deployment: Deployment, path: Path, images_BCHW: Tensor) -> float:
    """Run the file and the original on images and return the largest difference of a probability.

    Args:
        deployment: the original.
        path: the file.
        images_BCHW: uint8 images.

    Raises:
        LtkError: they differ by more than 1e-4.
    """
    with torch.inference_mode():
        expected_BK = deployment.model(images_BCHW).numpy()
    found_BK = open_exported(path)(images_BCHW)
    difference = float(np.abs(found_BK - expected_BK).max())
    if not difference <= TOLERANCE:
        raise LtkError(
            f"{path} answers differently from the original: a probability is off by {difference:.2g}",
            "Do not use the file; please report the backbone.",
        )
    return difference
