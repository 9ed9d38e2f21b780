"""Runs a compiled plan in this process, by following its routes: what agents do, without the network."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from core.plan.compile import CompiledPlan
from core.plan.form import CLIENT, Port, Shard, ShardId, Slice
from core.plan.rules import validate_plan

Array = npt.NDArray[Any]


class InProcessPlan:
    def __init__(self, compiled: CompiledPlan) -> None:
        validate_plan(compiled.plan)
        self.plan = compiled.plan
        self._blobs = compiled.blobs
        self._sessions = {shard.id: self._session(shard) for shard in self.plan.shards}

    def infer(self, feed: Mapping[str, Array], replica: int = 0) -> dict[str, Array]:
        """Outputs by name, computed by the shards of one replica as their inputs come."""
        shards = {shard.id: shard for shard in self.plan.shards if shard.replica == replica}
        waiting: dict[ShardId, dict[str, Array]] = {shard_id: {} for shard_id in shards}
        pieces: dict[str, dict[int, list[tuple[tuple[Slice, ...], Array]]]] = defaultdict(lambda: defaultdict(list))
        ready: deque[ShardId] = deque()

        def deliver(producer: ShardId, tensors: Mapping[str, Array]) -> None:
            for route in self.plan.routes:
                if route.producer != producer:
                    continue
                tensor = cut(tensors[route.tensor], route.slices)
                if route.consumer == CLIENT:
                    pieces[route.target][route.term or 0].append((route.at, tensor))
                elif route.consumer in shards:
                    held = waiting[route.consumer]
                    assert route.target not in held
                    held[route.target] = tensor
                    if len(held) == len(shards[route.consumer].inputs):
                        ready.append(route.consumer)

        deliver(CLIENT, feed)
        ran = 0
        while ready:
            shard = shards[ready.popleft()]
            outputs = self._run(shard, waiting[shard.id])
            ran += 1
            deliver(shard.id, outputs)
        assert ran == len(shards), "some shard never had all its inputs"
        return {name: added_up(found) for name, found in pieces.items()}

    def _run(self, shard: Shard, feed: Mapping[str, Array]) -> dict[str, Array]:
        for port in shard.inputs:
            check_port(port, feed[port.name])
        names = [port.name for port in shard.outputs]
        outputs = dict(zip(names, self._sessions[shard.id].run(names, dict(feed)), strict=True))
        for port in shard.outputs:
            check_port(port, outputs[port.name])
        return outputs

    def _session(self, shard: Shard) -> ort.InferenceSession:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        values = []
        for weight in shard.weights:
            array = np.frombuffer(self._blobs.read(weight.blob), weight.dtype).reshape(weight.shape)
            assert array.nbytes == weight.nbytes
            values.append(ort.OrtValue.ortvalue_from_numpy(array))
        options.add_external_initializers([weight.name for weight in shard.weights], values)
        graph = bytes(self._blobs.read(shard.graph))
        assert len(graph) == shard.graph_nbytes
        session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        assert [entry.name for entry in session.get_inputs()] == [port.name for port in shard.inputs]
        assert [entry.name for entry in session.get_outputs()] == [port.name for port in shard.outputs]
        return session


def cut(array: Array, slices: tuple[Slice, ...]) -> Array:
    for one in slices:
        assert 0 <= one.start < one.stop <= array.shape[one.axis]
        array = array[(slice(None),) * one.axis + (slice(one.start, one.stop),)]
    return np.ascontiguousarray(array) if slices else array


def put_together(pieces: list[tuple[tuple[Slice, ...], Array]]) -> Array:
    """The model's output from its pieces, which must cover it once."""
    (at, first), *others = pieces
    if not at:
        assert not others, "an output came twice"
        return first
    shape = list(first.shape)
    for axis in (one.axis for one in at):
        shape[axis] = max(one.stop for place, _ in pieces for one in place if one.axis == axis)
    whole = np.empty(shape, first.dtype)
    covered = np.zeros(shape, np.int8)
    for place, piece in pieces:
        where = [slice(None)] * len(shape)
        for one in place:
            where[one.axis] = slice(one.start, one.stop)
        assert whole[tuple(where)].shape == piece.shape
        whole[tuple(where)] = piece
        covered[tuple(where)] += 1
    assert (covered == 1).all(), "the pieces of an output do not cover it once"
    return whole


def added_up(terms: Mapping[int, list[tuple[tuple[Slice, ...], Array]]]) -> Array:
    """The model's output from the pieces of each of its terms."""
    assert sorted(terms) == list(range(len(terms))), "a term is missing"
    total = put_together(terms[0])
    for term in range(1, len(terms)):
        total = total + put_together(terms[term])
    return total


def check_port(port: Port, array: Array) -> None:
    assert array.dtype == port.dtype, f"{port} got {array.dtype}"
    if port.shape is not None:
        assert array.ndim == len(port.shape), f"{port} got {array.shape}"
        assert all(want is None or want == got for want, got in zip(port.shape, array.shape, strict=True)), (
            f"{port} got {array.shape}"
        )
