"""Random networks on sequences: transformer blocks and recurrent layers as exporters write them."""

from __future__ import annotations

import numpy as np
import onnx
from hypothesis import strategies as st
from onnx import TensorProto

from tests.plan.partition.networks import Network


@st.composite
def sequence_networks(draw: st.DrawFn) -> onnx.ModelProto:
    """Attention with grouped queries, rotary positions, caches and masks, fused projections, gates, residuals."""
    net = Network(draw(st.integers(0, 1000)))
    length = draw(st.integers(3, 9))
    heads = draw(st.sampled_from([1, 2, 3, 4, 6]))
    size = draw(st.sampled_from([1, 2, 4]))
    width = heads * size
    table = ""
    if draw(st.booleans()):
        words = draw(st.integers(1, 20))
        table = net.weight(words, width)
        value = net.op("Gather", [table, net.input(length, ids=1)], (length, width), axis=0)
    else:
        value = net.op("MatMul", [net.input(length, 3), net.weight(3, width)], (length, width))
    if draw(st.booleans()):
        places = net.constant(np.arange(length)[None])
        value = net.op("Add", [value, net.op("Gather", [net.weight(12, width), places], (), axis=0)], (length, width))
    for _ in range(draw(st.integers(1, 3))):
        block = draw(
            st.sampled_from(["attention", "attention", "attention", "mlp", "gate", "merged", "recurrent", "conv"])
        )
        normed = _norm(draw, net, value)
        match block:
            case "attention":
                groups = draw(st.sampled_from([g for g in (1, 2, 3) if heads % g == 0]))
                made = _attention(draw, net, normed, heads, heads // groups, size)
            case "recurrent":
                made = _recurrent(draw, net, normed, width)
            case "merged":
                made = _merged(draw, net, normed)
            case "conv":
                made = _convolved(draw, net, normed)
            case _:
                made = _feed_forward(draw, net, normed, gate=block == "gate")
        value = net.op("Add", [value, made], (length, width))
    _head(draw, net, value, table)
    return net.model()


def _norm(draw: st.DrawFn, net: Network, value: str) -> str:
    """Layer normalisation, or that by root mean square as Llama's export writes it."""
    length, width = net.shapes[value]
    if draw(st.booleans()):
        inputs = [value, net.weight(width), net.weight(width)]
        return net.op("LayerNormalization", inputs, (length, width), axis=-1, epsilon=0.1)
    squared = net.op("Pow", [value, net.constant(np.array(2, np.float32))], (length, width))
    mean = net.op("ReduceMean", [squared, net.numbers(-1)], (length, 1), keepdims=1)
    root = net.op("Sqrt", [net.op("Add", [mean, net.constant(np.array(0.1, np.float32))], (length, 1))], (length, 1))
    scale = net.op("Reciprocal", [root], (length, 1))
    return net.op("Mul", [net.weight(width), net.op("Mul", [value, scale], (length, width))], (length, width))


def _head(draw: st.DrawFn, net: Network, value: str, table: str) -> None:
    length, width = net.shapes[value]
    kind = draw(st.sampled_from(["project", "mean", "tied", "first", "last", "best", "top"]))
    if kind == "tied" and not table:
        kind = "project"
    match kind:
        case "mean":
            net.op("ReduceMean", [value, net.numbers(1)], (width,), keepdims=0)
        case "tied":
            words = next(tensor.dims[0] for tensor in net.constants if tensor.name == table)
            net.op("MatMul", [value, net.op("Transpose", [table], (), perm=[1, 0])], (length, words))
        case "first":  # the class token
            first = net.op("Gather", [value, net.constant(np.array(0))], (width,), axis=1)
            net.op("Gemm", [first, net.weight(3, width), net.weight(3)], (3,), transB=1)
        case "last":
            inputs = [value, *map(net.numbers, (-1, 2**62, 1))]
            last = net.op("Slice", inputs, (1, width))
            net.op("MatMul", [net.op("Squeeze", [last, net.numbers(1)], (width,)), net.weight(width, 4)], (4,))
        case _:
            words = draw(st.integers(2, 15))
            logits = net.op("MatMul", [value, net.weight(width, words)], (length, words))
            if kind == "best":
                net.op("ArgMax", [logits], (length,), kind=TensorProto.INT64, axis=-1, keepdims=0)
            if kind == "top":
                net.several("TopK", [logits, net.numbers(2)], [(length, 2), (length, 2)], axis=-1)
                net.kinds[net.nodes[-1].output[1]] = TensorProto.INT64


def _attention(draw: st.DrawFn, net: Network, value: str, heads: int, keys: int, size: int) -> str:
    length, width = net.shapes[value]
    if keys == heads and draw(st.booleans()):
        fused = net.op("MatMul", [value, net.weight(width, 3 * width)], (length, 3 * width))
        fused = net.op("Add", [fused, net.weight(3 * width)], (length, 3 * width))
        if draw(st.booleans()):
            parts = net.several("Split", [fused, net.numbers(width, width, width)], [(length, width)] * 3, axis=2)
        else:
            shaped = net.op("Reshape", [fused, net.numbers(0, length, 3, heads, size)], (length, 3, heads, size))
            moved = net.op("Transpose", [shaped], (0,), perm=[2, 0, 3, 1, 4])
            cut = [
                net.op("Gather", [moved, net.constant(np.array(index))], (heads, length, size), axis=0)
                for index in range(3)
            ]
            return _attend(draw, net, cut, heads, size)
    else:
        parts = [
            net.op("MatMul", [value, net.weight(width, n * size)], (length, n * size)) for n in (heads, keys, keys)
        ]
    rotary = size > 1 and draw(st.booleans())
    past = draw(st.integers(1, 4)) if draw(st.integers(0, 3)) == 0 else 0
    held = []
    for index, (part, count) in enumerate(zip(parts, (heads, keys, keys), strict=True)):
        shaped = net.op("Reshape", [part, net.numbers(0, length, count, size)], (length, count, size))
        turned = net.op("Transpose", [shaped], (count, length, size), perm=[0, 2, 1, 3])
        if rotary and index < 2:
            turned = _rotated(net, turned)
        if past and index > 0:
            before = net.input(count, past, size)
            turned = net.op("Concat", [before, turned], (count, past + length, size), axis=2)
            net.op("Identity", [turned], (count, past + length, size))  # what is kept for the next time
        if count != heads:  # grouped queries: each key serves several heads
            many, times = net.shapes[turned][1], heads // count
            wide = net.op("Unsqueeze", [turned, net.numbers(2)], (count, 1, many, size))
            wide = net.op("Expand", [wide, net.numbers(1, count, times, many, size)], (count, times, many, size))
            turned = net.op("Reshape", [wide, net.numbers(0, heads, many, size)], (heads, many, size))
        held.append(turned)
    return _attend(draw, net, held, heads, size)


def _rotated(net: Network, value: str) -> str:
    """Rotary positions."""
    count, length, size = net.shapes[value]
    half = size // 2
    low = net.op("Slice", [value, *map(net.numbers, (0, half, 3, 1))], (count, length, half))
    high = net.op("Slice", [value, *map(net.numbers, (half, 2**62, 3, 1))], (count, length, half))
    turned = net.op("Concat", [net.op("Neg", [high], (count, length, half)), low], (count, length, size), axis=-1)
    cosine, sine = (net.weight(1, 1, length, size) for _ in range(2))
    straight = net.op("Mul", [value, cosine], (count, length, size))
    return net.op("Add", [straight, net.op("Mul", [turned, sine], (count, length, size))], (count, length, size))


def _attend(draw: st.DrawFn, net: Network, held: list[str], heads: int, size: int) -> str:
    q, k, v = held
    length, many, width = net.shapes[q][1], net.shapes[k][1], heads * size
    turned = net.op("Transpose", [k], (heads, size, many), perm=[0, 1, 3, 2])
    scores = net.op("MatMul", [q, turned], (heads, length, many))
    match draw(st.sampled_from(["none", "bias", "causal", "per head"])):
        case "bias":
            scores = net.op("Add", [scores, net.weight(length, many)], (heads, length, many))
        case "causal":
            seen = net.constant(np.tri(length, many, many - length, dtype=np.bool_)[None, None])
            low = net.constant(np.array(-1e4, np.float32))
            scores = net.op("Where", [seen, scores, low], (heads, length, many))
        case "per head":
            scores = net.op("Add", [scores, net.weight(heads, length, many)], (heads, length, many))
    shares = net.op("Softmax", [scores], (heads, length, many), axis=-1)
    context = net.op("MatMul", [shares, v], (heads, length, size))
    joined = net.op("Transpose", [context], (length, heads, size), perm=[0, 2, 1, 3])
    flat = net.op("Reshape", [joined, net.numbers(0, length, width)], (length, width))
    made = net.op("MatMul", [flat, net.weight(width, width)], (length, width))
    return net.op("Add", [made, net.weight(width)], (length, width))


def _feed_forward(draw: st.DrawFn, net: Network, value: str, *, gate: bool) -> str:
    length, width = net.shapes[value]
    inner = draw(st.integers(1, 16))
    if gate and draw(st.booleans()):  # both in one product
        both = net.op("MatMul", [value, net.weight(width, 2 * inner)], (length, 2 * inner))
        up, other = net.several("Split", [both], [(length, inner)] * 2, axis=-1, num_outputs=2)
        up = net.op("Mul", [up, net.op("Sigmoid", [other], (length, inner))], (length, inner))
        return net.op("MatMul", [up, net.weight(inner, width)], (length, width))
    up = net.op("MatMul", [value, net.weight(width, inner)], (length, inner))
    if gate:
        other = net.op("MatMul", [value, net.weight(width, inner)], (length, inner))
        up = net.op("Mul", [up, net.op("Sigmoid", [other], (length, inner))], (length, inner))
    else:
        up = net.op("Gelu", [net.op("Add", [up, net.weight(inner)], (length, inner))], (length, inner))
    return net.op("MatMul", [up, net.weight(inner, width)], (length, width))


def _merged(draw: st.DrawFn, net: Network, value: str) -> str:
    """Positions merged with the batch, as GPT-2's export writes its layers; perhaps by sizes that are computed."""
    length, width = net.shapes[value]
    inner = draw(st.integers(1, 16))
    flat = net.op("Reshape", [value, net.numbers(-1, width)], (width,))
    up = net.op("Gemm", [flat, net.weight(width, inner), net.weight(inner)], (inner,))
    if draw(st.booleans()):
        up = net.op("Tanh", [up], (inner,))
    if draw(st.booleans()):
        down = net.op("Gemm", [up, net.weight(inner, width), net.weight(width)], (width,))
        return net.op("Reshape", [down, _sizes(draw, net, value, width)], (length, width))
    back = net.op("Reshape", [up, _sizes(draw, net, value, inner)], (length, inner))
    return net.op("MatMul", [back, net.weight(inner, width)], (length, width))


def _sizes(draw: st.DrawFn, net: Network, value: str, last: int) -> str:
    """[items, positions, last]."""
    if draw(st.booleans()):
        return net.numbers(-1, net.shapes[value][0], last)
    shape = net.op("Shape", [value], (), kind=TensorProto.INT64)
    kept = net.op("Slice", [shape, *map(net.numbers, (0, 2))], (), kind=TensorProto.INT64)
    return net.op("Concat", [kept, net.numbers(last)], (), kind=TensorProto.INT64, axis=0)


def _convolved(draw: st.DrawFn, net: Network, value: str) -> str:
    """A convolution along the sequence that sees no later positions."""
    length, width = net.shapes[value]
    groups = draw(st.sampled_from([1, width]))
    reach = draw(st.integers(1, 3))
    turned = net.op("Transpose", [value], (width, length), perm=[0, 2, 1])
    weight = net.weight(width, width // groups, reach)
    made = net.op("Conv", [turned, weight], (width, length), kernel_shape=[reach], pads=[reach - 1, 0], group=groups)
    return net.op("Transpose", [made], (length, width), perm=[0, 2, 1])


def _recurrent(draw: st.DrawFn, net: Network, value: str, width: int) -> str:
    """Both directions, added up; or one; or only the state that remains, for every position."""
    length = net.shapes[value][0]
    gates, op = draw(st.sampled_from([(1, "RNN"), (3, "GRU"), (4, "LSTM")]))
    way = draw(st.sampled_from(["bidirectional", "bidirectional", "forward", "reverse"]))
    count = 2 if way == "bidirectional" else 1
    turned = net.op("Transpose", [value], (0,), perm=[1, 0, 2])
    weights = [net.weight(count, gates * width, width), net.weight(count, gates * width, width)]
    weights += [net.weight(count, 2 * gates * width)] if draw(st.booleans()) else []
    more = {"linear_before_reset": draw(st.integers(0, 1))} if op == "GRU" else {}
    if draw(st.booleans()):
        made = net.op(op, [turned, *weights], (0,), hidden_size=width, direction=way, **more)
        added = net.op("ReduceSum", [made, net.numbers(1)], (0,), keepdims=0)
        return net.op("Transpose", [added], (length, width), perm=[1, 0, 2])
    _, last = net.several(op, [turned, *weights], [(0,), (0,)], hidden_size=width, direction=way, **more)
    net.nodes[-1].output[0] = ""
    state = net.op("ReduceSum", [last, net.numbers(0)], (width,), keepdims=0)
    return net.op("Mul", [value, net.op("Unsqueeze", [state, net.numbers(1)], (1, width))], (length, width))
