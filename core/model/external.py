"""External data files of a model: found, kept inside the model's folder, and long enough."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath

import onnx
import onnx_ir as ir

from core.errors import ModelError


def resolve_external_data(proto: onnx.ModelProto, path: Path) -> tuple[tuple[str, Path], ...]:
    """Point every external tensor at its file by an absolute path; returns (location, file) for each distinct file.

    Tensors that already point into ``path`` itself are left alone. Raises ModelError for a file that is missing, too
    short, or outside the model's folder.
    """
    folder, own = path.resolve().parent, str(path.resolve())
    files: dict[str, Path] = {}
    sizes: dict[str, int] = {}
    for tensor in _tensors(proto.graph):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        fields = {entry.key: entry for entry in tensor.external_data}
        location = fields["location"].value if "location" in fields else ""
        if location == own:
            continue
        if location not in files:
            files[location] = _data_file(folder, location, tensor.name, path)
            sizes[location] = files[location].stat().st_size
        _check_length(tensor, fields, location, sizes[location])
        fields["location"].value = str(files[location])
    return tuple(files.items())


def _data_file(folder: Path, location: str, tensor: str, path: Path) -> Path:
    windows, posix = PureWindowsPath(location), PurePosixPath(location)
    outside = not location or windows.drive or windows.root or posix.is_absolute() or ".." in windows.parts
    file = (folder / location).resolve() if not outside else folder
    if outside or not file.is_relative_to(folder):
        raise ModelError(
            f"{path.name} keeps tensor '{tensor}' at '{location}', outside the model's folder; it is not read.",
            hint="Put the data file beside the model and export it with a relative path.",
        )
    if not file.is_file():
        raise ModelError(
            f"{path.name} needs its data file '{location}', which is not in {folder}.",
            hint="Copy that file beside the model.",
        )
    return file


def _check_length(
    tensor: onnx.TensorProto, fields: dict[str, onnx.StringStringEntryProto], location: str, size: int
) -> None:
    needed = tensor_bytes(tensor)
    try:
        offset = int(fields["offset"].value) if "offset" in fields else 0
        length = int(fields["length"].value) if "length" in fields else needed
    except ValueError:
        raise ModelError(f"Tensor '{tensor.name}' has a place in '{location}' that is not a number.") from None
    if offset < 0 or length < needed:
        raise ModelError(f"Tensor '{tensor.name}' needs {needed:,} bytes but '{location}' gives it {length:,}.")
    if offset + length > size:
        raise ModelError(
            f"The data file '{location}' is cut short: tensor '{tensor.name}' ends at byte {offset + length:,}, "
            f"the file has {size:,}.",
            hint="Copy or download the data file again.",
        )


def tensor_bytes(tensor: onnx.TensorProto) -> int:
    """Bytes of the tensor's data by its type and dims."""
    count = 1
    for dim in tensor.dims:
        count *= dim
    return (count * ir.DataType(tensor.data_type).bitwidth + 7) // 8


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                yield attribute.t
            elif attribute.type == onnx.AttributeProto.TENSORS:
                yield from attribute.tensors
            elif attribute.type == onnx.AttributeProto.GRAPH:
                yield from _tensors(attribute.g)
            elif attribute.type == onnx.AttributeProto.GRAPHS:
                for subgraph in attribute.graphs:
                    yield from _tensors(subgraph)
