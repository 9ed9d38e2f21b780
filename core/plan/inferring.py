"""Types of the values between operators that a partition added."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import onnx_ir as ir

from core.model.shapes import concrete, infer
from core.plan.program import Program, TensorType

_MOST_VALUE_BYTES = 1 << 16
"""Larger constants are declared without their values, which shape inference does not need."""


def with_all_types(program: Program, opsets: Mapping[str, int]) -> Program:
    """The program with a type for every value, by ONNX shape inference; sizes count as fixed. What inference does not
    know has a type without shape."""
    missing = [name for op in program.ops for name in op.outputs if name and name not in program.types]
    if not missing:
        return program
    graph = onnx.GraphProto(name="part")
    for op in program.ops:
        node = onnx.NodeProto(op_type=op.type, domain=op.domain, input=op.inputs, output=op.outputs)
        node.attribute.extend(ir.to_proto(attribute) for attribute in op.attributes.values())
        graph.node.append(node)
    for name in program.inputs:
        graph.input.append(_declared(name, program.types[name]))
    for name, constant in program.constants.items():
        if constant.nbytes <= _MOST_VALUE_BYTES:
            graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(constant.numpy(), order="C"), name))
        else:
            graph.input.append(_declared(name, program.types[name]))
    imports = [onnx.helper.make_opsetid(domain, version) for domain, version in opsets.items()]
    known = infer(onnx.helper.make_model(graph, opset_imports=imports), {})
    types = dict(program.types)
    for name in missing:
        shape, dtype = known.get(name, (None, ""))
        sizes = concrete(shape)
        types[name] = TensorType(dtype, sizes, (False,) * len(sizes) if sizes is not None else None)
    return Program(program.ops, program.inputs, program.outputs, types, program.constants, program.fixed)


def _declared(name: str, held: TensorType) -> onnx.ValueInfoProto:
    return onnx.helper.make_tensor_value_info(
        name, onnx.helper.np_dtype_to_tensor_dtype(np.dtype(held.dtype)), held.shape
    )
