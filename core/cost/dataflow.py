"""What any plan would do, before anything is deployed: its shards and routes are played event by event.

Every replica is played by itself, and those that are alike only once; what all of them share, the workstation and the
cores of machines, is taken into account afterwards (``core.cost.verdict``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import inf
from types import MappingProxyType
from typing import NamedTuple

from msgspec.structs import replace

from core.cost.links import UNKNOWN, WORKSTATION, Links
from core.cost.loads import Load, Replica, Setting, setting_of
from core.cost.messages import IN_FLIGHT
from core.cost.network import Flow, Sent, Traffic, line_seconds, network_of
from core.cost.nodes import share_cores
from core.cost.simulation import CLIENT as OUTSIDE
from core.cost.simulation import Network, latency, rate
from core.cost.types import Machine, Prediction, Profile
from core.cost.verdict import each_alone, prediction
from core.errors import PlanError
from core.model.graph import Model
from core.plan.form import CLIENT, NodeId, ShardId
from core.plan.liveness import peak_bytes
from core.plan.outline import Outline, Part
from core.plan.program import Program


def predict_outline(
    profile: Profile,
    outline: Outline,
    model: Model,
    speeds: Mapping[NodeId, float],
    machines: Mapping[NodeId, Machine] = MappingProxyType({}),
    links: Links = UNKNOWN,
    *,
    in_flight: int | None = None,
    shard_seconds: Mapping[ShardId, float] = MappingProxyType({}),
    whole_seconds: float | None = None,
) -> Prediction:
    """What the plan outlined would do on nodes of these speeds (1.0: this workstation with one thread, also where
    unknown), whatever its strategy.

    ``machines`` says which nodes share the cores of one machine; a node that is not named has a machine to itself.
    ``links`` are the ways between them; what is not known of them counts as loopback.
    ``in_flight`` micro-batches may be unfinished in each replica; None: as many as the runner allows by itself.
    ``shard_seconds`` are those of shards that were timed (``core.cost.shard_times``); of the others, and of all where
    it is empty, the time is put together from their layers. ``whole_seconds`` are those of the whole model in one
    shard, timed in the same way: what one node alone does is then told by them.
    PlanError when the profile is of another model, a speed is not above 0, or the outline is no plan: without shards,
    with one on a node that the request does not name, or with one that never gets its inputs.
    """
    setting = setting_of(profile, model, outline.request, speeds, machines, links)
    stages = 1 + max((part.stage for part in outline.parts), default=0)
    under_way = in_flight if in_flight is not None else IN_FLIGHT * stages
    if under_way < 1:
        raise PlanError(f"At least one micro-batch must be under way at a time, not {under_way}.")
    shared = share_cores(setting.costs.values())
    played: dict[Network, tuple[float, float]] = {}
    replicas = []
    for flow, loads, lines in _Shards(setting, outline, shard_seconds).replicas():
        network = network_of([flow], setting.costs, setting.ways, setting.messages)
        if network not in played:
            try:
                # on shared cores all replicas are played together afterwards
                played[network] = inf if shared else rate(network, under_way), latency(network)
            except ValueError as error:
                raise PlanError(f"This plan never comes to an end: {error}.") from error
        each, whole = played[network]
        replicas.append(Replica(loads, each, whole, network.client_seconds, lines, flow, under_way))
    timed = all(part.id in shard_seconds for part in outline.parts)
    return replace(prediction(setting, replicas, each_alone(setting, whole_seconds)), timed=timed)


def part_seconds(part: Part, setting: Setting) -> float:
    """Of one run at speed 1: the model's operators by their share of each layer, and what the partition added by the
    bytes it writes."""
    done = sum(setting.layer_seconds[layer] * share for layer, share in part.work)
    return done + setting.moving_s * _added_bytes(part.program)


def _added_bytes(program: Program) -> int:
    types, fixed = program.types, program.fixed
    added = (name for op in program.ops if op.layer < 0 for name in op.outputs if name not in fixed)
    return sum(types[name].nbytes for name in added if name in types)


class _Joint(NamedTuple):
    """All that goes from one shard to another, or from or to the client, for one micro-batch."""

    producer: ShardId
    consumer: ShardId
    source: NodeId | None
    """None: the client."""
    target: NodeId | None
    nbytes: int


class _Shards:
    """An outline as flows to play."""

    def __init__(self, setting: Setting, outline: Outline, timed: Mapping[ShardId, float]) -> None:
        self._costs = setting.costs
        self._session_bytes = setting.session_bytes
        self._ways = setting.ways
        self._parts: dict[int, list[Part]] = {}
        for part in outline.parts:
            if part.node not in self._costs:
                raise PlanError(f"Shard {part.id} ({part.label}) is on a node that the plan was not asked for.")
            self._parts.setdefault(part.replica, []).append(part)
        self._seconds = {}
        for part in outline.parts:
            taken = timed[part.id] if part.id in timed else part_seconds(part, setting)
            cpu_limit = self._costs[part.node].cpu_limit
            self._seconds[part.id] = taken + setting.messages.call_seconds(taken, cpu_limit)
        self._live: dict[int, int] = {}
        """By identity of a program: parts of several replicas run the same one."""
        self._joints: dict[int, list[_Joint]] = {number: [] for number in self._parts}
        nbytes: Counter[tuple[ShardId, ShardId]] = Counter()
        for route, size in zip(outline.routes, outline.route_bytes, strict=True):
            nbytes[route.producer, route.consumer] += size
        parts = {part.id: part for part in outline.parts}
        for (producer, consumer), size in nbytes.items():
            ends = parts.get(producer), parts.get(consumer)
            known = [part for part in ends if part is not None]
            if not known or len(known) + (producer == CLIENT) + (consumer == CLIENT) < 2:
                raise PlanError(f"This plan has a route from shard {producer} to {consumer}, but not both of them.")
            if len({part.replica for part in known}) > 1:
                raise PlanError(f"This plan joins shards {producer} and {consumer}, which are of different replicas.")
            source, target = (part.node if part is not None else None for part in ends)
            self._joints[known[0].replica].append(_Joint(producer, consumer, source, target, size))

    def replicas(self) -> Iterator[tuple[Flow, tuple[Load, ...], dict[str, float]]]:
        """The flow of each replica, what each of its nodes has to do, and how long each line is used."""
        for number in sorted(self._parts):
            parts, joints = self._parts[number], self._joints[number]
            nodes = tuple(dict.fromkeys(part.node for part in parts))
            index = {part.id: run for run, part in enumerate(parts)} | {CLIENT: OUTSIDE}
            flow = Flow(
                nodes,
                tuple((nodes.index(part.node), self._seconds[part.id]) for part in parts),
                tuple(Traffic(index[joint.producer], index[joint.consumer], joint.nbytes) for joint in joints),
            )
            loads = tuple(self._load(node, [p for p in parts if p.node == node], joints) for node in nodes)
            yield flow, loads, self._line_seconds(joints)

    def _load(self, node: NodeId, parts: Sequence[Part], joints: Sequence[_Joint]) -> Load:
        cost = self._costs[node]
        leaving = [one for one in joints if one.source == node != one.target]
        coming = [one for one in joints if one.target == node != one.source]
        sent, received = [one.nbytes for one in leaving], [one.nbytes for one in coming]
        kept = [one for one in joints if one.source == node == one.target]
        programs = {id(part.program): part.program for part in parts}.values()
        weights = {key: size for program in programs for key, size in _weights(program, program.constants).items()}
        return Load(
            node=node,
            compute_s=cost.compute_seconds(sum(self._seconds[part.id] for part in parts)),
            receive_s=cost.handling_seconds(len(received), sum(received)),
            send_s=cost.handling_seconds(len(sent), sum(sent)),
            sent_bytes=sum(sent),
            received_bytes=sum(received),
            waiting_bytes=max(_around(part.id, coming, leaving, kept) for part in parts),
            weight_bytes=sum(weights.values()),
            sessions_bytes=self._session_bytes * (len(parts) - 1),
            live_bytes=max(self._live_bytes(program) for program in programs),
            receive_line_s=max(self._line_seconds(coming).values(), default=0.0),
            send_line_s=max(self._line_seconds(leaving).values(), default=0.0),
        )

    def _line_seconds(self, joints: Iterable[_Joint]) -> dict[str, float]:
        apart = (one for one in joints if one.source != one.target)
        return line_seconds(
            (Sent(one.source or WORKSTATION, one.target or WORKSTATION, one.nbytes) for one in apart), self._ways
        )

    def _live_bytes(self, program: Program) -> int:
        found = self._live.get(id(program))
        if found is None:
            found = self._live[id(program)] = peak_bytes(program)
        return found


def _around(shard: ShardId, coming: Iterable[_Joint], leaving: Iterable[_Joint], kept: Iterable[_Joint]) -> int:
    """Bytes that a node holds for one micro-batch while one of its shards runs: what came in for it, what it sends, and
    what lies between the node's shards. Their numbers follow the order in which they run."""
    inputs = sum(one.nbytes for one in coming if one.consumer == shard)
    outputs = sum(one.nbytes for one in leaving if one.producer == shard)
    return inputs + outputs + sum(one.nbytes for one in kept if one.producer <= shard <= one.consumer)


def _weights(program: Program, names: Iterable[str]) -> dict[tuple[int, object], int]:
    """Bytes of the distinct slices of weights behind these names."""
    held = (program.constants[name] for name in names)
    return {(id(constant.tensor), constant.take): constant.nbytes for constant in held}
