"""BERT-base and GPT-2 small as exporters write them: GELU in pieces, Reshape targets shared by all layers."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import onnx
from onnx import TensorProto

from core.model.reference_graph import GraphWriter

HIDDEN: Final = 768
HEADS: Final = 12
HEAD_SIZE: Final = HIDDEN // HEADS
FEED_FORWARD: Final = 4 * HIDDEN
LAYERS: Final = 12
BERT_VOCABULARY: Final = 30522
BERT_POSITIONS: Final = 512
GPT2_VOCABULARY: Final = 50257
GPT2_POSITIONS: Final = 1024
BERT_TOKENS: Final = 128
"""The sequence length that the panel and benchmarks use unless told otherwise."""
GPT2_TOKENS: Final = 64

_DEVIATION: Final = 0.02  # of the published initialisation of both models
_RESIDUAL_DEVIATION: Final = _DEVIATION / math.sqrt(2 * LAYERS)
_MASKED: Final = -1e9  # added to a score that must not count; far from the end of float32, so sums stay finite


def _linear(graph: GraphWriter, name: str, value: str, before: int, after: int, deviation: float = _DEVIATION) -> str:
    weight = graph.weight(f"{name}.weight", (before, after), deviation)
    bias = graph.weight(f"{name}.bias", (after,), _DEVIATION)
    value = graph.node("MatMul", name, value, weight)
    return graph.node("Add", f"{name}.add", value, bias)


def _layer_norm(graph: GraphWriter, name: str, value: str, epsilon: float, output: str = "") -> str:
    scale, bias = graph.filled(f"{name}.weight", HIDDEN, 1.0), graph.filled(f"{name}.bias", HIDDEN, 0.0)
    outputs = [output] if output else []
    return graph.node("LayerNormalization", name, value, scale, bias, outputs=outputs, axis=-1, epsilon=epsilon)


def _to_heads(graph: GraphWriter, name: str, value: str, perm: tuple[int, int, int, int] = (0, 2, 1, 3)) -> str:
    """(batch, sequence, hidden) -> (batch, heads, sequence, head size), or as ``perm`` says."""
    shape = graph.integers("heads_shape", 0, 0, HEADS, HEAD_SIZE)
    value = graph.node("Reshape", f"{name}.heads", value, shape)
    return graph.node("Transpose", f"{name}.transpose", value, perm=list(perm))


def _attend(graph: GraphWriter, name: str, query: str, key: str, value: str, mask: str) -> str:
    """Softmax(query · key / √head size + mask) · value, heads merged again: (batch, sequence, hidden)."""
    query = _to_heads(graph, f"{name}.query", query)
    key = _to_heads(graph, f"{name}.key", key, (0, 2, 3, 1))
    value = _to_heads(graph, f"{name}.value", value)
    scores = graph.node("MatMul", f"{name}.scores", query, key)
    scores = graph.node("Div", f"{name}.scale", scores, graph.scalar("sqrt_head_size", math.sqrt(HEAD_SIZE)))
    scores = graph.node("Add", f"{name}.mask", scores, mask)
    weights = graph.node("Softmax", f"{name}.softmax", scores, axis=-1)
    context = graph.node("MatMul", f"{name}.context", weights, value)
    context = graph.node("Transpose", f"{name}.context.transpose", context, perm=[0, 2, 1, 3])
    return graph.node("Reshape", f"{name}.merge", context, graph.integers("merged_shape", 0, 0, HIDDEN))


def _gelu_erf(graph: GraphWriter, name: str, value: str) -> str:
    inner = graph.node("Div", f"{name}.div", value, graph.scalar("sqrt_2", math.sqrt(2)))
    inner = graph.node("Erf", f"{name}.erf", inner)
    inner = graph.node("Add", f"{name}.add", inner, graph.scalar("one", 1.0))
    outer = graph.node("Mul", f"{name}.mul", value, inner)
    return graph.node("Mul", f"{name}.half", outer, graph.scalar("half", 0.5))


def _gelu_tanh(graph: GraphWriter, name: str, value: str) -> str:
    inner = graph.node("Pow", f"{name}.pow", value, graph.scalar("three", 3.0))
    inner = graph.node("Mul", f"{name}.cubic", inner, graph.scalar("gelu_cubic", 0.044715))
    inner = graph.node("Add", f"{name}.inner", value, inner)
    inner = graph.node("Mul", f"{name}.scale", inner, graph.scalar("gelu_scale", math.sqrt(2 / math.pi)))
    inner = graph.node("Tanh", f"{name}.tanh", inner)
    inner = graph.node("Add", f"{name}.add", inner, graph.scalar("one", 1.0))
    outer = graph.node("Mul", f"{name}.half", value, graph.scalar("half", 0.5))
    return graph.node("Mul", name, outer, inner)


def _positions(graph: GraphWriter, longest: int) -> str:
    """0, 1, ... sequence - 1 as int64 (sequence,): the beginning of a stored list, as exporters write it."""
    listed = graph.constant("embeddings.position_ids", np.arange(longest))
    shape = graph.node("Shape", "embeddings.shape", "input_ids")
    first, second = graph.integers("axis_0", 0), graph.integers("axis_1", 1)
    length = graph.node("Gather", "embeddings.length", shape, second, axis=0)
    return graph.node("Slice", "embeddings.positions", listed, first, length, first)


def _bert_layer(graph: GraphWriter, name: str, value: str, mask: str, output: str) -> str:
    attention = f"{name}.attention"
    query, key, content = (
        _linear(graph, f"{attention}.self.{part}", value, HIDDEN, HIDDEN) for part in ("query", "key", "value")
    )
    context = _attend(graph, f"{attention}.self", query, key, content, mask)
    context = _linear(graph, f"{attention}.output.dense", context, HIDDEN, HIDDEN)
    value = graph.node("Add", f"{attention}.output.residual", context, value)
    value = _layer_norm(graph, f"{attention}.output.LayerNorm", value, 1e-12)
    inner = _linear(graph, f"{name}.intermediate.dense", value, HIDDEN, FEED_FORWARD)
    inner = _gelu_erf(graph, f"{name}.intermediate.gelu", inner)
    inner = _linear(graph, f"{name}.output.dense", inner, FEED_FORWARD, HIDDEN)
    value = graph.node("Add", f"{name}.output.residual", inner, value)
    return _layer_norm(graph, f"{name}.output.LayerNorm", value, 1e-12, output)


def _bert_mask(graph: GraphWriter, attention_mask: str) -> str:
    """1 = read, 0 = leave out -> what is added to the scores, float32 (batch, 1, 1, sequence)."""
    mask = graph.node("Unsqueeze", "mask.unsqueeze", attention_mask, graph.integers("mask.axes", 1, 2))
    mask = graph.node("Cast", "mask.cast", mask, to=TensorProto.FLOAT)
    mask = graph.node("Sub", "mask.invert", graph.scalar("one", 1.0), mask)
    return graph.node("Mul", "mask", mask, graph.scalar("masked", _MASKED))


def bert_base(graph: GraphWriter) -> onnx.ModelProto:
    dims = ["batch", "sequence"]
    ids, attention_mask, kinds = (
        graph.input(name, dims, TensorProto.INT64) for name in ("input_ids", "attention_mask", "token_type_ids")
    )
    words = graph.weight("embeddings.word_embeddings.weight", (BERT_VOCABULARY, HIDDEN), _DEVIATION)
    types = graph.weight("embeddings.token_type_embeddings.weight", (2, HIDDEN), _DEVIATION)
    places = graph.weight("embeddings.position_embeddings.weight", (BERT_POSITIONS, HIDDEN), _DEVIATION)
    value = graph.node("Gather", "embeddings.word_embeddings", words, ids)
    kind = graph.node("Gather", "embeddings.token_type_embeddings", types, kinds)
    value = graph.node("Add", "embeddings.add_types", value, kind)
    place = graph.node("Gather", "embeddings.position_embeddings", places, _positions(graph, BERT_POSITIONS))
    value = graph.node("Add", "embeddings.add_positions", value, place)
    value = _layer_norm(graph, "embeddings.LayerNorm", value, 1e-12)
    mask = _bert_mask(graph, attention_mask)
    for index in range(LAYERS):
        output = "last_hidden_state" if index == LAYERS - 1 else ""
        value = _bert_layer(graph, f"encoder.layer.{index}", value, mask, output)
    first = graph.node("Gather", "pooler.first", value, graph.constant("first_token", np.array(0, np.int64)), axis=1)
    pooled = _linear(graph, "pooler.dense", first, HIDDEN, HIDDEN)
    graph.node("Tanh", "pooler.activation", pooled, outputs=["pooler_output"])
    return graph.finish(
        {"last_hidden_state": ["batch", "sequence", HIDDEN], "pooler_output": ["batch", HIDDEN]},
        description="BERT-base with seeded random weights.",
        default_dims={"sequence": BERT_TOKENS},
    )


def _causal_mask(graph: GraphWriter, positions: str) -> str:
    """What is added to the scores so that no token sees a later one, float32 (sequence, sequence)."""
    rows = graph.node("Unsqueeze", "mask.rows", positions, graph.integers("mask.row_axis", 1))
    later = graph.node("Greater", "mask.later", positions, rows)
    later = graph.node("Cast", "mask.cast", later, to=TensorProto.FLOAT)
    return graph.node("Mul", "mask", later, graph.scalar("masked", _MASKED))


def _gpt2_layer(graph: GraphWriter, name: str, value: str, mask: str) -> str:
    normal = _layer_norm(graph, f"{name}.ln_1", value, 1e-5)
    joined = _linear(graph, f"{name}.attn.c_attn", normal, HIDDEN, 3 * HIDDEN)
    query, key, content = f"{name}.attn.q", f"{name}.attn.k", f"{name}.attn.v"
    sizes = graph.integers("thirds", HIDDEN, HIDDEN, HIDDEN)
    graph.node("Split", f"{name}.attn.split", joined, sizes, outputs=[query, key, content], axis=2)
    context = _attend(graph, f"{name}.attn", query, key, content, mask)
    context = _linear(graph, f"{name}.attn.c_proj", context, HIDDEN, HIDDEN, _RESIDUAL_DEVIATION)
    value = graph.node("Add", f"{name}.attn.residual", context, value)
    inner = _layer_norm(graph, f"{name}.ln_2", value, 1e-5)
    inner = _linear(graph, f"{name}.mlp.c_fc", inner, HIDDEN, FEED_FORWARD)
    inner = _gelu_tanh(graph, f"{name}.mlp.gelu", inner)
    inner = _linear(graph, f"{name}.mlp.c_proj", inner, FEED_FORWARD, HIDDEN, _RESIDUAL_DEVIATION)
    return graph.node("Add", f"{name}.mlp.residual", inner, value)


def gpt2_small(graph: GraphWriter) -> onnx.ModelProto:
    ids = graph.input("input_ids", ["batch", "sequence"], TensorProto.INT64)
    tokens = graph.random("wte.weight", (GPT2_VOCABULARY, HIDDEN), _DEVIATION)
    value = graph.node("Gather", "wte", graph.constant("wte.weight", tokens), ids)
    places = graph.weight("wpe.weight", (GPT2_POSITIONS, HIDDEN), _DEVIATION)
    positions = _positions(graph, GPT2_POSITIONS)
    place = graph.node("Gather", "wpe", places, positions)
    value = graph.node("Add", "wpe.add", value, place)
    mask = _causal_mask(graph, positions)
    for index in range(LAYERS):
        value = _gpt2_layer(graph, f"h.{index}", value, mask)
    value = _layer_norm(graph, "ln_f", value, 1e-5)
    # The head is the token embedding again; exporters write the transposed copy.
    graph.node("MatMul", "lm_head", value, graph.constant("lm_head.weight", tokens.T), outputs=["logits"])
    return graph.finish(
        {"logits": ["batch", "sequence", GPT2_VOCABULARY]},
        description="GPT-2 small with seeded random weights.",
        default_dims={"sequence": GPT2_TOKENS},
    )
