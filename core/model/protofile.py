"""Read a .onnx file without reading its weights: large ``raw_data`` fields become references into the file itself.

A file is scanned field by field on protobuf's wire format, which touches a few bytes per tensor; what remains (nodes,
names, small tensors) is parsed by the onnx package. So a file of gigabytes opens as fast as its graph, and tensors are
memory-mapped on use.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from core.errors import ModelError

LAZY_BYTES: Final = 4096
"""Tensors whose message is longer than this are left in the file."""

_MODEL_FIELDS: Final = {1: 0, 2: 2, 3: 2, 4: 2, 5: 0, 6: 2, 7: 2, 8: 2, 14: 2, 20: 2, 25: 2, 26: 2}
_GRAPH: Final = 7
_INITIALIZER: Final = 5
_RAW_DATA: Final = 9
_DATA_LOCATION: Final = 14


class _Field(NamedTuple):
    number: int
    wire: int
    start: int
    """Where the field's key begins."""
    payload: int
    """Where its content begins."""
    end: int


class _Truncated(ValueError):
    """A field reaches past the end of what is there."""


class _Malformed(ValueError):
    """The bytes are no protobuf message."""


def read_proto(path: Path) -> onnx.ModelProto:
    """The model in the file; its large tensors are external ones that point into ``path``.

    Raises ModelError for an empty file, one that is not ONNX, and one that is cut short.
    """
    with path.open("rb") as file:
        if path.stat().st_size == 0:
            raise ModelError(f"{path.name} is empty.", hint="Copy or export the model again.")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _parse(data, path)


def _parse(data: mmap.mmap, path: Path) -> onnx.ModelProto:
    slim = bytearray()
    seen: list[int] = []
    try:
        for field in _fields(data, 0, len(data), _MODEL_FIELDS):
            seen.append(field.number)
            if field.number == _GRAPH:
                graph = _slim_graph(data, field, str(path.resolve()))
                slim += _key(_GRAPH, 2) + _varint(len(graph)) + graph
            else:
                slim += data[field.start : field.end]
        proto = onnx.ModelProto.FromString(bytes(slim))
    except _Truncated:
        if seen[:1] == [1] or data[0:1] == b"\x08":
            raise ModelError(
                f"{path.name} is cut short: it ends after {len(data):,} bytes, in the middle of the model.",
                hint="Copy or download it again.",
            ) from None
        raise _not_onnx(path) from None
    except (_Malformed, DecodeError):
        raise _not_onnx(path) from None
    if not proto.HasField("graph"):
        if seen[:1] == [1]:
            raise ModelError(f"{path.name} is cut short: it holds no graph.", hint="Copy or download it again.")
        raise _not_onnx(path)
    if not proto.graph.node and not proto.graph.output:
        raise _not_onnx(path)
    return proto


def _not_onnx(path: Path) -> ModelError:
    return ModelError(f"{path.name} is not an ONNX model.", hint="Choose a file exported as ONNX (usually *.onnx).")


def _slim_graph(data: mmap.mmap, graph: _Field, location: str) -> bytearray:
    slim = bytearray()
    for field in _fields(data, graph.payload, graph.end):
        if field.number == _INITIALIZER and field.wire == 2 and field.end - field.payload > LAZY_BYTES:
            tensor = _slim_tensor(data, field, location)
            slim += _key(_INITIALIZER, 2) + _varint(len(tensor)) + tensor
        else:
            slim += data[field.start : field.end]
    return slim


def _slim_tensor(data: mmap.mmap, tensor: _Field, location: str) -> bytes:
    slim = bytearray()
    raw: _Field | None = None
    for field in _fields(data, tensor.payload, tensor.end):
        if field.number == _RAW_DATA and field.wire == 2:
            raw = field
        elif field.number != _DATA_LOCATION:
            slim += data[field.start : field.end]
    if raw is None:
        return data[tensor.payload : tensor.end]
    proto = onnx.TensorProto.FromString(bytes(slim))
    proto.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", raw.payload), ("length", raw.end - raw.payload)):
        proto.external_data.add(key=key, value=str(value))
    return bytes(proto.SerializeToString())


def _fields(data: mmap.mmap, start: int, end: int, known: dict[int, int] | None = None) -> Iterator[_Field]:
    position = start
    while position < end:
        begin = position
        key, position = _read_varint(data, position, end)
        number, wire = key >> 3, key & 7
        if number == 0 or (known is not None and known.get(number) != wire):
            raise _Malformed
        payload = position
        if wire == 0:
            _, position = _read_varint(data, position, end)
        elif wire == 1:
            position += 8
        elif wire == 2:
            length, payload = _read_varint(data, position, end)
            position = payload + length
        elif wire == 5:
            position += 4
        else:
            raise _Malformed
        if position > end:
            raise _Truncated
        yield _Field(number, wire, begin, payload, position)


def _read_varint(data: mmap.mmap, position: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while position < end:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > 63:
            raise _Malformed
    raise _Truncated


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _key(number: int, wire: int) -> bytes:
    return _varint(number << 3 | wire)
