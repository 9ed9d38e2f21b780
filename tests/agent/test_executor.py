"""Shards run by onnxruntime, their weights fed from mapped blobs: right results, no copies, and refusals in words."""

from __future__ import annotations

import gc
import hashlib
import math
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import psutil
import pytest
from onnx import TensorProto, helper

from agent.blobs import BlobStore
from agent.executor import MOST_REPEATS, load_shard, measure_graph
from agent.failures import AgentFailureError
from core.plan.form import NodeId, Port, Sha256, Shard, ShardId, Weight
from tests.counting import calls_of

Array = npt.NDArray[Any]
F32 = TensorProto.FLOAT


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs", 1 << 30)


def put(blobs: BlobStore, data: bytes) -> Sha256:
    sha = Sha256(hashlib.sha256(data).hexdigest())
    assert blobs.append(sha, len(data), 0, data).received == -1
    return sha


def external(name: str, array: Array, location: str | None = "fed") -> TensorProto:
    """An initializer that says what it is but not where its bytes are."""
    tensor = TensorProto(name=name, data_type=helper.np_dtype_to_tensor_dtype(array.dtype), dims=array.shape)
    tensor.data_location = TensorProto.EXTERNAL
    if location is not None:
        tensor.external_data.add(key="location", value=location)
    return tensor


def graph_of(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    initializers: Sequence[TensorProto] = (),
) -> bytes:
    graph = helper.make_graph(list(nodes), "shard", list(inputs), list(outputs), list(initializers))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return model.SerializeToString()  # type: ignore[no-any-return]


def value(name: str, dtype: int, shape: Sequence[int | str | None] | None) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, shape)


def weight(blobs: BlobStore, name: str, array: Array) -> Weight:
    data = array.tobytes()
    return Weight(name, array.dtype.name, array.shape, put(blobs, data), len(data))


def shard(
    blobs: BlobStore, graph: bytes, inputs: Sequence[Port], outputs: Sequence[Port], weights: Sequence[Weight] = ()
) -> Shard:
    return Shard(
        id=ShardId(3), node=NodeId("n"), label="layers 0-3", replica=0, stage=0, rank=0, graph=put(blobs, graph),
        graph_nbytes=len(graph), weights=tuple(weights), inputs=tuple(inputs), outputs=tuple(outputs),
        activation_bytes=0,
    )  # fmt: skip


X = Port("x", "float32", (None, 8))
Y = Port("y", "float32", None)


def matmul_shard(
    blobs: BlobStore, array: Array, *, fed: Sequence[Weight] | None = None, location: str | None = "fed"
) -> Shard:
    graph = graph_of(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        [value("x", F32, ["n", array.shape[0]])],
        [value("y", F32, None)],
        [external("w", array, location)],
    )
    weights = [weight(blobs, "w", array)] if fed is None else fed
    return shard(blobs, graph, [Port("x", "float32", (None, array.shape[0]))], [Y], weights)


def floats(*shape: int, seed: int = 0) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


# Below, at and above a page of 4096 bytes, and many pages.
@pytest.mark.parametrize("columns", [1, 127, 128, 129, 40_000])
@pytest.mark.parametrize("location", ["fed", "", None])
def test_a_weight_is_fed_from_its_blob(blobs: BlobStore, columns: int, location: str | None) -> None:
    w, x = floats(8, columns), floats(5, 8, seed=1)
    loaded = load_shard(matmul_shard(blobs, w, location=location), blobs, threads=1)
    (y,) = loaded.run({"x": x})
    np.testing.assert_allclose(y, x @ w, rtol=1e-4, atol=1e-5)
    assert loaded.shard.label == "layers 0-3"


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", "uint8", "int16", "int32", "int64", "bool"])
@pytest.mark.parametrize("shape", [(), (1,), (3, 5), (0, 4), (2, 3000)])
def test_every_type_and_shape_arrives_bit_for_bit(blobs: BlobStore, dtype: str, shape: tuple[int, ...]) -> None:
    array = np.asarray(np.random.default_rng(7).integers(0, 100, shape)).astype(dtype)
    kind = helper.np_dtype_to_tensor_dtype(array.dtype)
    # A Cast to the same type and back through an input keeps onnxruntime from folding the weight away at load.
    graph = graph_of(
        [helper.make_node("If", ["c"], ["y"], then_branch=passing("w", kind), else_branch=passing("w", kind))],
        [value("c", TensorProto.BOOL, [])],
        [value("y", kind, None)],
        [external("w", array)],
    )
    it = shard(blobs, graph, [Port("c", "bool", ())], [Port("y", dtype, None)], [weight(blobs, "w", array)])
    (y,) = load_shard(it, blobs, threads=1).run({"c": np.array(True)})
    assert (y.dtype, y.shape) == (array.dtype, array.shape)
    assert y.tobytes() == array.tobytes()


def passing(name: str, kind: int) -> onnx.GraphProto:
    out = value(f"{name}_out", kind, None)
    return helper.make_graph([helper.make_node("Identity", [name], [f"{name}_out"])], "branch", [], [out])


def test_a_weight_used_twice_and_two_weights_of_one_blob(blobs: BlobStore) -> None:
    w, x = floats(8, 8), floats(2, 8, seed=1)
    graph = graph_of(
        [
            helper.make_node("MatMul", ["x", "w1"], ["a"]),
            helper.make_node("MatMul", ["a", "w1"], ["b"]),
            helper.make_node("MatMul", ["b", "w2"], ["y"]),
        ],
        [value("x", F32, [None, 8])],
        [value("y", F32, [None, 8])],
        [external("w1", w), external("w2", w)],
    )
    loaded = load_shard(shard(blobs, graph, [X], [Y], [weight(blobs, "w1", w), weight(blobs, "w2", w)]), blobs, 1)
    np.testing.assert_allclose(loaded.run({"x": x})[0], x @ w @ w @ w, rtol=1e-3, atol=1e-4)
    assert blobs.bytes_used == w.nbytes + len(graph)


def test_quantized_weights(blobs: BlobStore) -> None:
    rng = np.random.default_rng(3)
    w, zero, scale = rng.integers(-100, 100, (8, 16)).astype(np.int8), np.array(0, np.int8), np.array(0.02, np.float32)
    graph = graph_of(
        [
            helper.make_node("DequantizeLinear", ["w", "s", "z"], ["f"]),
            helper.make_node("MatMul", ["x", "f"], ["y"]),
        ],
        [value("x", F32, [None, 8])],
        [value("y", F32, None)],
        [external("w", w), external("s", scale), external("z", zero)],
    )
    fed = [weight(blobs, "w", w), weight(blobs, "s", scale), weight(blobs, "z", zero)]
    x = floats(4, 8)
    (y,) = load_shard(shard(blobs, graph, [X], [Y], fed), blobs, 1).run({"x": x})
    # onnxruntime may quantize x as well, hence the tolerance
    np.testing.assert_allclose(y, x @ (w.astype(np.float32) * scale), atol=0.1)


def test_outputs_come_in_the_order_the_shard_declares(blobs: BlobStore) -> None:
    graph = graph_of(
        [helper.make_node("Neg", ["x"], ["neg"]), helper.make_node("Abs", ["x"], ["abs"])],
        [value("x", F32, [None, 8])],
        [value("neg", F32, [None, 8]), value("abs", F32, [None, 8])],
    )
    outputs = [Port("abs", "float32", (None, 8)), Port("neg", "float32", (None, 8))]
    x = floats(3, 8)
    absolute, negative = load_shard(shard(blobs, graph, [X], outputs), blobs, 1).run({"x": x})
    assert np.array_equal(absolute, np.abs(x))
    assert np.array_equal(negative, -x)


def test_inputs_may_be_read_only_and_unaligned(blobs: BlobStore) -> None:
    w, x = floats(8, 4), floats(5, 8, seed=1)
    view = np.frombuffer(b"\0" + x.tobytes(), np.float32, offset=1).reshape(5, 8)
    (y,) = load_shard(matmul_shard(blobs, w), blobs, 1).run({"x": view})
    np.testing.assert_allclose(y, x @ w, rtol=1e-4, atol=1e-5)


def test_results_do_not_share_memory_with_the_next_run(blobs: BlobStore) -> None:
    loaded = load_shard(matmul_shard(blobs, floats(8, 4)), blobs, 1)
    x = floats(5, 8, seed=1)
    first = loaded.run({"x": x})[0]
    kept = first.copy()
    loaded.run({"x": x + 1})
    assert np.array_equal(first, kept)


linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc/self/smaps")


def mapped_from(path: Path) -> list[Any]:
    return [entry for entry in psutil.Process().memory_maps(grouped=False) if entry.path == str(path)]


def table_shard(blobs: BlobStore, table: Array) -> Shard:
    """Looks rows up: its weight is read in place."""
    graph = graph_of(
        [helper.make_node("Gather", ["w", "i"], ["y"])],
        [value("i", TensorProto.INT64, [None])],
        [value("y", F32, None)],
        [external("w", table)],
    )
    return shard(blobs, graph, [Port("i", "int64", (None,))], [Y], [weight(blobs, "w", table)])


@linux
def test_weights_are_mapped_not_copied(blobs: BlobStore) -> None:
    size = 128 << 20
    it = table_shard(blobs, np.zeros((size // 4096, 1024), np.float32))
    gc.collect()
    before = psutil.Process().memory_info().rss
    loaded = load_shard(it, blobs, 1)
    assert loaded.run({"i": np.arange(8)})[0].shape == (8, 1024)
    (entry,) = mapped_from(blobs.path(it.weights[0].blob))
    assert entry.anonymous == 0
    assert psutil.Process().memory_info().rss - entry.rss - before < size // 8


@linux
def test_a_shard_lets_go_of_its_files(blobs: BlobStore) -> None:
    it = table_shard(blobs, floats(1000, 1000))
    loaded = load_shard(it, blobs, 1)
    path = blobs.path(it.weights[0].blob)
    assert mapped_from(path)
    del loaded
    gc.collect()
    assert not mapped_from(path)


@linux
def test_a_blob_may_be_evicted_while_a_shard_still_runs_on_it(blobs: BlobStore) -> None:
    table = floats(1000, 1000)
    it = table_shard(blobs, table)
    loaded = load_shard(it, blobs, 1)
    blobs.path(it.weights[0].blob).unlink()
    assert np.array_equal(loaded.run({"i": np.arange(1000)})[0], table)


@pytest.mark.parametrize("shape", [(1, 2, 3, 5), (1, 4, 4, 4)])
def test_a_weight_that_an_optimizer_transposes(blobs: BlobStore, shape: tuple[int, ...]) -> None:
    """Transpose, Add, Transpose becomes one Add of a transposed weight."""
    w = floats(*shape)
    x = floats(2, shape[2], shape[3], shape[1], seed=1)
    graph = graph_of(
        [
            helper.make_node("Transpose", ["x"], ["a"], perm=[0, 3, 1, 2]),
            helper.make_node("Add", ["a", "w"], ["b"]),
            helper.make_node("Transpose", ["b"], ["y"], perm=[0, 2, 3, 1]),
        ],
        [value("x", F32, ["n", *x.shape[1:]])],
        [value("y", F32, None)],
        [external("w", w)],
    )
    it = shard(blobs, graph, [Port("x", "float32", (None, *x.shape[1:]))], [Y], [weight(blobs, "w", w)])
    (y,) = load_shard(it, blobs, 1).run({"x": x})
    np.testing.assert_allclose(y, x + w.transpose(0, 2, 3, 1), rtol=1e-5, atol=1e-6)


def refused(code: str, words: str, act: Callable[[], object]) -> str:
    with pytest.raises(AgentFailureError) as caught:
        act()
    assert (caught.value.code, words in caught.value.message) == (code, True), caught.value.message
    return caught.value.message


@pytest.mark.parametrize(
    ("feed", "words"),
    [
        ({"x": floats(2, 7)}, "Got: 7 Expected: 8"),
        ({"x": floats(8)}, "Invalid rank"),
        ({"x": floats(2, 8).astype(np.float64)}, "tensor(double)"),
        ({}, "missing"),
        ({"z": floats(2, 8)}, "missing"),
        ({"x": floats(2, 8), "z": floats(2, 8)}, "Invalid input name: z"),
        ({"x": np.array([["a"] * 8])}, ""),
        ({"x": None}, ""),
    ],
)
def test_a_run_that_cannot_be_fails_in_words_and_the_next_succeeds(blobs: BlobStore, feed: Any, words: str) -> None:
    loaded = load_shard(matmul_shard(blobs, floats(8, 4)), blobs, 1)
    message = refused("shard", words, lambda: loaded.run(feed))
    assert message.startswith('"layers 0-3" failed: ')
    assert "ONNXRuntimeError" not in message
    assert loaded.run({"x": floats(2, 8)})[0].shape == (2, 4)


def test_a_graph_that_is_none_is_refused(blobs: BlobStore) -> None:
    for graph in (b"", b"not a graph", b"\xff" * 1000, matmul_graph()[:-20]):
        it = shard(blobs, graph, [X], [Y])
        refused("model", "", partial(load_shard, it, blobs, 1))


def matmul_graph() -> bytes:
    return graph_of(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        [value("x", F32, ["n", 8])],
        [value("y", F32, None)],
        [helper.make_tensor("w", F32, (8, 4), floats(8, 4).flatten())],
    )


def test_an_unknown_operator_is_named(blobs: BlobStore) -> None:
    graph = graph_of(
        [helper.make_node("Frobnicate", ["x"], ["y"])], [value("x", F32, [None, 8])], [value("y", F32, None)]
    )
    refused("model", "Frobnicate", lambda: load_shard(shard(blobs, graph, [X], [Y]), blobs, 1))


def test_a_missing_blob_says_what_to_do(blobs: BlobStore) -> None:
    w = floats(8, 4)
    absent = Weight("w", "float32", (8, 4), Sha256("0" * 64), w.nbytes)
    refused("blob", "deploy again", lambda: load_shard(matmul_shard(blobs, w, fed=[absent]), blobs, 1))


def test_weights_that_are_not_what_the_graph_has_are_refused(blobs: BlobStore) -> None:
    w = floats(8, 4)
    good = weight(blobs, "w", w)

    def loading(*fed: Weight) -> Callable[[], object]:
        return lambda: load_shard(matmul_shard(blobs, w, fed=fed), blobs, 1)

    loading(good)()
    refused("field", "takes 64 bytes", loading(Weight("w", "float32", (4, 4), good.blob, 64)))
    refused("field", "object", loading(Weight("w", "object", (8, 4), good.blob, 128)))
    refused("field", "bfloat16", loading(Weight("w", "bfloat16", (8, 8), good.blob, 128)))
    refused("field", "[-8, -4]", loading(Weight("w", "float32", (-8, -4), good.blob, 128)))
    refused("field", "graph has float32 [8, 4]", loading(Weight("w", "float32", (4, 8), good.blob, 128)))
    refused("field", "declared int32", loading(Weight("w", "int32", (8, 4), good.blob, 128)))
    refused("field", "does not want: q", loading(good, Weight("q", "float32", (8, 4), good.blob, 128)))


@pytest.mark.parametrize("location", ["secret.bin", "./secret.bin", "../secret.bin", "/secret.bin"])
def test_a_graph_may_not_read_files_of_the_node(
    blobs: BlobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, location: str
) -> None:
    """A weight that nobody feeds would otherwise be read from the file that the graph names."""
    w = floats(8, 4)
    for folder in (tmp_path, tmp_path / "work"):
        folder.mkdir(exist_ok=True)
        (folder / "secret.bin").write_bytes(w.tobytes())
    monkeypatch.chdir(tmp_path / "work")
    named = str(tmp_path / "secret.bin") if location.startswith("/") else location
    refused("field", '"w"', lambda: load_shard(matmul_shard(blobs, w, fed=[], location=named), blobs, 1))
    graph = graph_of(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], [value("x", F32, ["n", 8])], [value("y", F32, None)],
        [external("w", w, named)],
    )  # fmt: skip
    refused("field", '"w"', lambda: measure_graph(graph, [X], 1, 1))


@pytest.mark.parametrize(
    ("inputs", "outputs", "words"),
    [
        ([], [Y], "inputs"),
        ([X, X], [Y], "inputs"),
        ([Port("z", "float32", (None, 8))], [Y], "z"),
        ([X], [], "outputs"),
        ([X], [Y, Port("more", "float32", None)], "more"),
        ([Port("x", "float64", (None, 8))], [Y], "declared float64"),
        ([Port("x", "float32", (None, 9))], [Y], "[None, 9]"),
        ([Port("x", "float32", (None, 8, 1))], [Y], "[None, 8, 1]"),
        ([X], [Port("y", "float16", None)], "declared float16"),
        ([X], [Port("y", "float32", (None, 5))], "[None, 5]"),
    ],
)
def test_ports_are_checked_against_the_graph(
    blobs: BlobStore, inputs: list[Port], outputs: list[Port], words: str
) -> None:
    refused("field", words, lambda: load_shard(shard(blobs, matmul_graph(), inputs, outputs), blobs, 1))


def test_dimensions_that_either_side_leaves_open_fit(blobs: BlobStore) -> None:
    for shape in (None, (None, None), (7, 8), (None, 8)):
        load_shard(shard(blobs, matmul_graph(), [Port("x", "float32", shape)], [Y]), blobs, 1)


def test_strings_do_not_travel(blobs: BlobStore) -> None:
    kind = TensorProto.STRING
    graph = graph_of(
        [helper.make_node("Identity", ["x"], ["y"])], [value("x", kind, [None])], [value("y", kind, [None])]
    )
    ports = [Port("x", "object", (None,))], [Port("y", "object", (None,))]
    refused("field", "tensor(string)", lambda: load_shard(shard(blobs, graph, *ports), blobs, 1))


def test_measuring_a_graph(blobs: BlobStore) -> None:
    small, quiet, held = measure_graph(matmul_graph(), [X], 5, 1)
    assert 0 < quiet <= small
    assert 0 < held <= 1
    sizes = graph_of(
        [helper.make_node("MatMul", ["x", "x"], ["y"])], [value("x", F32, [600, 600])], [value("y", F32, None)]
    )
    slow, quiet_slow, _ = measure_graph(sizes, [Port("x", "float32", (600, 600))], 3, 1)
    assert slow > small
    assert quiet_slow > quiet


@pytest.mark.parametrize(
    ("graph", "inputs", "repeats", "code", "words"),
    [
        (matmul_graph(), [X], 0, "field", "repeats is 0"),
        (matmul_graph(), [X], MOST_REPEATS + 1, "field", "repeats"),
        (matmul_graph(), [Port("x", "str", (1, 8))], 1, "field", "str"),
        (matmul_graph(), [Port("x", "float32", (-1, 8))], 1, "field", "-1"),
        (matmul_graph(), [Port("x", "float32", (2**40, 2**40))], 1, "field", "at most 1.00 GiB"),
        (matmul_graph(), [Port("x", "float32", (1, 9))], 1, "model", "Expected: 8"),
        (b"junk", [X], 1, "model", "not an ONNX model"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    graph: bytes, inputs: list[Port], repeats: int, code: str, words: str
) -> None:
    refused(code, words, lambda: measure_graph(graph, inputs, repeats, 1))


@pytest.mark.parametrize("seconds", [-1.0, 61.0, math.inf, math.nan])
def test_a_measurement_that_would_not_end_is_refused(seconds: float) -> None:
    refused("field", "seconds is", lambda: measure_graph(matmul_graph(), [X], 1, 1, seconds))


def test_a_measurement_ends_in_time() -> None:
    """After the second run that counts: two more come before those."""

    def work(repeats: int, seconds: float = 0.0) -> int:
        return calls_of(lambda: measure_graph(matmul_graph(), [X], repeats, 1, seconds))

    two, ten = work(2), work(10)
    assert work(MOST_REPEATS, 1e-6) < (two + ten) / 2


def test_an_idle_session_of_many_threads_burns_nothing(blobs: BlobStore) -> None:
    w = floats(512, 512)
    loaded = load_shard(matmul_shard(blobs, w), blobs, threads=2)
    loaded.run({"x": floats(256, 512)})
    process = psutil.Process()
    before = sum(process.cpu_times()[:2])
    time.sleep(0.5)  # the quantity measured is what happens in this time
    assert sum(process.cpu_times()[:2]) - before < 0.25, "a thread that spins takes all of it"


def test_a_run_adds_one_call_to_onnxruntime(blobs: BlobStore) -> None:
    """``tests.bench.small_costs`` tells the microseconds."""
    it = shard(blobs, matmul_graph(), [X], [Y])
    loaded = load_shard(it, blobs, 1)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(matmul_graph(), options, providers=["CPUExecutionProvider"])
    feed = {"x": floats(1, 8)}

    assert calls_of(lambda: loaded.run(feed)) == calls_of(lambda: session.run(["y"], feed)) + 1
