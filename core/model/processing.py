"""What happens to a model's inputs before it and to its outputs behind it, as ONNX nodes that run on the machines.

The client sends what is small (pixels as uint8) and receives what is small (the best few classes); the arithmetic in
between is part of the graph, so the compilers, the cost model and the agents know nothing of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np
import onnx_ir as ir
from msgspec import Struct

from core.errors import ModelError
from core.model.graph import Model
from core.model.pictures import PictureInput, picture_input
from core.model.processing_nodes import OLDEST_OPSET, NodeWriter
from core.model.processing_store import default_processing, load_processing, save_processing
from core.model.processing_types import AxisSlice, InputProcessing, OutputProcessing, Processing, top_names
from core.model.types import TensorInfo
from core.plan.form import Sha256

__all__ = [
    "AxisSlice",
    "InputProcessing",
    "OutputProcessing",
    "Processing",
    "apply_processing",
    "default_processing",
    "load_processing",
    "save_processing",
    "top_names",
]

_FLOAT: Final = ir.DataType.FLOAT
_TO_NCHW: Final = (0, 3, 1, 2)
_TO_NHWC: Final = (0, 2, 3, 1)


def apply_processing(model: Model, processing: Processing) -> Model:
    """A new model with ``processing`` as nodes at its front and back; ``model`` itself where there is nothing to do.

    The new model's inputs keep their names. Its hash tells it from the model without, or with another, processing.
    Raises ModelError naming the input or output and what does not fit.
    """
    if processing == Processing():
        return model
    if model.opset < OLDEST_OPSET:
        raise ModelError(
            f"{model.name} is of opset {model.opset}; pre- and postprocessing need {OLDEST_OPSET} or newer.",
            hint="Export the model again, or convert it with onnx.version_converter.",
        )
    changed = model.ir.clone()
    writer = NodeWriter(changed.graph, model.opset)
    for step in processing.inputs:
        info = _named(model.inputs, step.input, "input", model)
        _process_input(changed.graph, writer, info, step)
    front, writer.nodes = writer.nodes, []
    for after in processing.outputs:
        info = _named(model.outputs, after.output, "output", model)
        _process_output(changed.graph, writer, info, after)
    _place(changed.graph, front, writer.nodes)
    sha256 = _hash(model.sha256, processing)
    return Model(changed, name=model.name, sha256=sha256, path=model.path, base_sha256=model.base_sha256)


def _named(infos: Sequence[TensorInfo], name: str, kind: str, model: Model) -> TensorInfo:
    for info in infos:
        if info.name == name:
            return info
    known = ", ".join(f"'{info.name}'" for info in infos)
    raise ModelError(f"{model.name} has no {kind} '{name}'.", hint=f"Its {kind}s are {known}.")


def _place(graph: ir.Graph, front: Sequence[ir.Node], back: Sequence[ir.Node]) -> None:
    first = next(iter(graph), None)
    if first is None:
        graph.extend(front)
    else:
        graph.insert_before(first, front)
    graph.extend(back)


def _hash(sha256: Sha256, processing: Processing) -> Sha256:
    # labels change nothing in the graph
    outputs = tuple(msgspec.structs.replace(output, labels=()) for output in processing.outputs)
    text = msgspec.json.encode(msgspec.structs.replace(processing, outputs=outputs))
    return Sha256(hashlib.sha256(sha256.encode() + text).hexdigest())


def _process_input(graph: ir.Graph, writer: NodeWriter, info: TensorInfo, step: InputProcessing) -> None:
    index = next(i for i, value in enumerate(graph.inputs) if value.name == info.name)
    wanted = graph.inputs[index]
    assert wanted.dtype is not None
    picture = picture_input(info)
    geometry = _geometry(info, picture, step)
    sent_dtype = ir.DataType.UINT8 if step.dtype == "uint8" else wanted.dtype
    sent = ir.Value(name=info.name, shape=ir.Shape(_sent_dims(wanted, picture, step, geometry)))
    sent.type = ir.TensorType(sent_dtype)
    value = _take_slices(writer, sent, step)
    if picture is not None:
        value = _process_picture(writer, value, wanted.dtype, picture, step, geometry)
    else:
        value = _normalise(writer, value, wanted.dtype, step, info.name, channels=1, shape=())
    value = writer.cast(value, wanted.dtype, f"{info.name}/cast")
    if value is sent and sent.shape == wanted.shape:
        return
    wanted.name = writer.unique(f"{info.name}/model")  # frees the name; nothing uses it from here on
    wanted.replace_all_uses_with(value, replace_graph_outputs=True)
    graph.inputs[index] = sent


class _Geometry(Struct, frozen=True):
    """Sizes of a picture on its way; None where nothing fixes them."""

    sent: tuple[int, int] | None
    resized: tuple[int, int] | None


def _geometry(info: TensorInfo, picture: PictureInput | None, step: InputProcessing) -> _Geometry:
    if picture is None:
        if step.layout or step.sent or step.size or step.crop:
            raise ModelError(
                f"Input '{info.name}' takes no pictures; its dims are {list(info.dims)}.",
                hint="Layout, size and crop work on four axes of which one holds 1, 3 or 4 channels.",
            )
        return _Geometry(None, None)
    own = None if picture.height is None or picture.width is None else (picture.height, picture.width)
    resized = step.size or (step.sent if step.crop else own or step.sent) or step.crop
    sent = step.sent or resized
    if any(size is not None and min(size) < 1 for size in (sent, resized, step.crop)):
        raise ModelError(f"Input '{info.name}' cannot have pictures of no height or width.")
    if step.crop and resized and (step.crop[0] > resized[0] or step.crop[1] > resized[1]):
        raise ModelError(
            f"A crop of {_by(step.crop)} does not fit into pictures of {_by(resized)} for input '{info.name}'.",
            hint="Choose a smaller crop or a larger size.",
        )
    final = step.crop or resized
    if own and final != own:
        raise ModelError(
            f"Input '{info.name}' takes pictures of {_by(own)} (height x width); the processing would make "
            f"{_by(final) if final else 'any size'}.",
            hint=f"Resize or crop to {_by(own)}.",
        )
    return _Geometry(sent, resized)


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"


def _sent_dims(
    wanted: ir.Value, picture: PictureInput | None, step: InputProcessing, geometry: _Geometry
) -> list[int | ir.SymbolicDim]:
    """Dims of what the client sends: of pictures in its layout, then widened by what will be sliced away."""
    assert wanted.shape is not None
    dims = list(wanted.shape)
    if picture is not None:
        batch, channels, *size = (dims[axis] for axis in ((0, 1, 2, 3) if picture.layout == "NCHW" else (0, 3, 1, 2)))
        height, width = geometry.sent or size
        if (step.layout or picture.layout) == "NCHW":
            dims = [batch, channels, height, width]
        else:
            dims = [batch, height, width, channels]
    for part in step.slices:
        if not 1 <= part.axis < len(dims):
            raise ModelError(
                f"Input '{step.input}' cannot be sliced along axis {part.axis}; it has axes 1 to {len(dims) - 1}."
            )
        left = dims[part.axis]
        if not 0 <= part.start < part.stop <= part.length or (isinstance(left, int) and part.stop - part.start != left):
            raise ModelError(
                f"Input '{step.input}' needs {left} elements along axis {part.axis}; "
                f"{part.start} to {part.stop} of {part.length} does not give them."
            )
        dims[part.axis] = part.length
    return dims


def _take_slices(writer: NodeWriter, value: ir.Value, step: InputProcessing) -> ir.Value:
    if not step.slices:
        return value
    axes = [part.axis for part in step.slices]
    starts, stops = [part.start for part in step.slices], [part.stop for part in step.slices]
    return writer.slice(value, axes, starts, stops, f"{step.input}/slice")


def _process_picture(
    writer: NodeWriter,
    value: ir.Value,
    dtype: ir.DataType,
    picture: PictureInput,
    step: InputProcessing,
    geometry: _Geometry,
) -> ir.Value:
    name, layout = picture.name, step.layout or picture.layout
    resizes = geometry.sent != geometry.resized
    # the nodes below want channels first; transposing bytes is cheaper than transposing floats
    if layout == "NHWC" and (resizes or picture.layout == "NCHW"):
        value, layout = writer.transpose(value, _TO_NCHW, f"{name}/layout"), "NCHW"
    elif layout == "NCHW" and picture.layout == "NHWC" and not resizes:
        value, layout = writer.transpose(value, _TO_NHWC, f"{name}/layout"), "NHWC"
    if resizes:
        assert geometry.sent is not None
        assert geometry.resized is not None
        value = writer.cast(value, _FLOAT, f"{name}/float")
        value = writer.resize(value, geometry.sent, geometry.resized, f"{name}/resize")
    if step.crop is not None and step.crop != geometry.resized:
        assert geometry.resized is not None
        axes = (2, 3) if layout == "NCHW" else (1, 2)
        starts = [(had - kept) // 2 for had, kept in zip(geometry.resized, step.crop, strict=True)]
        stops = [start + kept for start, kept in zip(starts, step.crop, strict=True)]
        value = writer.slice(value, axes, starts, stops, f"{name}/crop")
    shape = (picture.channels, 1, 1) if layout == "NCHW" else (picture.channels,)
    value = _normalise(writer, value, dtype, step, name, channels=picture.channels, shape=shape)
    if layout == "NCHW" and picture.layout == "NHWC":
        value = writer.transpose(value, _TO_NHWC, f"{name}/model_layout")
    return value


def _normalise(
    writer: NodeWriter,
    value: ir.Value,
    dtype: ir.DataType,
    step: InputProcessing,
    name: str,
    *,
    channels: int,
    shape: tuple[int, ...],
) -> ir.Value:
    """(value · scale - mean) / std as one product and one sum, in float32."""
    if step.scale is None and step.mean is None and step.std is None:
        return value
    if not dtype.is_floating_point():
        raise ModelError(f"Input '{name}' takes whole numbers ({dtype.name.lower()}); they cannot be normalised.")
    mean, std = (
        _per_channel(numbers, default, channels, shape, name)
        for numbers, default in ((step.mean, 0.0), (step.std, 1.0))
    )
    if np.any(std == 0):
        raise ModelError(f"The standard deviation for input '{name}' must not be 0.")
    scale = 1.0 if step.scale is None else step.scale
    value = writer.cast(value, _FLOAT, f"{name}/float")
    return writer.affine(value, scale / std, -mean / std, f"{name}/normalise")


def _per_channel(
    numbers: tuple[float, ...] | None, default: float, channels: int, shape: tuple[int, ...], name: str
) -> np.ndarray:
    given = np.array((default,) if numbers is None else numbers, np.float64)
    if given.size == 1:
        return given.reshape(())
    if given.size != channels:
        raise ModelError(f"Input '{name}' has {channels} channels; {given.size} numbers were given for them.")
    return given.reshape(shape)


def _process_output(graph: ir.Graph, writer: NodeWriter, info: TensorInfo, step: OutputProcessing) -> None:
    if not (step.softmax or step.argmax or step.top_k):
        return
    rank = len(info.dims)
    if rank < 2:
        raise ModelError(f"Output '{info.name}' has no axis of classes; its dims are {list(info.dims)}.")
    classes = info.dims[-1]
    if step.top_k < 0 or (isinstance(classes, int) and step.top_k > classes):
        raise ModelError(
            f"The best {step.top_k} of output '{info.name}' cannot be given: it has {classes} classes.",
            hint=f"Choose 1 to {classes}.",
        )
    index = next(i for i, value in enumerate(graph.outputs) if value.name == info.name)
    source = graph.outputs[index]
    value = writer.cast(source, _FLOAT, f"{info.name}/float") if step.softmax or step.top_k else source
    if step.softmax:
        value = writer.softmax(value, rank, f"{info.name}/softmax")
    made: list[tuple[ir.Value, tuple[int | str | None, ...]]] = []
    if step.top_k:
        best = writer.top_k(value, rank, step.top_k, f"{info.name}/top")
        made.extend((part, (*info.dims[:-1], step.top_k)) for part in best)
    if step.argmax:
        made.append((writer.argmax(value, rank, f"{info.name}/argmax"), info.dims[:-1]))
    if not made:
        made.append((value, info.dims))
    for result, dims in made:
        result.shape = ir.Shape(dims)
    graph.outputs[index : index + 1] = [result for result, _ in made]
