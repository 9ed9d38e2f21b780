"""Operators that give something else each time they run."""

from __future__ import annotations

from typing import Final

import onnx_ir as ir

CHANCE: Final = frozenset(
    {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli"}
)


def draws(graph: ir.Graph) -> bool:
    """Whether anything in the graph or its subgraphs is drawn at random."""
    return any(node.op_type in CHANCE for node in ir.traversal.RecursiveGraphIterator(graph))
