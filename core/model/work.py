"""How much a layer computes: multiply-adds per operator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

import onnx_ir as ir

Shape = tuple[int, ...] | None


def multiply_adds(node: ir.Node, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> int:
    """Multiply-adds of one run; the number of output elements for operators that are not products.

    ``inputs`` and ``outputs`` hold the shapes in the node's order, None where unknown or absent.
    """
    rule = _RULES.get(node.op_type)
    found = rule(node, inputs, outputs) if rule is not None else None
    return found if found is not None else sum(prod(shape) for shape in outputs if shape is not None)


def _at(shapes: Sequence[Shape], index: int) -> Shape:
    return shapes[index] if index < len(shapes) else None


def _int(node: ir.Node, name: str, default: int) -> int:
    attribute = node.attributes.get(name)
    return attribute.as_int() if attribute is not None else default


def _conv(weight: int) -> Callable[[ir.Node, Sequence[Shape], Sequence[Shape]], int | None]:
    def rule(node: ir.Node, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> int | None:
        kernel, output = _at(inputs, weight), _at(outputs, 0)
        # each output element is a sum over one group's input channels and the kernel's window
        return prod(output) * prod(kernel[1:]) if kernel and output else None

    return rule


def _conv_transpose(node: ir.Node, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> int | None:
    source, kernel = _at(inputs, 0), _at(inputs, 1)
    return prod(source) * prod(kernel[1:]) if source and kernel else None


def _matmul(left: int) -> Callable[[ir.Node, Sequence[Shape], Sequence[Shape]], int | None]:
    def rule(node: ir.Node, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> int | None:
        a, output = _at(inputs, left), _at(outputs, 0)
        return prod(output) * a[-1] if a and output is not None else None

    return rule


def _gemm(node: ir.Node, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> int | None:
    a, output = _at(inputs, 0), _at(outputs, 0)
    if a is None or len(a) != 2 or output is None:
        return None
    return prod(output) * (a[0] if _int(node, "transA", 0) else a[1])


def _matmul_nbits(node: ir.Node, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> int | None:
    output = _at(outputs, 0)
    return prod(output) * _int(node, "K", 1) if output is not None else None


def _recurrent(node: ir.Node, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> int | None:
    x, w, r = _at(inputs, 0), _at(inputs, 1), _at(inputs, 2)
    if x is None or w is None or r is None:
        return None
    # the rows of W and R hold all gates of all directions
    return x[0] * x[1] * (prod(w) + prod(r))


def _attention(node: ir.Node, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> int | None:
    """Attention of the ai.onnx domain: Q, K, V in 3 or 4 dimensions (queries x keys, once for scores, once for values)."""
    if node.domain:
        return _fused_attention(node, inputs, outputs)
    query, key, output = _at(inputs, 0), _at(inputs, 1), _at(outputs, 0)
    if query is None or key is None or output is None:
        return None
    past = _at(inputs, 4)
    keys = key[-2] + (past[-2] if past else 0)
    return keys * (prod(query) + prod(output))


def _fused_attention(node: ir.Node, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> int | None:
    """onnxruntime's attention operators: Attention projects (input x weights) first, the others take Q, K, V."""
    source, second, output = _at(inputs, 0), _at(inputs, 1), _at(outputs, 0)
    if source is None or len(source) < 3 or output is None:
        return None
    if node.op_type == "Attention" and second is not None and len(second) == 2:
        return prod(source) * second[1] + 2 * prod(output) * source[1]
    keys = second[1] if second is not None and len(second) == 3 else source[1]
    return 2 * prod(output) * keys


def _einsum(node: ir.Node, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> int | None:
    """Product of the sizes of all letters; an ellipsis counts by the output's further dims."""
    attribute = node.attributes.get("equation")
    if attribute is None:
        return None
    terms = attribute.as_string().replace(" ", "").split("->")[0].split(",")
    sizes: dict[str, int] = {}
    for term, shape in zip(terms, inputs, strict=False):
        if shape is None or "." in term or len(term) != len(shape):
            return None
        for letter, size in zip(term, shape, strict=True):
            sizes[letter] = max(size, sizes.get(letter, 1))
    return prod(sizes.values())


_RULES: dict[str, Callable[[ir.Node, Sequence[Shape], Sequence[Shape]], int | None]] = {
    "Conv": _conv(1),
    "ConvInteger": _conv(1),
    "QLinearConv": _conv(3),
    "FusedConv": _conv(1),
    "NhwcFusedConv": _conv(1),
    "DeformConv": _conv(1),
    "ConvTranspose": _conv_transpose,
    "MatMul": _matmul(0),
    "FusedMatMul": _matmul(0),
    "MatMulInteger": _matmul(0),
    "DynamicQuantizeMatMul": _matmul(0),
    "MatMulIntegerToFloat": _matmul(0),
    "QLinearMatMul": _matmul(0),
    "MatMulNBits": _matmul_nbits,
    "Gemm": _gemm,
    "FusedGemm": _gemm,
    "QGemm": _gemm,
    "RNN": _recurrent,
    "GRU": _recurrent,
    "LSTM": _recurrent,
    "DynamicQuantizeLSTM": _recurrent,
    "Attention": _attention,
    "MultiHeadAttention": _fused_attention,
    "GroupQueryAttention": _fused_attention,
    "Einsum": _einsum,
}
