"""Open a model file, with words for everything that may be wrong with it."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnx_ir as ir

from core.errors import ModelError
from core.model.checks import check_proto, check_runnable, first_line
from core.model.external import resolve_external_data
from core.model.fold import clean
from core.model.graph import Model
from core.model.hashing import model_sha256
from core.model.protofile import read_proto
from core.plan.form import Sha256


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
    graph = _clean(_to_ir(proto, path.name), path.name)
    check_runnable(graph, path.name)
    return Model(graph, name=path.stem, sha256=sha256, path=path, original=path)


def model_from_ir(graph: ir.Model, *, name: str, sha256: Sha256, path: Path | None = None) -> Model:
    """Clean and check a graph made in memory; it belongs to the new Model from now on.

    ``path`` is for people: the file the graph was once read from. Raises ModelError where onnxruntime could not run it.
    """
    check_runnable(_clean(graph, name), name)
    return Model(graph, name=name, sha256=sha256, path=path)


def _check_path(path: Path) -> None:
    if path.is_dir():
        raise ModelError(f"{path} is a folder.", hint="Choose the .onnx file in it.")
    if not path.exists():
        raise ModelError(f"There is no file {path}.", hint="Check the path.")
    if not path.is_file():
        raise ModelError(f"{path} is not a regular file.")


def _clean(graph: ir.Model, name: str) -> ir.Model:
    try:
        return clean(graph)
    except (ValueError, KeyError, TypeError, RuntimeError) as error:
        raise ModelError(f"{name} is damaged: {first_line(str(error))}", hint="Export the model again.") from error


def _to_ir(proto: onnx.ModelProto, name: str) -> ir.Model:
    try:
        return ir.serde.deserialize_model(proto)
    except (ir.serde.SerdeError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ModelError(f"{name} is damaged: {first_line(str(error))}", hint="Export the model again.") from error
