"""Random networks on images, signals (1-D) and volumes (3-D), of the operators that real ones are made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

import numpy as np
import onnx
from hypothesis import strategies as st
from onnx import TensorProto

from tests.plan.partition.networks import MOST_ELEMENTS, Network

Step = Callable[[st.DrawFn, Network, str, list[str]], str | None]
"""Adds operators after a value, of the values there are; None where they do not fit it."""


@st.composite
def image_networks(draw: st.DrawFn) -> onnx.ModelProto:
    """Convolutions of every kind, pooling, normalisation, skip connections, resizing; at last, often, a classifier."""
    net = Network(draw(st.integers(0, 1000)))
    sizes = [draw(st.integers(5, 14)) for _ in range(2)]
    return _network(draw, net, sizes, ANYWHERE + ON_IMAGES)


@st.composite
def volume_networks(draw: st.DrawFn) -> onnx.ModelProto:
    """The same along one axis, or along three."""
    net = Network(draw(st.integers(0, 1000)))
    sizes = [draw(st.integers(6, 20))] if draw(st.booleans()) else [draw(st.integers(4, 8)) for _ in range(3)]
    return _network(draw, net, sizes, ANYWHERE)


def _network(draw: st.DrawFn, net: Network, sizes: Sequence[int], steps: tuple[Step, ...]) -> onnx.ModelProto:
    values = [net.input(draw(st.sampled_from([1, 3, 4])), *sizes)]
    for _ in range(draw(st.integers(2, 8))):
        value = draw(st.sampled_from(values[-3:]))
        made = draw(st.sampled_from(steps))(draw, net, value, values)
        if made is not None and prod(net.shapes[made]) <= MOST_ELEMENTS:
            values.append(made)
    match draw(st.sampled_from(["classifier", "classes", "none"])):
        case "classifier":
            _classifier(draw, net, values[-1])
        case "classes":
            shape = net.shapes[values[-1]]
            net.op("ArgMax", [values[-1]], shape[1:], kind=TensorProto.INT64, axis=1, keepdims=0)
    if not net.nodes:
        net.op("Relu", [values[0]], net.shapes[values[0]])
    return net.model()


def _convolution(draw: st.DrawFn, net: Network, value: str, values: list[str]) -> str | None:
    channels = net.shapes[value][0]
    groups = draw(st.sampled_from([g for g in (1, 1, 2, channels) if channels % g == 0]))
    return _conv(draw, net, value, groups, groups * draw(st.integers(1, 8 if groups == 1 else 3)))


def _conv(draw: st.DrawFn, net: Network, value: str, groups: int, out: int) -> str | None:
    channels, *sizes = net.shapes[value]
    kernel = [draw(st.sampled_from([1, 2, 3, 5])) for _ in sizes]
    strides = [draw(st.integers(1, 2)) for _ in sizes]
    dilations = [draw(st.integers(1, 2)) for _ in sizes]
    auto = draw(st.sampled_from(["", "", "", "SAME_UPPER", "SAME_LOWER", "VALID"]))
    if auto.startswith("SAME"):  # onnxruntime has it without dilation only
        dilations = [1] * len(sizes)
    pads = [0 if auto else draw(st.integers(0, size - 1)) for size in kernel * 2]
    found = []
    for axis, size in enumerate(sizes):
        reach = (kernel[axis] - 1) * dilations[axis] + 1
        whole = size + pads[axis] + pads[axis + len(sizes)]
        found.append(-(-size // strides[axis]) if auto.startswith("SAME") else (whole - reach) // strides[axis] + 1)
        if reach > whole:
            return None
    inputs = [value, net.weight(out, channels // groups, *kernel)]
    inputs += [net.weight(out)] if draw(st.booleans()) else []
    where = {"auto_pad": auto} if auto else {"pads": pads}
    made = {"group": groups, "kernel_shape": kernel, "strides": strides, "dilations": dilations}
    return net.op("Conv", inputs, (out, *found), **made, **where)


def _transposed(draw: st.DrawFn, net: Network, value: str, values: list[str]) -> str | None:
    channels, *sizes = net.shapes[value]
    groups = draw(st.sampled_from([g for g in (1, 1, 2) if channels % g == 0]))
    out = draw(st.integers(1, 6))
    kernel = [draw(st.integers(2, 3)) for _ in sizes]
    strides = [draw(st.integers(1, 2)) for _ in sizes]
    pads = [draw(st.integers(0, 1)) for _ in sizes]
    extra = [draw(st.integers(0, stride - 1)) for stride in strides]
    found = [(n - 1) * s + k - 2 * p + e for n, s, k, p, e in zip(sizes, strides, kernel, pads, extra, strict=True)]
    if min(found) < 1:
        return None
    inputs = [value, net.weight(channels, out, *kernel), net.weight(out * groups)]
    made = {"kernel_shape": kernel, "strides": strides, "pads": pads * 2, "output_padding": extra, "group": groups}
    return net.op("ConvTranspose", inputs, (out * groups, *found), **made)


def _pool(draw: st.DrawFn, net: Network, value: str, values: list[str]) -> str | None:
    channels, *sizes = net.shapes[value]
    kernel = [draw(st.integers(2, 3)) for _ in sizes]
    strides = [draw(st.integers(1, 2)) for _ in sizes]
    pads = [draw(st.integers(0, 1)) for _ in kernel * 2]
    op = draw(st.sampled_from(["MaxPool", "AveragePool"]))
    found = []
    for axis, size in enumerate(sizes):
        whole = size + pads[axis] + pads[axis + len(sizes)]
        if whole < kernel[axis]:
            return None
        found.append((whole - kernel[axis]) // strides[axis] + 1)
    more = {"count_include_pad": draw(st.integers(0, 1))} if op == "AveragePool" else {}
    return net.op(op, [value], (channels, *found), kernel_shape=kernel, strides=strides, pads=pads, **more)


def _batch_norm(draw: st.DrawFn, net: Network, value: str, values: list[str]) -> str:
    channels = net.shapes[value][0]
    inputs = [value, *(net.weight(channels) for _ in range(3))]
    variance = net.op("Abs", [net.weight(channels)], (channels,))
    return net.op("BatchNormalization", [*inputs, variance], net.shapes[value], epsilon=0.1)


def _instance_norm(draw: st.DrawFn, net: Network, value: str, values: list[str]) -> str:
    channels = net.shapes[value][0]
    weights = [net.weight(channels), net.weight(channels)]
    return net.op("InstanceNormalization", [value, *weights], net.shapes[value], epsilon=0.1)


def _group_norm(draw: st.DrawFn, net: Network, value: str, values: list[str]) -> str:
    """As one operator, or as PyTorch writes it for opsets that have none."""
    channels, *sizes = net.shapes[value]
    groups = draw(st.sampled_from([g for g in (1, 2, 3, 4) if channels % g == 0]))
    if draw(st.booleans()):
        inputs = [value, net.weight(channels), net.weight(channels)]
        return net.op("GroupNormalization", inputs, net.shapes[value], num_groups=groups, epsilon=0.1)
    length = prod(net.shapes[value]) // groups
    flat = net.op("Reshape", [value, net.numbers(0, groups, -1)], (groups, length))
    ones, zeros = net.constant(np.ones(groups, np.float32)), net.constant(np.zeros(groups, np.float32))
    normed = net.op("InstanceNormalization", [flat, ones, zeros], (groups, length), epsilon=0.1)
    shape = net.op("Shape", [value], (), kind=TensorProto.INT64)
    back = net.op("Reshape", [normed, shape], net.shapes[value])
    for op in ("Mul", "Add"):
        back = net.op(op, [back, net.weight(channels, *[1] * len(sizes))], net.shapes[value])
    return back


def _channels_last_norm(draw: st.DrawFn, net: Network, value: str, values: list[str]) -> str:
    channels, *sizes = net.shapes[value]
    rank = len(sizes) + 2
    turned = net.op("Transpose", [value], (*sizes, channels), perm=[0, *range(2, rank), 1])
    normed = net.op("LayerNormalization", [turned, net.weight(channels)], (*sizes, channels), axis=-1, epsilon=0.1)
    hidden = draw(st.integers(1, 9))
    wide = net.op("MatMul", [normed, net.weight(channels, hidden)], (*sizes, hidden))
    wide = net.op("Add", [net.op("Gelu", [wide], (*sizes, hidden)), net.weight(hidden)], (*sizes, hidden))
    narrow = net.op("MatMul", [wide, net.weight(hidden, channels)], (*sizes, channels))
    back = net.op("Transpose", [narrow], net.shapes[value], perm=[0, rank - 1, *range(1, rank - 1)])
    return net.op("Add", [value, back], net.shapes[value])


def _unary(draw: st.DrawFn, net: Network, value: str, values: list[str]) -> str:
    channels, *sizes = net.shapes[value]
    kind = draw(st.sampled_from(["Relu", "Sigmoid", "HardSwish", "Tanh", "LeakyRelu", "Clip", "PRelu", "Softmax"]))
    match kind:
        case "Clip":
            inputs = [value, net.constant(np.array(-0.5, np.float32)), net.constant(np.array(0.9, np.float32))]
            return net.op("Clip", inputs, net.shapes[value])
        case "PRelu":
            return net.op("PRelu", [value, net.weight(channels, *[1] * len(sizes))], net.shapes[value])
        case "Softmax":
            axis = draw(st.integers(1, len(sizes) + 1))
            return net.op("Softmax", [value], net.shapes[value], axis=axis)
    return net.op(kind, [value], net.shapes[value])


def _binary(draw: st.DrawFn, net: Network, value: str, values: list[str]) -> str:
    alike = [other for other in values if net.shapes[other] == net.shapes[value]]
    op = draw(st.sampled_from(["Add", "Mul", "Sub", "Max"]))
    return net.op(op, [value, draw(st.sampled_from(alike))], net.shapes[value])


def _mask(draw: st.DrawFn, net: Network, value: str, values: list[str]) -> str:
    shape = net.shapes[value]
    alike = [other for other in values if net.shapes[other] == shape]
    limit = net.constant(np.array(0.1, np.float32))
    above = net.op("Greater", [value, limit], shape, kind=TensorProto.BOOL)
    return net.op("Where", [above, draw(st.sampled_from(alike)), limit], shape)


def _concat(draw: st.DrawFn, net: Network, value: str, values: list[str]) -> str:
    channels, *sizes = net.shapes[value]
    alike = [other for other in values if list(net.shapes[other][1:]) == sizes]
    other = draw(st.sampled_from(alike))
    return net.op("Concat", [value, other], (channels + net.shapes[other][0], *sizes), axis=1)


def _split(draw: st.DrawFn, net: Network, value: str, values: list[str]) -> str | None:
    axis = draw(st.integers(0, len(net.shapes[value]) - 1))
    size = net.shapes[value][axis]
    if size < 2:
        return None
    first = draw(st.integers(1, size - 1))
    shapes = [_with(net.shapes[value], axis, n) for n in (first, size - first)]
    left, right = net.several("Split", [value, net.numbers(first, size - first)], shapes, axis=axis + 1)
    return net.op("Concat", [right, left], net.shapes[value], axis=axis + 1)


def _slice(draw: st.DrawFn, net: Network, value: str, values: list[str]) -> str | None:
    """A part, perhaps every second one, perhaps from the end."""
    axis = draw(st.integers(0, len(net.shapes[value]) - 1))
    size = net.shapes[value][axis]
    start = draw(st.integers(0, size - 1))
    stop = draw(st.sampled_from([size, 2**62, -1, start + 1]))
    step = draw(st.sampled_from([1, 1, 2]))
    left = len(range(*slice(start, stop, step).indices(size)))
    if not left:
        return None
    inputs = [value, *map(net.numbers, (start, stop, axis + 1, step))]
    return net.op("Slice", inputs, _with(net.shapes[value], axis, left))


def _scale(draw: st.DrawFn, net: Network, value: str, values: list[str]) -> str:
    """Squeeze and excitation."""
    channels, *sizes = net.shapes[value]
    ones = [1] * len(sizes)
    if draw(st.booleans()):
        pooled = net.op(draw(st.sampled_from(["GlobalAveragePool", "GlobalMaxPool"])), [value], (channels, *ones))
        hidden = draw(st.integers(1, 4))
        pooled = net.op("Conv", [pooled, net.weight(hidden, channels, *ones)], (hidden, *ones))
        pooled = net.op("Relu", [pooled], (hidden, *ones))
        pooled = net.op("Conv", [pooled, net.weight(channels, hidden, *ones)], (channels, *ones))
    else:
        axes = net.numbers(*range(2, len(sizes) + 2))
        op = draw(st.sampled_from(["ReduceMean", "ReduceMax"]))
        flat = net.op(op, [value, axes], (channels,), keepdims=0)
        pooled = net.op("Unsqueeze", [flat, axes], (channels, *ones))
    return net.op("Mul", [value, net.op("Sigmoid", [pooled], (channels, *ones))], net.shapes[value])


def _place_attention(draw: st.DrawFn, net: Network, value: str, values: list[str]) -> str | None:
    _, *sizes = net.shapes[value]
    held = [net.op(op, [value, net.numbers(1)], (1, *sizes), keepdims=1) for op in ("ReduceMean", "ReduceMax")]
    both = net.op("Concat", held, (2, *sizes), axis=1)
    kernel = [3] * len(sizes)
    one = net.op("Conv", [both, net.weight(1, 2, *kernel)], (1, *sizes), kernel_shape=kernel, pads=[1, 1] * len(sizes))
    return net.op("Mul", [value, net.op("Sigmoid", [one], (1, *sizes))], net.shapes[value])


def _non_local(draw: st.DrawFn, net: Network, value: str, values: list[str]) -> str | None:
    """Attention between all positions."""
    channels, *sizes = net.shapes[value]
    places = prod(sizes)
    if places > 150:
        return None
    flat = net.op("Reshape", [value, net.numbers(0, channels, places)], (channels, places))
    turned = net.op("Transpose", [flat], (places, channels), perm=[0, 2, 1])
    q = net.op("MatMul", [turned, net.weight(channels, channels)], (places, channels))
    scores = net.op("Softmax", [net.op("MatMul", [q, flat], (places, places))], (places, places), axis=-1)
    found = net.op("MatMul", [scores, turned], (places, channels))
    back = net.op("Transpose", [found], (channels, places), perm=[0, 2, 1])
    return net.op(
        "Add",
        [value, net.op("Reshape", [back, net.numbers(0, channels, *sizes)], net.shapes[value])],
        net.shapes[value],
    )


def _shuffle(draw: st.DrawFn, net: Network, value: str, values: list[str]) -> str | None:
    channels, *sizes = net.shapes[value]
    groups = draw(st.sampled_from([2, 3]))
    if channels % groups:
        return None
    inner = channels // groups
    apart = net.op("Reshape", [value, net.numbers(0, groups, inner, *sizes)], (groups, inner, *sizes))
    order = [0, 2, 1, *range(3, 3 + len(sizes))]
    turned = net.op("Transpose", [apart], (inner, groups, *sizes), perm=order)
    return net.op("Reshape", [turned, net.numbers(0, channels, *sizes)], net.shapes[value])


def _resize(draw: st.DrawFn, net: Network, value: str, values: list[str]) -> str:
    channels, *sizes = net.shapes[value]
    factors = [draw(st.sampled_from([1, 2])) for _ in sizes]
    found = [size * factor for size, factor in zip(sizes, factors, strict=True)]
    scales = net.constant(np.array([1, 1, *factors], np.float32))
    mode = draw(st.sampled_from(["nearest", "linear"]))
    way = draw(st.sampled_from(["asymmetric", "half_pixel"]))
    return net.op(
        "Resize",
        [value, "", scales],
        (channels, *found),
        mode=mode,
        coordinate_transformation_mode=way,
        nearest_mode="floor",
    )


def _pad(draw: st.DrawFn, net: Network, value: str, values: list[str]) -> str | None:
    channels, *sizes = net.shapes[value]
    mode = draw(st.sampled_from(["constant", "reflect", "edge"]))
    before = [draw(st.integers(0, 2)) for _ in sizes]
    after = [draw(st.integers(0, 2)) for _ in sizes]
    if mode == "reflect" and min(sizes) < 3:
        return None
    inputs = [value, net.numbers(0, 0, *before, 0, 0, *after)]
    if mode == "constant":  # not 0: onnxruntime would fuse it into pooling that allows no such padding
        inputs.append(net.constant(np.array(0.5, np.float32)))
    found = [size + first + last for size, first, last in zip(sizes, before, after, strict=True)]
    return net.op("Pad", inputs, (channels, *found), mode=mode)


def _blocks(draw: st.DrawFn, net: Network, value: str, values: list[str]) -> str | None:
    channels, height, width = net.shapes[value]
    if channels % 4 == 0 and draw(st.booleans()):
        mode = draw(st.sampled_from(["DCR", "CRD"]))
        return net.op("DepthToSpace", [value], (channels // 4, 2 * height, 2 * width), blocksize=2, mode=mode)
    if height % 2 or width % 2:
        return None
    return net.op("SpaceToDepth", [value], (channels * 4, height // 2, width // 2), blocksize=2)


def _windows(draw: st.DrawFn, net: Network, value: str, values: list[str]) -> str | None:
    """A layer on each 2x2 window by itself, the windows merged with the batch."""
    channels, height, width = net.shapes[value]
    if height % 2 or width % 2:
        return None
    high, wide = height // 2, width // 2
    apart = net.op("Reshape", [value, net.numbers(0, channels, high, 2, wide, 2)], (channels, high, 2, wide, 2))
    turned = net.op("Transpose", [apart], (high, wide, 2, 2, channels), perm=[0, 2, 4, 3, 5, 1])
    each = net.op("Reshape", [turned, net.numbers(-1, 4, channels)], (4, channels))
    scores = net.op("MatMul", [each, net.op("Transpose", [each], (channels, 4), perm=[0, 2, 1])], (4, 4))
    mixed = net.op("MatMul", [net.op("Softmax", [scores], (4, 4), axis=-1), each], (4, channels))
    done = net.op("MatMul", [mixed, net.weight(channels, channels)], (4, channels))
    back = net.op("Reshape", [done, net.numbers(-1, high, wide, 2, 2, channels)], (high, wide, 2, 2, channels))
    turned = net.op("Transpose", [back], (channels, high, 2, wide, 2), perm=[0, 5, 1, 3, 2, 4])
    return net.op("Reshape", [turned, net.numbers(0, channels, height, width)], net.shapes[value])


def _with(shape: tuple[int, ...], axis: int, size: int) -> tuple[int, ...]:
    return (*shape[:axis], size, *shape[axis + 1 :])


def _classifier(draw: st.DrawFn, net: Network, value: str) -> None:
    channels, *sizes = net.shapes[value]
    if draw(st.booleans()):
        pooled = net.op("GlobalAveragePool", [value], (channels, *[1] * len(sizes)))
        flat, features = net.op("Flatten", [pooled], (channels,)), channels
    else:
        features = channels * prod(sizes)
        flat = net.op("Reshape", [value, net.numbers(0, -1)], (features,))
    hidden = draw(st.integers(1, 12))
    first = net.op("Gemm", [flat, net.weight(hidden, features), net.weight(hidden)], (hidden,), transB=1)
    last = net.op("MatMul", [net.op("Relu", [first], (hidden,)), net.weight(hidden, 5)], (5,))
    if draw(st.booleans()):
        net.op("Softmax", [last], (5,), axis=-1)
    else:
        net.several("TopK", [last, net.numbers(2)], [(2,), (2,)], axis=-1)
        net.kinds[net.nodes[-1].output[1]] = TensorProto.INT64


ANYWHERE: tuple[Step, ...] = (
    _convolution, _convolution, _convolution, _transposed, _pool, _batch_norm, _instance_norm, _group_norm,
    _channels_last_norm, _unary, _unary, _binary, _binary, _mask, _concat, _split, _slice, _scale, _place_attention,
    _non_local, _shuffle, _resize, _pad,
)  # fmt: skip
ON_IMAGES: tuple[Step, ...] = (_blocks, _windows)
