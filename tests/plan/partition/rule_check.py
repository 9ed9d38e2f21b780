"""Plays one operator rule: every choice, every rank, in onnxruntime, against the operator on whole tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import onnxruntime as ort
from onnx import helper

from core.plan.layouts import REPLICATED, Group, Layout, Partial, Replicated, Segments, Split
from core.plan.older_opsets import in_opset
from core.plan.operators import LINKS, RULES
from core.plan.operators.base import AxisLink, Choice, OpView
from core.plan.program import Constant, Op, TensorType
from core.plan.rank_program import LocalOp, RankProgram

Array = npt.NDArray[Any]
OPSETS = (helper.make_opsetid("", 23), helper.make_opsetid("com.microsoft", 1))


class Case:
    """One operator with real inputs. ``weights`` names the inputs that are constants."""

    def __init__(
        self,
        op_type: str,
        feed: Mapping[str, Array],
        weights: Sequence[str] = (),
        *,
        outputs: int | Sequence[str] = 1,
        inputs: Sequence[str] | None = None,
        domain: str = "",
        opset: int = 23,
        shares: Sequence[float] = (0.5, 0.5),
        segments: Mapping[tuple[str, int], Segments] | None = None,
        overlaps: Mapping[tuple[str, int], tuple[int, ...]] | None = None,
        more_attributes: Mapping[str, Any] | None = None,
        **attributes: Any,
    ) -> None:
        self.feed = {name: np.asarray(array) for name, array in feed.items()}
        self.opset = opset
        self.group = Group(tuple(shares))
        names = tuple(inputs if inputs is not None else feed)
        made = tuple(f"out{i}" for i in range(outputs)) if isinstance(outputs, int) else tuple(outputs)
        held = {attr.name: attr for attr in ir.convenience.convert_attributes(attributes | dict(more_attributes or {}))}
        self.op = Op(op_type, names, made, held, domain, "", "op", 0)
        whole = RankProgram(0)
        LocalOp(whole, self.op, names, made, 1.0).same()
        given = [name for name in made if name]
        self.whole = dict(zip(given, _run(whole, self.feed, given, opset), strict=True))
        arrays = self.feed | self.whole
        types = {n: TensorType(a.dtype.name, a.shape, (False,) * a.ndim) for n, a in arrays.items()}
        constants = {name: Constant(ir.Tensor(np.asarray(self.feed[name], order="C"))) for name in weights}
        self._constants, self._segments, self._overlaps = constants, segments or {}, overlaps or {}
        self.view = self._view(types)

    def _view(self, types: Mapping[str, TensorType]) -> OpView:
        group, constants = self.group, self._constants
        return OpView(self.op, types, constants, frozenset(), group, self._segments, self._overlaps, self.opset)

    def vary(self, axes: Mapping[str, Sequence[int]]) -> None:
        """Declare axes of values whose sizes may change between micro-batches; all others do not."""
        types = {}
        for name, array in (self.feed | self.whole).items():
            varying = tuple(axis in axes.get(name, ()) for axis in range(array.ndim))
            types[name] = TensorType(array.dtype.name, array.shape, varying)
        self.view = self._view(types)

    def choices(self, **have: Layout) -> list[Choice]:
        """What the rule offers when inputs are held like this; those not named are replicated."""
        held = [have.get(name, REPLICATED) if name else None for name in self.op.inputs]
        rule = RULES.get(self.op.key)
        return list(rule(self.view, held)) if rule is not None else []

    def links(self) -> list[AxisLink]:
        return list(LINKS[self.op.key](self.view))

    def check(self, rtol: float = 1e-4, **have: Layout) -> list[Choice]:
        """Play every choice that the rule offers; returns them, for the test to look at which there are."""
        found = self.choices(**have)
        for choice in found:
            self.play(choice, rtol)
        return found

    def play(self, choice: Choice, rtol: float = 1e-4) -> None:
        """Run the choice on every rank and compare what the ranks hold with the whole operator's outputs."""
        assert len(choice.inputs) == len(self.op.inputs)
        assert len(choice.outputs) == len(self.op.outputs)
        assert len(choice.shares) == len(self.group.shares)
        held: dict[str, dict[int, Array]] = {name: {} for name in self.op.outputs}
        for rank in self.group.ranks:
            if not takes_part(choice, rank):
                continue
            feed = {
                name: part_of(self.feed[name], layout, rank)
                for name, layout in zip(self.op.inputs, choice.inputs, strict=True)
                if name and layout is not None
            }
            program = RankProgram(rank)
            made = tuple(f"{name}/local" if name else "" for name in self.op.outputs)
            choice.emit(LocalOp(program, self.op, self.op.inputs, made, 1.0))
            given = [name for name in self.op.outputs if name]
            arrays = _run(program, feed, [name for name in made if name], self.opset)
            for name, array in zip(given, arrays, strict=True):
                held[name][rank] = array
        for name, layout in zip(self.op.outputs, choice.outputs, strict=True):
            if not name:
                continue
            compare(self.whole[name], layout, held[name], rtol)


def takes_part(choice: Choice, rank: int) -> bool:
    """Whether the rank holds something of every wanted input and of some output."""

    def holds(layout: Layout | None) -> bool:
        return layout is None or isinstance(layout, Replicated) or rank in layout.ranks

    return all(map(holds, choice.inputs)) and any(map(holds, choice.outputs))


def part_of(array: Array, layout: Layout, rank: int) -> Array:
    """What a rank holds of an array; the terms of a Partial are random but for the last rank's."""
    if isinstance(layout, Split):
        pieces = [np.take(array, range(start, stop), axis=layout.axis) for start, stop in layout.parts[rank]]
        return np.concatenate(pieces, axis=layout.axis)
    if isinstance(layout, Partial):
        terms = []
        for r in layout.ranks[:-1]:
            noise = np.random.default_rng(r).standard_normal(array.shape)
            terms.append((noise * 3).astype(array.dtype))
        terms.append((array - sum(terms)).astype(array.dtype))
        return terms[layout.ranks.index(rank)]
    return array


def compare(whole: Array, layout: Layout, held: Mapping[int, Array], rtol: float) -> None:
    """What the ranks hold must be the parts of ``whole`` that the layout says, and cover it."""
    if isinstance(layout, Partial):
        assert sorted(held) == list(layout.ranks)
        _close(whole, sum(held[rank].astype(np.float64) for rank in layout.ranks), rtol)
        assert all(array.dtype == whole.dtype for array in held.values())
        return
    if isinstance(layout, Split):
        covered = sorted({i for ranges in layout.parts for start, stop in ranges for i in range(start, stop)})
        assert covered == list(range(whole.shape[layout.axis])), f"{layout} does not cover {whole.shape}"
        assert set(layout.ranks) <= set(held)
    for rank, array in held.items():
        if isinstance(layout, Replicated) or rank in layout.ranks:
            want = part_of(whole, layout, rank)
            assert array.shape == want.shape, f"rank {rank}: {array.shape} instead of {want.shape} under {layout}"
            assert array.dtype == want.dtype
            _close(want, array, rtol)


def _close(want: Array, got: Array, rtol: float) -> None:
    assert want.shape == got.shape
    if not np.issubdtype(want.dtype, np.floating):
        np.testing.assert_array_equal(want, got)
    elif want.size:
        finite = np.isfinite(want)
        np.testing.assert_array_equal(want[~finite], np.asarray(got)[~finite])
        scale = max(float(np.abs(want[finite]).max(initial=0)), 1e-6)
        assert float(np.abs(want[finite] - np.asarray(got)[finite]).max(initial=0)) <= rtol * scale


def _run(program: RankProgram, feed: Mapping[str, Array], outputs: Sequence[str], opset: int) -> list[Array]:
    nodes = []
    read: set[str] = set()
    for written in program.ops:
        op = in_opset(written, opset, program.constants) if written.layer < 0 else written
        read.update(op.inputs)
        node = onnx.NodeProto(op_type=op.type, domain=op.domain, input=op.inputs, output=op.outputs)
        node.attribute.extend(ir.to_proto(attribute) for attribute in op.attributes.values())
        nodes.append(node)
    graph = helper.make_graph(
        nodes,
        "rule",
        [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
            for name, array in feed.items()
            if name in read
        ],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        [onnx.numpy_helper.from_array(np.asarray(c.numpy(), order="C"), n) for n, c in program.constants.items()],
    )
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=10)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [np.asarray(array) for array in session.run(list(outputs), {n: a for n, a in feed.items() if n in read})]
