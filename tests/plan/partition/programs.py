"""Small programs written node by node, divided by a group, and played against the whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
import onnx
import onnx_ir as ir
from onnx import helper

from core.cost.exchange import LinkCost
from core.plan.aims import HEAVY, aim_of
from core.plan.exchange import Names
from core.plan.group import GroupProgram, divide
from core.plan.inferring import with_all_types
from core.plan.layouts import Group, Layout, Partial, Replicated
from core.plan.op_options import Problem
from core.plan.overlaps import overlaps
from core.plan.program import Constant, Op, Program, TensorType
from core.plan.rank_program import hanging_on_constants
from core.plan.search import Found, Step, search
from core.plan.strategy_text import SPATIAL, TENSOR
from tests.plan.partition.joined import Array, part_of, run_group, run_joined

OPSETS = {"": 21, "com.microsoft": 1}


def floats(*shape: int, scale: float = 1.0) -> Array:
    """Always the same for a shape."""
    drawn = np.random.default_rng(sum(shape) + len(shape)).standard_normal(shape) * scale
    return np.asarray(drawn, np.float32)


def node(op_type: str, inputs: str, outputs: str, **attributes: object) -> onnx.NodeProto:
    """Names separated by spaces; "-" where an optional input is absent."""
    names = ["" if name == "-" else name for name in inputs.split()]
    return helper.make_node(op_type, names, outputs.split(), name=outputs.split(maxsplit=1)[0], **attributes)


def program(
    nodes: Sequence[onnx.NodeProto],
    feed: Mapping[str, Array],
    outputs: str,
    weights: Mapping[str, Array] | None = None,
    captures: Mapping[str, str] | None = None,
) -> Program:
    """Node i is layer i. ``captures``: by a node's first output, what its subgraphs read from outside."""
    constants = {name: Constant(ir.Tensor(np.asarray(a, order="C"))) for name, a in (weights or {}).items()}
    types = {n: TensorType(a.dtype.name, a.shape, (False,) * a.ndim) for n, a in (feed | (weights or {})).items()}
    ops = [
        Op(
            one.op_type,
            tuple(one.input),
            tuple(one.output),
            {a.name: ir.from_proto(a) for a in one.attribute},
            one.domain,
            name=one.name,
            layer=layer,
            captures=tuple((captures or {}).get(one.output[0], "").split()),
        )
        for layer, one in enumerate(nodes)
    ]
    fixed = hanging_on_constants(ops, constants)
    return with_all_types(Program(tuple(ops), tuple(feed), tuple(outputs.split()), types, constants, fixed), OPSETS)


class Played:
    """A program divided by the search, and what its ranks hold of its outputs.

    ``seconds``: by an operator's first output; others take a millisecond if they are heavy, else a microsecond.
    """

    def __init__(
        self,
        whole: Program,
        feed: Mapping[str, Array],
        shares: Sequence[float] = (0.5, 0.5),
        *,
        kind: str = TENSOR,
        tensor_axis: str | None = None,
        spatial_axis: str | None = None,
        link: LinkCost | None = None,
        seconds: Mapping[str, float] | None = None,
        added_outside: frozenset[str] = frozenset(),
    ) -> None:
        group = Group(tuple(share / sum(shares) for share in shares))
        reach = overlaps(whole, OPSETS[""]) if kind == SPATIAL else {}
        aim = aim_of(kind, whole, group, reach, tensor_axis=tensor_axis, spatial_axis=spatial_axis)
        aim = msgspec.structs.replace(aim, added_outside=added_outside)
        link = link or LinkCost()
        costs = seconds or {}
        self.whole = whole
        self.group = group
        asked = Problem(
            program=whole,
            speeds=shares,
            group=group,
            seconds=lambda op: costs.get(op.outputs[0], 1e-3 if op.type in HEAVY else 1e-6),
            aim=aim,
            link=link,
            overlaps=reach,
            opset=OPSETS[""],
        )
        self.found: Found = search(asked)
        self.divided: GroupProgram = divide(whole, group, self.found, link, OPSETS[""], added_outside)
        self._check(feed)

    def _check(self, feed: Mapping[str, Array]) -> None:
        """Every rank's part of every output is that of the whole."""
        expected = run_joined(
            [self.whole], [], {(0, n): a for n, a in feed.items()}, [(0, name) for name in self.whole.outputs], OPSETS
        )
        held = run_group(self.divided, feed, OPSETS)
        for name, forms in self.divided.exports.items():
            assert forms, name
            for layout, names in forms.items():
                _check_form(expected[0, name], layout, names, held)

    def step(self, output: str) -> Step:
        return next(step for step in self.found.steps if output in step.op.outputs)

    def kind(self, output: str) -> str:
        """How the operator that makes ``output`` is divided: a kind, "" if it follows, "replicated"."""
        choice = self.step(output).choice
        return choice.kind if choice is not None else "replicated"

    def layout(self, output: str) -> Layout:
        choice = self.step(output).choice
        assert choice is not None
        return choice.outputs[self.step(output).op.outputs.index(output)]

    @property
    def collectives(self) -> Counter[tuple[str, str]]:
        """(kind, tensor): 1 each."""
        return Counter({(hop.kind, hop.tensor): 1 for hop in self.divided.hops})

    @property
    def kinds(self) -> Counter[str]:
        return Counter(kind for kind, _ in self.collectives)

    def weights(self, rank: int) -> dict[str, tuple[int, ...]]:
        """Shapes of a rank's constants that are no indices made here."""
        held = self.divided.programs[rank].constants
        return {name: c.shape for name, c in held.items() if len(c.shape) > 1 or c.dtype != "int64"}


def _check_form(whole: Array, layout: Layout, names: Names, held: Mapping[tuple[int, str], Array]) -> None:
    if isinstance(layout, Partial):
        terms = [held[rank, name] for rank, name in enumerate(names) if name is not None]
        assert [rank for rank, name in enumerate(names) if name is not None] == list(layout.ranks)
        assert {term.shape for term in terms} == {whole.shape}
        np.testing.assert_allclose(sum(terms), whole, rtol=0, atol=1e-5 * float(np.abs(whole).max()))
        return
    for rank, name in enumerate(names):
        if name is None:
            assert not isinstance(layout, Replicated)
            assert rank not in layout.ranks
            continue
        want, got = part_of(whole, layout, rank), held[rank, name]
        assert got.dtype == want.dtype
        assert got.shape == want.shape
        if want.dtype.kind == "f":
            scale = float(np.abs(want).max(initial=1e-6))
            np.testing.assert_allclose(got, want, rtol=0, atol=1e-5 * scale)
        else:
            np.testing.assert_array_equal(got, want)
