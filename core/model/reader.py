"""Open a model file, with words for everything that may be wrong with it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import onnx
import onnx_ir as ir
import onnxruntime as ort

from core.errors import ModelError
from core.model.external import resolve_external_data
from core.model.fold import clean
from core.model.graph import Model
from core.model.hashing import model_sha256
from core.model.protofile import read_proto
from core.model.session import RUNTIME_ERRORS, graph_proto, session_options, start_session
from core.plan.form import Sha256

_MIN_OPSET: Final = 7


def open_model(path: str | Path) -> Model:
    """Read, check and clean a model; its weights stay in their files until they are used.

    Raises ModelError that says what is wrong and what to do.
    """
    path = Path(path).expanduser()
    _check_path(path)
    try:
        proto = read_proto(path)
        data_files = resolve_external_data(proto, path)
        check_proto(proto, path.name)
        sha256 = model_sha256(path, data_files)
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror or error}.") from error
    return model_from_ir(_to_ir(proto, path.name), name=path.stem, sha256=sha256, path=path)


def model_from_ir(graph: ir.Model, *, name: str, sha256: Sha256, path: Path | None = None) -> Model:
    """Clean and check a graph made in memory; it belongs to the new Model from now on.

    Raises ModelError where onnxruntime could not run it.
    """
    clean(graph)
    check_runnable(graph, name)
    return Model(graph, name=name, sha256=sha256, path=path)


def _check_path(path: Path) -> None:
    if path.is_dir():
        raise ModelError(f"{path} is a folder.", hint="Choose the .onnx file in it.")
    if not path.exists():
        raise ModelError(f"There is no file {path}.", hint="Check the path.")
    if not path.is_file():
        raise ModelError(f"{path} is not a regular file.")


def _to_ir(proto: onnx.ModelProto, name: str) -> ir.Model:
    try:
        return ir.serde.deserialize_model(proto)
    except (ir.serde.SerdeError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ModelError(f"{name} is damaged: {_first_line(error)}", hint="Export the model again.") from error


def check_proto(proto: onnx.ModelProto, name: str) -> None:
    """What can be told from the graph alone: operator sets, operators, element types."""
    return


def check_runnable(model: ir.Model, name: str) -> None:
    """Let onnxruntime look at the graph, without its weights; where that is refused, the whole model decides."""
    proto = graph_proto(model, large="input")
    options = session_options(1)
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except RUNTIME_ERRORS:
        try:
            start_session(model, threads=1)
        except RUNTIME_ERRORS as error:
            raise ModelError(f"onnxruntime cannot run {name}: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", text[0]) if text else type(error).__name__
