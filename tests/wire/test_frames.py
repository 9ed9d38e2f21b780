"""Frames: tensors arrive as they left; no bytes whatever raise anything but ProtocolError."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from core.errors import ProtocolError
from core.plan.form import CLIENT, Sha256, ShardId
from core.wire import frames
from core.wire.messages import (
    Attach,
    Attached,
    Chunk,
    ChunkAck,
    Done,
    Failure,
    Hello,
    Ping,
    ReplyEnvelope,
    RequestEnvelope,
    Reserve,
    ShardFailed,
    TensorMeta,
    Tensors,
)

ALLOWED = st.sampled_from(list(frames.DTYPES.values()))
ARRAYS = ALLOWED.flatmap(lambda d: hnp.arrays(d, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)))
SHARD = ShardId(3)


def pack(*arrays: tuple[str, np.ndarray, str]) -> tuple[Tensors, list[memoryview]]:
    header, *raw = frames.tensor_frames("d", 1, 2, 3, CLIENT, SHARD, arrays)
    decoded = frames.decode_header(header)
    assert isinstance(decoded, Tensors)
    return decoded, [memoryview(np.ascontiguousarray(r)).cast("B") if r.nbytes else memoryview(b"") for r in raw]


@given(st.lists(ARRAYS, max_size=4))
def test_tensors_arrive_as_they_left(arrays: list[np.ndarray]) -> None:
    named = [(f"t{i}", a, "raw") for i, a in enumerate(arrays)]
    header, raw = pack(*named)
    assert (header.deployment, header.epoch, header.job, header.seq) == ("d", 1, 2, 3)
    result = frames.read_tensors(header, raw)
    for name, array, _ in named:
        got = result[name]
        assert got.dtype == array.dtype
        assert got.shape == array.shape
        assert np.array_equal(got, array, equal_nan=array.dtype.kind == "f")
        assert not got.flags.writeable


@pytest.mark.parametrize(
    "array",
    [
        np.arange(24, dtype=np.float32).reshape(2, 3, 4).transpose(2, 0, 1),
        np.arange(10, dtype=np.int64)[::2],
        np.arange(5, dtype=">f4"),
        np.asfortranarray(np.ones((3, 4))),
    ],
)
def test_odd_memory_layouts_travel(array: np.ndarray) -> None:
    header, raw = pack(("x", array, "raw"))
    assert np.array_equal(frames.read_tensors(header, raw)["x"], array)


def test_misaligned_and_impure_buffers_are_mended() -> None:
    buffer = memoryview(bytearray(b"\x00" + np.arange(4, dtype=np.float64).tobytes()))[1:]
    meta = TensorMeta("x", "float64", (4,), "raw")
    array = frames.read_tensors(Tensors("d", 1, 1, 1, CLIENT, SHARD, (meta,)), [buffer])["x"]
    assert array.flags.aligned
    assert array.tolist() == [0, 1, 2, 3]
    meta = TensorMeta("x", "bool", (3,), "raw")
    array = frames.read_tensors(Tensors("d", 1, 1, 1, CLIENT, SHARD, (meta,)), [memoryview(b"\x00\x07\x01")])["x"]
    assert array.view(np.uint8).tolist() == [0, 1, 1]


@pytest.mark.parametrize("array", [np.array(["a"], dtype=object), np.array(["a"]), np.array([1 + 2j])])
def test_strings_and_objects_may_not_travel(array: np.ndarray) -> None:
    with pytest.raises(ProtocolError, match=r"'x'.*cannot travel"):
        pack(("x", array, "raw"))


@pytest.mark.parametrize(
    ("meta", "frame", "words"),
    [
        (TensorMeta("x", "object", (1,), "raw"), b"12345678", "dtype of 'x'"),
        (TensorMeta("x", "float32", (2,), "raw"), b"1234", "8 bytes, but 4 came"),
        (TensorMeta("x", "float32", (-1, -1), "raw"), b"1234", "shape of 'x'"),
        (TensorMeta("x", "float32", (1,) * 17, "raw"), b"1234", "shape of 'x'"),
        (TensorMeta("x", "float32", (1 << 62, 1 << 62, 0), "raw"), b"", "shape of 'x'"),
        (TensorMeta("x", "float32", (1,), "zip"), b"1234", "codec of 'x'"),
    ],
)
def test_bad_tensors_name_the_field(meta: TensorMeta, frame: bytes, words: str) -> None:
    header = Tensors("d", 1, 1, 1, CLIENT, SHARD, (meta,))
    with pytest.raises(ProtocolError, match=words):
        frames.read_tensors(header, [memoryview(frame)])


def test_number_of_frames_and_double_names() -> None:
    meta = TensorMeta("x", "uint8", (1,), "raw")
    with pytest.raises(ProtocolError, match="announces 1 tensors, but 0 frames"):
        frames.read_tensors(Tensors("d", 1, 1, 1, CLIENT, SHARD, (meta,)), [])
    with pytest.raises(ProtocolError, match="'x' twice"):
        frames.read_tensors(Tensors("d", 1, 1, 1, CLIENT, SHARD, (meta, meta)), [memoryview(b"1")] * 2)


@pytest.mark.parametrize(
    "header",
    [
        Attach("d", 1),
        Attached("d", 1),
        ShardFailed("d", 1, 2, 3, SHARD, "shard", "words"),
        Chunk(Sha256("0" * 64), 10, 5),
        ChunkAck(Sha256("0" * 64), -1, ""),
    ],
)
def test_headers_round_trip(header: Attach) -> None:
    assert frames.decode_header(frames.encode_header(header)) == header


def test_header_errors_name_the_field() -> None:
    with pytest.raises(ProtocolError, match="field epoch"):
        frames.decode_header(msgspec.msgpack.encode(["a", "d", "not a number"]))
    with pytest.raises(ProtocolError, match="field offset"):
        frames.decode_header(msgspec.msgpack.encode(["c", "0" * 64, 1, None]))


def test_envelopes_round_trip() -> None:
    request = RequestEnvelope(7, Hello(1, "0.1", "desk"))
    assert frames.decode_request(frames.encode_request(request)) == request
    reply = ReplyEnvelope(7, Failure("owned", "by lab"))
    assert frames.decode_reply(frames.encode_reply(reply)) == reply
    with pytest.raises(ProtocolError, match="request"):
        frames.decode_request(frames.encode_reply(ReplyEnvelope(1, Done())))


_VALID = [
    frames.encode_request(RequestEnvelope(1, Ping())),
    frames.encode_request(RequestEnvelope(1, Reserve("d", "desk", 5))),
    frames.encode_reply(ReplyEnvelope(1, Failure("a", "b"))),
    frames.encode_header(Attach("d", 1)),
    frames.encode_header(Tensors("d", 1, 2, 3, CLIENT, SHARD, (TensorMeta("x", "float32", (1, 2), "raw"),))),
    frames.encode_header(Chunk(Sha256("0" * 64), 10, 5)),
]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A valid message with bytes changed, cut off or inserted."""
    message = bytearray(draw(st.sampled_from(_VALID)))
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(0, len(message) - 1)))
        message[place : place + draw(st.integers(0, 2))] = draw(st.binary(max_size=3))
    return bytes(message)


JUNK = st.one_of(
    st.binary(max_size=200),
    damaged(),
    st.recursive(st.none() | st.integers(-(2**63), 2**64 - 1) | st.text() | st.binary() | st.floats(), st.lists).map(
        msgspec.msgpack.encode
    ),
    st.just(b"\x91" * 5000),
)


@settings(max_examples=300)
@given(JUNK)
def test_decoding_junk_only_ever_raises_protocol_error(junk: bytes) -> None:
    decoders = (
        frames.decode_header,
        frames.decode_request,
        frames.decode_reply,
        frames.decode_pair_request,
        frames.decode_pair_reply,
    )
    for decode in decoders:
        try:
            message = decode(memoryview(junk))
        except ProtocolError:
            continue
        if isinstance(message, Tensors):
            _read_any(message, [memoryview(b"12345678")] * len(message.tensors))


METAS = st.builds(
    TensorMeta,
    st.text(max_size=3),
    st.sampled_from([*frames.DTYPES, "object", "str"]),
    st.lists(st.integers(-(2**63), 2**64) | st.integers(0, 3), max_size=20).map(tuple),
    st.sampled_from(["raw", ""]),
)


@settings(max_examples=300)
@given(st.lists(st.tuples(METAS, st.binary(max_size=64)), max_size=3))
def test_reading_lying_headers_only_ever_raises_protocol_error(tensors: list[tuple[TensorMeta, bytes]]) -> None:
    header = Tensors("d", 1, 1, 1, CLIENT, SHARD, tuple(meta for meta, _ in tensors))
    _read_any(header, [memoryview(raw) for _, raw in tensors])


def _read_any(header: Tensors, raw: list[memoryview]) -> None:
    try:
        arrays = frames.read_tensors(header, raw)
    except ProtocolError:
        return
    for array in arrays.values():
        assert array.nbytes <= 64
