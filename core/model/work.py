"""How much a layer computes: multiply-adds per operator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import NamedTuple

import onnx_ir as ir

Shape = tuple[int, ...] | None


def multiply_adds(node: ir.Node, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> int:
    """Multiply-adds of one run; the number of output elements for operators that are not products.

    ``inputs`` and ``outputs`` hold the shapes in the node's order, None where unknown or absent.
    """
    rule = _RULES.get(node.op_type)
    found = rule(_Run(node, inputs, outputs)) if rule is not None else None
    return found if found is not None else sum(prod(shape) for shape in outputs if shape is not None)


class _Run(NamedTuple):
    node: ir.Node
    inputs: Sequence[Shape]
    outputs: Sequence[Shape]

    def input(self, index: int) -> Shape:
        return self.inputs[index] if index < len(self.inputs) else None

    @property
    def output(self) -> Shape:
        return self.outputs[0] if self.outputs else None

    def number(self, name: str, default: int) -> int:
        attribute = self.node.attributes.get(name)
        return attribute.as_int() if attribute is not None else default


_Rule = Callable[[_Run], int | None]


def _conv(weight: int) -> _Rule:
    def rule(run: _Run) -> int | None:
        kernel, output = run.input(weight), run.output
        # each output element is a sum over one group's input channels and the kernel's window
        return prod(output) * prod(kernel[1:]) if kernel and output is not None else None

    return rule


def _conv_transpose(run: _Run) -> int | None:
    source, kernel = run.input(0), run.input(1)
    return prod(source) * prod(kernel[1:]) if source is not None and kernel else None


def _matmul(run: _Run) -> int | None:
    a, output = run.input(0), run.output
    return prod(output) * a[-1] if a and output is not None else None


def _gemm(run: _Run) -> int | None:
    a, output = run.input(0), run.output
    if a is None or len(a) != 2 or output is None:
        return None
    return prod(output) * (a[0] if run.number("transA", 0) else a[1])


def _matmul_nbits(run: _Run) -> int | None:
    return prod(run.output) * run.number("K", 1) if run.output is not None else None


def _recurrent(run: _Run) -> int | None:
    x, w, r = run.input(0), run.input(1), run.input(2)
    if x is None or w is None or r is None:
        return None
    # the rows of W and R hold all gates of all directions
    return x[0] * x[1] * (prod(w) + prod(r))


def _attention(run: _Run) -> int | None:
    """ONNX's own Attention: each query meets each key, once for the scores and once for the values."""
    if run.node.domain:
        return _fused_attention(run)
    query, key, past, output = run.input(0), run.input(1), run.input(4), run.output
    if query is None or key is None or output is None:
        return None
    return (key[-2] + (past[-2] if past else 0)) * (prod(query) + prod(output))


def _fused_attention(run: _Run) -> int | None:
    """onnxruntime's operators: Attention projects (input x weights) first, the others are given Q, K and V."""
    source, second, output = run.input(0), run.input(1), run.output
    if source is None or len(source) < 3 or output is None:
        return None
    if run.node.op_type == "Attention" and second is not None and len(second) == 2:
        return prod(source) * second[1] + 2 * prod(output) * source[1]
    keys = second[1] if second is not None and len(second) == 3 else source[1]
    return 2 * prod(output) * keys


def _einsum(run: _Run) -> int | None:
    """The product of the sizes of all letters."""
    attribute = run.node.attributes.get("equation")
    if attribute is None:
        return None
    terms = attribute.as_string().replace(" ", "").split("->")[0].split(",")
    sizes: dict[str, int] = {}
    for term, shape in zip(terms, run.inputs, strict=False):
        if shape is None or "." in term or len(term) != len(shape):
            return None
        for letter, size in zip(term, shape, strict=True):
            sizes[letter] = max(size, sizes.get(letter, 1))
    return prod(sizes.values())


_RULES: dict[str, _Rule] = {
    "Conv": _conv(1),
    "ConvInteger": _conv(1),
    "QLinearConv": _conv(3),
    "FusedConv": _conv(1),
    "NhwcFusedConv": _conv(1),
    "DeformConv": _conv(1),
    "ConvTranspose": _conv_transpose,
    "MatMul": _matmul,
    "FusedMatMul": _matmul,
    "MatMulInteger": _matmul,
    "DynamicQuantizeMatMul": _matmul,
    "MatMulIntegerToFloat": _matmul,
    "QLinearMatMul": _matmul,
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
