"""Rewriting a graph's external data without onnx, checked by onnx."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from agent.failures import AgentFailureError
from agent.graph_proto import DTYPES, place_weights
from core.plan.form import Sha256, Weight
from tests.counting import calls_of


def model_with(*initializers: TensorProto, nodes: int = 1) -> onnx.ModelProto:
    graph = helper.make_graph(
        [helper.make_node("Abs", [f"v{n}"], [f"v{n + 1}"], name=f"node {n}", doc="é" * 50) for n in range(nodes)],
        "g",
        [helper.make_tensor_value_info("v0", TensorProto.FLOAT, [None, 3])],
        [helper.make_tensor_value_info(f"v{nodes}", TensorProto.FLOAT, [None, 3])],
        list(initializers),
        doc_string="a graph",
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("other", 1)])
    model.metadata_props.add(key="made", value="by a test")
    return model


def external(name: str, dtype: int, shape: tuple[int, ...], **entries: str) -> TensorProto:
    tensor = TensorProto(name=name, data_type=dtype, dims=shape, data_location=TensorProto.EXTERNAL)
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)
    return tensor


def weight(name: str, dtype: str, shape: tuple[int, ...]) -> Weight:
    return Weight(name, dtype, shape, Sha256("ab" * 32), 0)


def placed(model: onnx.ModelProto, *weights: Weight) -> onnx.ModelProto:
    rewritten = place_weights(model.SerializeToString(), {w.name: w for w in weights}, lambda w: f"at/{w.name}")
    return onnx.load_model_from_string(rewritten)


def test_the_types_are_those_of_onnx() -> None:
    for number, name in DTYPES.items():
        assert helper.tensor_dtype_to_np_dtype(number) == np.dtype(name)


def test_external_initializers_get_their_place_and_all_else_stays() -> None:
    inline = helper.make_tensor("inline", TensorProto.INT64, (2,), [3, -4])
    first = external(
        "first", TensorProto.FLOAT, (300, 2), location="/etc/passwd", offset="17", length="1", checksum="x"
    )
    second = external("größe", TensorProto.INT8, ())
    model = model_with(first, inline, second)
    result = placed(model, weight("first", "float32", (300, 2)), weight("größe", "int8", ()))
    for tensor in (first, second):
        del tensor.external_data[:]
        tensor.external_data.add(key="location", value=f"at/{tensor.name}")
    assert result == model_with(first, inline, second)


def test_a_weight_without_elements_needs_no_file() -> None:
    result = placed(model_with(external("none", TensorProto.FLOAT, (0, 4))), weight("none", "float32", (0, 4)))
    (tensor,) = result.graph.initializer
    assert not tensor.external_data
    assert onnx.numpy_helper.to_array(tensor).shape == (0, 4)


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ([], 'wants the weight "w"'),
        ([weight("w", "float32", (2, 3)), weight("q", "float32", (1,))], "does not want: q"),
        ([weight("w", "float32", (3, 2))], "float32 [2, 3]"),
        ([weight("w", "int32", (2, 3))], "declared int32"),
    ],
)
def test_weights_are_just_those_that_the_graph_wants(weights: list[Weight], words: str) -> None:
    with pytest.raises(AgentFailureError) as caught:
        placed(model_with(external("w", TensorProto.FLOAT, (2, 3))), *weights)
    assert caught.value.code == "field"
    assert words in caught.value.message


def test_a_type_that_does_not_travel_is_refused() -> None:
    with pytest.raises(AgentFailureError, match="type 16"):
        placed(model_with(external("w", TensorProto.BFLOAT16, (2,))), weight("w", "float32", (2,)))


def test_many_missing_weights_are_named_in_short() -> None:
    with pytest.raises(AgentFailureError, match="q0, q1, q2, q3, q4 and 3 more"):
        placed(model_with(), *(weight(f"q{n}", "float32", ()) for n in range(8)))


def test_graph_and_dims_split_over_several_fields_are_merged_as_protobuf_does() -> None:
    one = model_with(external("a", TensorProto.FLOAT, (2,)))
    other = onnx.ModelProto()
    other.graph.initializer.append(external("b", TensorProto.FLOAT, (3,)))
    both = one.SerializeToString() + other.SerializeToString()
    weights = {"a": weight("a", "float32", (2,)), "b": weight("b", "float32", (3,))}
    result = onnx.load_model_from_string(place_weights(both, weights, lambda w: w.name))
    assert [tensor.external_data[0].value for tensor in result.graph.initializer] == ["a", "b"]
    packed = bytes([1 << 3 | 2, 3, 2, 0x80, 1])  # dims [2, 128] in one field
    tensor_bytes = external("c", TensorProto.FLOAT, ()).SerializeToString() + packed
    graph_bytes = bytes([5 << 3 | 2, len(tensor_bytes)]) + tensor_bytes
    model_bytes = bytes([7 << 3 | 2, len(graph_bytes)]) + graph_bytes
    result = onnx.load_model_from_string(
        place_weights(model_bytes, {"c": weight("c", "float32", (2, 128))}, lambda w: "x")
    )
    assert list(result.graph.initializer[0].dims) == [2, 128]


@given(st.binary(max_size=200))
def test_any_bytes_are_rewritten_or_refused(data: bytes) -> None:
    for model in (data, bytes([7 << 3 | 2, len(data) & 0x7F]) + data):
        try:
            place_weights(model, {}, lambda w: "x")
        except AgentFailureError as failure:
            code = failure.code
            assert code in {"model", "field"}


@given(st.data())
def test_a_damaged_model_is_rewritten_or_refused(data: st.DataObject) -> None:
    model = bytearray(model_with(external("w", TensorProto.FLOAT, (2, 3))).SerializeToString())
    position = data.draw(st.integers(0, len(model) - 1))
    model[position] = data.draw(st.integers(0, 255))
    damaged = bytes(model[: data.draw(st.integers(position, len(model)))])
    try:
        place_weights(damaged, {"w": weight("w", "float32", (2, 3))}, lambda w: "x")
    except AgentFailureError as failure:
        words = failure.message
        assert words


def test_thousands_of_nodes_are_passed_over() -> None:
    """A node is one field, which nobody looks into; ``tests.bench.small_costs`` tells the seconds."""
    work = {}
    for count in (250, 500):
        tensors = [external(f"w{n:03}", TensorProto.FLOAT, (64, 64)) for n in range(count)]
        model = model_with(*tensors, nodes=10 * count).SerializeToString()
        weights = {t.name: weight(t.name, "float32", (64, 64)) for t in tensors}
        work[count] = calls_of(lambda model=model, weights=weights: place_weights(model, weights, lambda w: w.blob))
    assert work[500] < 2.1 * work[250]
    without = model_with(nodes=5000).SerializeToString()
    assert calls_of(lambda: place_weights(without, {}, lambda w: w.blob)) < 20 * 5000
