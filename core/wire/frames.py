"""Bytes on the wire: messages as msgpack, tensors as raw frames behind a header.

Whatever the bytes are, decoding either gives a message of core.wire.messages or raises ProtocolError naming the field.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final, TypeVar

import msgspec
import numpy as np

from core.errors import ProtocolError
from core.plan.form import ShardId
from core.wire.messages import (
    Attach,
    Attached,
    Chunk,
    ChunkAck,
    DataHeader,
    Failure,
    PairReply,
    PairRequest,
    Probe,
    ProbeAck,
    ReplyEnvelope,
    RequestEnvelope,
    ShardFailed,
    TensorMeta,
    Tensors,
)

RAW: Final = "raw"
MAX_RANK: Final = 16
DTYPES: Final = {
    name: np.dtype(name)
    for name in (
        *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
        *("float16", "float32", "float64"),
    )
}
"""What may travel, by name. Strings and objects may not."""

_NAMES: Final = {dtype: name for name, dtype in DTYPES.items()}
_LARGEST = (1 << 63) - 1
_HEADER_FIELDS: Final = {
    kind.__struct_config__.tag: kind.__struct_fields__
    for kind in (Attach, Attached, Tensors, ShardFailed, Chunk, ChunkAck, Probe, ProbeAck)
}

_encoder = msgspec.msgpack.Encoder()
_header_decoder: msgspec.msgpack.Decoder[DataHeader] = msgspec.msgpack.Decoder(DataHeader)
_request_decoder: msgspec.msgpack.Decoder[RequestEnvelope] = msgspec.msgpack.Decoder(RequestEnvelope)
_reply_decoder: msgspec.msgpack.Decoder[ReplyEnvelope] = msgspec.msgpack.Decoder(ReplyEnvelope)
_pair_request_decoder: msgspec.msgpack.Decoder[PairRequest] = msgspec.msgpack.Decoder(PairRequest)
_pair_reply_decoder: msgspec.msgpack.Decoder[PairReply | Failure] = msgspec.msgpack.Decoder(PairReply | Failure)

Raw = bytes | memoryview
_T = TypeVar("_T")


def encode_header(header: DataHeader) -> bytes:
    return _encoder.encode(header)


def decode_header(buf: Raw) -> DataHeader:
    """The header frame of a data message. Raises ProtocolError naming the field."""
    try:
        return _header_decoder.decode(buf)
    except _DECODE_ERRORS as error:
        raise ProtocolError(f"Bad data header: {_explain(error, buf)}.") from error


def encode_request(envelope: RequestEnvelope) -> bytes:
    return _encoder.encode(envelope)


def decode_request(buf: Raw) -> RequestEnvelope:
    """A control request. Raises ProtocolError naming the field."""
    return _decode(_request_decoder, buf, "request")


def encode_reply(envelope: ReplyEnvelope) -> bytes:
    return _encoder.encode(envelope)


def decode_reply(buf: Raw) -> ReplyEnvelope:
    """A control reply. Raises ProtocolError naming the field."""
    return _decode(_reply_decoder, buf, "reply")


def encode_pairing(message: PairRequest | PairReply | Failure) -> bytes:
    return _encoder.encode(message)


def decode_pair_request(buf: Raw) -> PairRequest:
    return _decode(_pair_request_decoder, buf, "pairing request")


def decode_pair_reply(buf: Raw) -> PairReply | Failure:
    return _decode(_pair_reply_decoder, buf, "pairing reply")


def tensor_frames(
    deployment: str,
    epoch: int,
    job: int,
    seq: int,
    producer: ShardId,
    consumer: ShardId,
    arrays: Sequence[tuple[str, np.ndarray, str]],
) -> list[bytes | np.ndarray]:
    """One message: the header, then each array's bytes. ``arrays`` are (name at the consumer, array, codec).

    Contiguous little-endian arrays are not copied. Raises ProtocolError for a dtype or codec that may not travel.
    """
    metas = []
    frames: list[bytes | np.ndarray] = [b""]
    for name, array, codec in arrays:
        if codec != RAW:
            raise ProtocolError(f"The codec {codec!r} of {name!r} is not known.")
        metas.append(TensorMeta(name, dtype_name(name, array.dtype), array.shape, codec))
        frames.append(_sendable(array))
    frames[0] = _encoder.encode(Tensors(deployment, epoch, job, seq, producer, consumer, tuple(metas)))
    return frames


def dtype_name(tensor: str, dtype: np.dtype[Any]) -> str:
    """The wire's name of a dtype in either byte order. Raises ProtocolError for one that may not travel."""
    name = _NAMES.get(dtype) or _NAMES.get(dtype.newbyteorder("="))
    if name is None:
        raise ProtocolError(
            f"{tensor!r} has elements of type {dtype.name}, which cannot travel.",
            hint="Only booleans, integers and floating point numbers can.",
        )
    return name


def read_tensors(header: Tensors, frames: Sequence[Raw]) -> dict[str, np.ndarray]:
    """The arrays of a Tensors message, in place and read-only. ``frames`` are those after the header.

    Raises ProtocolError when their number, a name, dtype, shape or size is wrong.
    """
    if len(frames) != len(header.tensors):
        raise ProtocolError(f"Field tensors announces {len(header.tensors)} tensors, but {len(frames)} frames came.")
    arrays: dict[str, np.ndarray] = {}
    for meta, frame in zip(header.tensors, frames, strict=True):
        if meta.name in arrays:
            raise ProtocolError(f"Field tensors names {meta.name!r} twice.")
        arrays[meta.name] = _read(meta, frame)
    return arrays


def _read(meta: TensorMeta, frame: Raw) -> np.ndarray:
    dtype = DTYPES.get(meta.dtype)
    if dtype is None:
        raise ProtocolError(f"Field dtype of {meta.name!r} is {meta.dtype!r}, which cannot travel.")
    if meta.codec != RAW:
        raise ProtocolError(f"Field codec of {meta.name!r} is {meta.codec!r}, which is not known.")
    shape = meta.shape
    if len(shape) > MAX_RANK or any(d < 0 or d > _LARGEST for d in shape):
        raise ProtocolError(f"Field shape of {meta.name!r} is {shape}, which no tensor has.")
    nbytes = frame.nbytes if isinstance(frame, memoryview) else len(frame)
    if nbytes != math.prod(shape) * dtype.itemsize:
        raise ProtocolError(
            f"Field shape of {meta.name!r} is {shape} of {meta.dtype}, {math.prod(shape) * dtype.itemsize} bytes, "
            f"but {nbytes} came."
        )
    if nbytes == 0:
        return _empty(meta.name, shape, dtype)
    array = np.frombuffer(frame, dtype).reshape(shape)
    if meta.dtype == "bool":  # any byte but 0 and 1 is not a bool to what computes with it
        array = _as_bool(array)
    if not array.flags.aligned:
        array = array.copy()
    array.flags.writeable = False
    return array


def _empty(name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
    try:
        array = np.empty(shape, dtype)
    except (ValueError, MemoryError) as error:
        raise ProtocolError(f"Field shape of {name!r} is {shape}, which no tensor has.") from error
    array.flags.writeable = False
    return array


def _as_bool(array: np.ndarray) -> np.ndarray:
    octets = array.view(np.uint8)
    return np.asarray(octets != 0) if octets.max(initial=0) > 1 else array


def _sendable(array: np.ndarray) -> np.ndarray:
    if array.dtype not in _NAMES or not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    return array if array.flags.c_contiguous else array.copy(order="C")


def _decode(decoder: msgspec.msgpack.Decoder[_T], buf: Raw, what: str) -> _T:
    try:
        return decoder.decode(buf)
    except _DECODE_ERRORS as error:
        raise ProtocolError(f"Bad {what}: {error}.") from error


_DECODE_ERRORS: Final = (msgspec.DecodeError, ValueError, OverflowError, RecursionError, MemoryError)


def _explain(error: Exception, buf: Raw) -> str:
    """msgspec's words, with the number of the array's place (``$[3]``) turned into the field's name."""
    words = str(error)
    place = words.rpartition("`$[")[2].partition("]")[0]
    if not place.isdigit():
        return words
    try:
        tag = msgspec.msgpack.decode(buf)[0]
        field = _HEADER_FIELDS[tag][int(place) - 1]
    except (*_DECODE_ERRORS, LookupError, TypeError):
        return words
    return f"field {field}: {words}"
