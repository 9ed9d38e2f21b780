"""Tells a serialized ONNX graph where on this node its weights lie, without the ``onnx`` package.

onnxruntime maps external data from files and, where its kernels can use the file's own layout, computes straight from
the mapped pages. That is the only way to weights without a second copy in memory: ``add_external_initializers`` copies
each tensor, and ``add_initializer`` goes wrong where an optimizer transposes one. So the external initializers of a
shard's graph get their locations here, from the blobs that the shard names; what the sender wrote there is dropped.

Only three messages of the protobuf format are looked into (field numbers of onnx.proto, which never change):

    ModelProto   7 graph          GraphProto   5 initializer
    TensorProto  1 dims  2 data_type  8 name  13 external_data {1 key  2 value}  14 data_location
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final, NamedTuple

from agent.failures import AgentFailureError
from core.plan.form import Weight

DTYPES: Final[Mapping[int, str]] = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 9: "bool", 10: "float16",
    11: "float64", 12: "uint32", 13: "uint64",
}  # fmt: skip
"""TensorProto.DataType to numpy's names, of the types that travel."""

_GRAPH, _INITIALIZER = 7, 5
_DIMS, _DATA_TYPE, _NAME, _EXTERNAL_DATA, _DATA_LOCATION = 1, 2, 8, 13, 14
_EXTERNAL: Final = 1


class _Field(NamedTuple):
    number: int
    value: int
    """Of a varint."""
    body: memoryview
    """Of a length-delimited field."""
    whole: memoryview
    """Key, length and body: what is copied when the field stays as it is."""


class _Malformed(Exception):
    pass


def place_weights(model: bytes, weights: Mapping[str, Weight], place: Callable[[Weight], str]) -> bytes:
    """``model`` with ``place(weight)`` as the location of each external initializer, a path with "/".

    Raises AgentFailureError: "model" when the bytes are no ONNX model, "field" when its external initializers are not
    just those of ``weights``, by name, type and shape.
    """
    placed: set[str] = set()
    try:
        rewritten = b"".join(
            _message(field.number, _graph(field.body, weights, place, placed))
            if field.number == _GRAPH
            else field.whole
            for field in _fields(memoryview(model))
        )
    except (_Malformed, UnicodeDecodeError):
        raise AgentFailureError("model", "The graph is not an ONNX model: its bytes are damaged.") from None
    if unknown := sorted(set(weights) - placed):
        raise AgentFailureError("field", f"The shard has weights that its graph does not want: {_listed(unknown)}.")
    return rewritten


def _graph(graph: memoryview, weights: Mapping[str, Weight], place: Callable[[Weight], str], placed: set[str]) -> bytes:
    parts: list[bytes | memoryview] = []
    for field in _fields(graph):
        if field.number == _INITIALIZER and (declared := _declared(field.body)) is not None:
            weight = _checked(declared, weights)
            placed.add(weight.name)
            parts.append(_message(_INITIALIZER, _tensor(field.body, weight, place)))
        else:
            parts.append(field.whole)
    return b"".join(parts)


class _Declared(NamedTuple):
    name: str
    dtype: str
    shape: tuple[int, ...]


def _declared(tensor: memoryview) -> _Declared | None:
    """What an initializer says of itself; None when its data is inside."""
    name, data_type, location = "", 0, 0
    shape: list[int] = []
    for field in _fields(tensor):
        if field.number == _NAME:
            name = str(field.body, "utf-8")
        elif field.number == _DATA_TYPE:
            data_type = field.value
        elif field.number == _DATA_LOCATION:
            location = field.value
        elif field.number == _DIMS:
            shape += _packed(field.body) if field.body else [field.value]
    return _Declared(name, DTYPES.get(data_type, f"type {data_type}"), tuple(shape)) if location == _EXTERNAL else None


def _checked(declared: _Declared, weights: Mapping[str, Weight]) -> Weight:
    weight = weights.get(declared.name)
    if weight is None:
        raise AgentFailureError(
            "field", f'The graph wants the weight "{declared.name}", which the shard does not have.'
        )
    if (weight.dtype, weight.shape) != (declared.dtype, declared.shape):
        raise AgentFailureError(
            "field",
            f'The weight "{weight.name}" is declared {weight.dtype} {list(weight.shape)}, '
            f"but its graph has {declared.dtype} {list(declared.shape)}.",
        )
    return weight


def _tensor(tensor: memoryview, weight: Weight, place: Callable[[Weight], str]) -> bytes:
    kept = b"".join(field.whole for field in _fields(tensor) if field.number not in {_EXTERNAL_DATA, _DATA_LOCATION})
    if 0 in weight.shape:
        # A file without bytes cannot be mapped, and a tensor without elements needs none.
        return kept
    entry = _message(1, b"location") + _message(2, place(weight).encode())
    return kept + _message(_EXTERNAL_DATA, entry) + _varint(_DATA_LOCATION << 3) + _varint(_EXTERNAL)


def _listed(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


# ---------------------------------------------------------------- the wire format of protobuf


def _fields(message: memoryview) -> Iterator[_Field]:
    """The fields of a message in order. Raises _Malformed."""
    at = 0
    while at < len(message):
        start = at
        key, at = _read_varint(message, at)
        value, body = 0, message[:0]
        match key & 7:
            case 0:
                value, at = _read_varint(message, at)
            case 1:
                at += 8
            case 2:
                length, at = _read_varint(message, at)
                body = message[at : at + length]
                at += length
            case 5:
                at += 4
            case _:
                raise _Malformed
        if at > len(message) or key >> 3 == 0:
            raise _Malformed
        yield _Field(key >> 3, value, body, message[start:at])


def _read_varint(message: memoryview, at: int) -> tuple[int, int]:
    """(value, where it ends); a value is at most 10 bytes of 7 bits."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            raise _Malformed
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise _Malformed


def _packed(body: memoryview) -> list[int]:
    values, at = [], 0
    while at < len(body):
        value, at = _read_varint(body, at)
        values.append(value)
    return values


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _message(number: int, body: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(body)) + body
