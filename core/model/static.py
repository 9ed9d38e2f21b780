"""Work out shape arithmetic whose wanted parts are fixed although the batch is not.

Exporters compute the target of a Reshape from the Shape of a tensor, and share such values over all layers. Each
element of a small integer vector is followed as a number, as the name of a dynamic dimension, or as unknown. What is
all numbers becomes a constant; a Reshape to [N, 12, 64] with one open element becomes one to [-1, 12, 64], and elements
that repeat the input's own dimension become 0 (Reshape: keep) or 1 (Expand: keep). What remains open is read from the
shape of an integer model input where one has that dimension, and not from activations: so that masks and targets can
be computed anywhere in a pipeline.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import add, floordiv, mod, mul, sub
from typing import Final, NamedTuple

import numpy as np
import onnx_ir as ir

from core.model.constants import replace_by_constant
from core.model.shapes import Dims, Known, infer, shape_base

_LONGEST: Final = 64
Element = int | str | None


class _Vector(NamedTuple):
    elements: tuple[Element, ...]
    scalar: bool = False

    @property
    def known(self) -> bool:
        return all(isinstance(element, int) for element in self.elements)


def fold_static_shapes(model: ir.Model) -> bool:
    """True if anything in the graph was changed."""
    if not any(node.op_type in ("Shape", "Size") for node in model.graph):
        return False
    known = infer(shape_base(model), _named_inputs(model.graph))
    follower = _Follower(known)
    readers = _DimReaders(model.graph)
    changed = False
    for node in list(model.graph):
        follower.follow(node)
        changed |= _use_constants(model.graph, node, follower)
        if node.op_type in ("Reshape", "Expand") and not node.domain:
            changed |= _fix_target(model.graph, node, follower, known)
        changed |= readers.use(node, follower)
    return changed


def _named_inputs(graph: ir.Graph) -> dict[str, list[int | str | None]]:
    """The inputs' dims; those without a name get one, so that they can be recognised again."""
    return {
        value.name or "": [
            dim if isinstance(dim, int) else (dim.value or f"{value.name}.{axis}")
            for axis, dim in enumerate(value.shape)
        ]
        for value in graph.inputs
        if value.shape is not None
    }


_READER: Final = "dims/"
"""How the names of the nodes begin that read the dimensions of model inputs."""


class _DimReaders:
    """Nodes at the start of the graph that read dynamic dimensions from integer inputs; one per wanted vector."""

    def __init__(self, graph: ir.Graph) -> None:
        self._graph = graph
        self._made = {node.name: node for node in graph if (node.name or "").startswith(_READER)}
        self._start = next((node for node in graph if not (node.name or "").startswith(_READER)), None)
        self._places: dict[str, tuple[ir.Value, int]] = {}
        for value in graph.inputs:
            if value.dtype in _INTEGERS and value.shape is not None:
                for axis, dim in enumerate(value.shape):
                    if not isinstance(dim, int) and dim.value:
                        self._places.setdefault(dim.value, (value, axis))

    def use(self, node: ir.Node, follower: _Follower) -> bool:
        """Take the node's results from the inputs' dimensions, where they are such."""
        if (node.name or "").startswith(_READER):
            return False
        changed = False
        for value in node.outputs:
            vector = follower.vectors.get(value)
            if vector is None or vector.known or value.is_graph_output() or not value.uses():
                continue
            if follower.dtype(value) == "int64" and all(
                isinstance(e, int) or e in self._places for e in vector.elements
            ):
                value.replace_all_uses_with(self._reader(vector))
                changed = True
        return changed

    def _reader(self, vector: _Vector) -> ir.Value:
        if len(vector.elements) == 1:
            source, axis = self._places[str(vector.elements[0])]
            shape = self._node("Shape", f"{source.name}", [source])
            kind = "number" if vector.scalar else "vector"
            index = self._constant(f"{_READER}{axis}/{kind}", np.array(axis if vector.scalar else [axis], np.int64))
            return self._node("Gather", f"{source.name}/{axis}/{kind}", [shape, index])
        parts = [
            self._constant(f"{_READER}constant/{e}", np.array([e], np.int64)) if isinstance(e, int)
            else self._reader(_Vector((e,)))
            for e in vector.elements
        ]  # fmt: skip
        return self._node("Concat", "x".join(map(str, vector.elements)), parts, [ir.AttrInt64("axis", 0)])

    def _node(self, op: str, name: str, inputs: list[ir.Value], attributes: Sequence[ir.Attr] = ()) -> ir.Value:
        full = f"{_READER}{op}/{name}"
        node = self._made.get(full)
        if node is None:
            node = ir.Node("", op, inputs, attributes, name=full)
            node.outputs[0].name = full
            node.outputs[0].dtype = ir.DataType.INT64
            self._made[full] = node
            assert self._start is not None
            self._graph.insert_before(self._start, node)
        return node.outputs[0]

    def _constant(self, name: str, array: np.ndarray) -> ir.Value:
        return _shared_constant(self._graph, name, array)


def _shared_constant(graph: ir.Graph, name: str, array: np.ndarray) -> ir.Value:
    constant = graph.initializers.get(name)
    if constant is None:
        dtype = ir.TensorType(ir.DataType.from_numpy(array.dtype))
        tensor = ir.tensor(array, name=name)
        constant = ir.Value(name=name, shape=ir.Shape(array.shape), type=dtype, const_value=tensor)
        graph.register_initializer(constant)
    return constant


def _use_constants(graph: ir.Graph, node: ir.Node, follower: _Follower) -> bool:
    changed = False
    for value in node.outputs:
        vector = follower.vectors.get(value)
        if vector is None or not vector.known or value.is_graph_output() or not value.uses():
            continue
        dtype = follower.dtype(value)
        if dtype is not None:
            array = np.array(vector.elements[0] if vector.scalar else vector.elements, dtype=dtype)
            replace_by_constant(graph, value, array)
            changed = True
    return changed


def _fix_target(graph: ir.Graph, node: ir.Node, follower: _Follower, known: Known) -> bool:
    if len(node.inputs) < 2 or node.inputs[0] is None or node.inputs[1] is None:
        return False
    vector = follower.vector(node.inputs[1])
    if vector is None or vector.known:
        return False
    dims = known.get(node.inputs[0].name or "", (None, ""))[0]
    target = _expand_target(vector, dims) if node.op_type == "Expand" else _reshape_target(node, vector, dims)
    if target is None:
        return False
    name = f"{node.op_type.lower()}/{'x'.join(map(str, target))}"
    constant = _shared_constant(graph, name, np.array(target, np.int64))
    node.replace_input_with(1, constant)
    return True


def _reshape_target(node: ir.Node, vector: _Vector, dims: Dims) -> list[int] | None:
    keeps_zero = "allowzero" not in node.attributes or node.attributes["allowzero"].as_int() == 0
    target: list[Element] = list(vector.elements)
    open_at = [index for index, element in enumerate(target) if not isinstance(element, int)]
    if len(open_at) > 1 or -1 in target:
        for index in open_at:
            if keeps_zero and dims is not None and index < len(dims) and _same(target[index], dims[index]):
                target[index] = 0
        open_at = [index for index in open_at if not isinstance(target[index], int)]
    if len(open_at) == 1 and -1 not in target and (keeps_zero or 0 not in target):
        target[open_at[0]] = -1
    return _numbers(target)


def _expand_target(vector: _Vector, dims: Dims) -> list[int] | None:
    if dims is None:
        return None
    target: list[Element] = list(vector.elements)
    shift = len(target) - len(dims)
    for index, element in enumerate(target):
        if index >= shift and _same(element, dims[index - shift]):
            target[index] = 1
    return _numbers(target)


def _same(element: Element, dim: Element) -> bool:
    return isinstance(element, str) and element == dim


def _numbers(elements: Sequence[Element]) -> list[int] | None:
    numbers = [element for element in elements if isinstance(element, int)]
    return numbers if len(numbers) == len(elements) else None


class _Follower:
    """Knows the elements of small integer vectors, as far as they can be known."""

    def __init__(self, known: Known) -> None:
        self.vectors: dict[ir.Value, _Vector] = {}
        self._known = known

    def dims(self, value: ir.Value | None) -> Dims:
        return None if value is None else self._known.get(value.name or "", (None, ""))[0]

    def dtype(self, value: ir.Value) -> str | None:
        dtype = self._known.get(value.name or "", (None, ""))[1]
        return dtype if dtype.startswith(("int", "uint", "bool")) else None

    def vector(self, value: ir.Value | None) -> _Vector | None:
        if value is None:
            return None
        if value not in self.vectors and value.is_initializer() and value.const_value is not None:
            tensor = value.const_value
            if tensor.dtype in _INTEGERS and tensor.size <= _LONGEST and len(tensor.shape) <= 1:
                array = tensor.numpy()
                self.vectors[value] = _Vector(tuple(int(x) for x in array.reshape(-1)), array.ndim == 0)
        return self.vectors.get(value)

    def follow(self, node: ir.Node) -> None:
        rule = _RULES.get(node.op_type) if not node.domain else None
        if rule is None:
            return
        found = rule(self, node)
        if found is not None and len(found.elements) <= _LONGEST:
            self.vectors[node.outputs[0]] = found


_Rule = Callable[[_Follower, ir.Node], _Vector | None]
_INTEGERS: Final = frozenset({ir.DataType.INT64, ir.DataType.INT32, ir.DataType.BOOL})


def _attribute(node: ir.Node, name: str, default: int) -> int:
    attribute = node.attributes.get(name)
    return attribute.as_int() if attribute is not None else default


def _shape(follower: _Follower, node: ir.Node) -> _Vector | None:
    dims = follower.dims(node.inputs[0])
    if dims is None:
        return None
    end = _attribute(node, "end", len(dims)) if "end" in node.attributes else len(dims)
    return _Vector(tuple(dims[_attribute(node, "start", 0) : end]))


def _size(follower: _Follower, node: ir.Node) -> _Vector | None:
    dims = follower.dims(node.inputs[0])
    numbers = None if dims is None else _numbers(dims)
    return None if numbers is None else _Vector((int(np.prod(numbers, dtype=np.int64)),), scalar=True)


def _same_elements(follower: _Follower, node: ir.Node) -> _Vector | None:
    if node.op_type == "Cast" and ir.DataType(_attribute(node, "to", 0)) not in _INTEGERS - {ir.DataType.BOOL}:
        return None
    return follower.vector(node.inputs[0])


def _gather(follower: _Follower, node: ir.Node) -> _Vector | None:
    data, indices = follower.vector(node.inputs[0]), follower.vector(node.inputs[1])
    if data is None or data.scalar or indices is None or _attribute(node, "axis", 0) not in (0, -1):
        return None
    numbers, length = _numbers(indices.elements), len(data.elements)
    if numbers is None or any(not -length <= number < length for number in numbers):
        return None
    return _Vector(tuple(data.elements[number] for number in numbers), indices.scalar)


def _slice(follower: _Follower, node: ir.Node) -> _Vector | None:
    data = follower.vector(node.inputs[0])
    if data is None or data.scalar:
        return None
    if len(node.inputs) == 1:  # before operator set 10
        starts, ends = node.attributes["starts"].as_ints(), node.attributes["ends"].as_ints()
        return _Vector(data.elements[starts[0] : ends[0]]) if len(starts) == 1 else None
    given = [follower.vector(value) if value is not None else _Vector(()) for value in node.inputs[1:]]
    if any(vector is None or len(vector.elements) > 1 or not vector.known for vector in given):
        return None
    numbers = [vector.elements[0] if vector and vector.elements else None for vector in given]
    start, end, step = numbers[0], numbers[1], numbers[3] if len(numbers) > 3 else None
    if not isinstance(start, int) or not isinstance(end, int) or (isinstance(step, int) and step <= 0):
        return None
    return _Vector(data.elements[start : end : step if isinstance(step, int) else 1])


def _concat(follower: _Follower, node: ir.Node) -> _Vector | None:
    elements: list[Element] = []
    for value in node.inputs:
        vector = follower.vector(value)
        if vector is not None and not vector.scalar:
            elements.extend(vector.elements)
            continue
        dims = follower.dims(value)
        if dims is None or len(dims) != 1 or not isinstance(dims[0], int) or dims[0] > _LONGEST:
            return None
        elements.extend([None] * dims[0])
    return _Vector(tuple(elements))


def _reshaped(follower: _Follower, node: ir.Node) -> _Vector | None:
    """Reshape, Squeeze and Unsqueeze between a number and a vector."""
    vector, dims = follower.vector(node.inputs[0]), follower.dims(node.outputs[0])
    if vector is None or dims is None or len(dims) > 1 or (not dims and len(vector.elements) != 1):
        return None
    return _Vector(vector.elements, scalar=not dims)


def _arithmetic(
    operation: Callable[[int, int], int], neutral: int | None
) -> Callable[[_Follower, ir.Node], _Vector | None]:
    def element(a: Element, b: Element) -> Element:
        if isinstance(a, int) and isinstance(b, int):
            return operation(a, b) if b != 0 or operation not in (floordiv, mod) else None
        if neutral is not None and b == neutral:
            return a
        return b if neutral is not None and a == neutral and operation in (add, mul) else None

    def rule(follower: _Follower, node: ir.Node) -> _Vector | None:
        pairs = _broadcast([follower.vector(value) for value in node.inputs])
        if pairs is None or follower.dtype(node.outputs[0]) is None:
            return None
        (left, right), scalar = pairs
        if operation in (floordiv, mod) and any(isinstance(e, int) and e < 0 for e in (*left, *right)):
            return None  # ONNX rounds towards zero, Python down
        return _Vector(tuple(element(a, b) for a, b in zip(left, right, strict=True)), scalar)

    return rule


def _broadcast(vectors: Sequence[_Vector | None]) -> tuple[list[tuple[Element, ...]], bool] | None:
    present = [vector for vector in vectors if vector is not None]
    if len(present) != len(vectors):
        return None
    length = max(len(vector.elements) for vector in present)
    if any(len(vector.elements) not in (1, length) for vector in present):
        return None
    rows = [v.elements if len(v.elements) == length else v.elements * length for v in present]
    return rows, all(vector.scalar for vector in present)


def _equal(follower: _Follower, node: ir.Node) -> _Vector | None:
    pairs = _broadcast([follower.vector(value) for value in node.inputs])
    if pairs is None:
        return None
    (left, right), scalar = pairs
    elements: list[Element] = []
    for a, b in zip(left, right, strict=True):
        if isinstance(a, int) and isinstance(b, int):
            elements.append(int(a == b))
        elif (isinstance(a, str) and isinstance(b, int) and b < 0) or (
            isinstance(b, str) and isinstance(a, int) and a < 0
        ):
            elements.append(0)  # a dimension is never negative
        else:
            elements.append(1 if a is not None and a == b else None)
    return _Vector(tuple(elements), scalar)


def _where(follower: _Follower, node: ir.Node) -> _Vector | None:
    rows = _broadcast([follower.vector(value) for value in node.inputs])
    if rows is None or follower.dtype(node.outputs[0]) is None:
        return None
    (conditions, yes, no), scalar = rows
    chosen = [(a if c else b) if isinstance(c, int) else None for c, a, b in zip(conditions, yes, no, strict=True)]
    return _Vector(tuple(chosen), scalar)


def _constant_of_shape(follower: _Follower, node: ir.Node) -> _Vector | None:
    length = follower.vector(node.inputs[0])
    numbers = None if length is None else _numbers(length.elements)
    if numbers is None or len(numbers) != 1 or numbers[0] > _LONGEST or follower.dtype(node.outputs[0]) is None:
        return None
    attribute = node.attributes.get("value")
    fill = int(attribute.as_tensor().numpy().reshape(-1)[0]) if attribute is not None else 0
    return _Vector((fill,) * numbers[0])


_RULES: Final[dict[str, _Rule]] = {
    "Shape": _shape,
    "Size": _size,
    "Identity": _same_elements,
    "Cast": _same_elements,
    "Gather": _gather,
    "Slice": _slice,
    "Concat": _concat,
    "Reshape": _reshaped,
    "Squeeze": _reshaped,
    "Unsqueeze": _reshaped,
    "Add": _arithmetic(add, 0),
    "Sub": _arithmetic(sub, 0),
    "Mul": _arithmetic(mul, 1),
    "Div": _arithmetic(floordiv, 1),
    "Mod": _arithmetic(mod, None),
    "Equal": _equal,
    "Where": _where,
    "ConstantOfShape": _constant_of_shape,
}
