"""What a plan would do, before anything is deployed: throughput, latency, memory and traffic.

A first model: each layer's measured time, divided by the node's speed, plus what a node spends on the bytes it sends
and receives and on each message. At steady state the slowest stage sets the pace. Links count as fast.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from types import MappingProxyType
from typing import Final

import numpy as np
from msgspec import Struct

from core.cost.balance import SEND_SECONDS, balanced_cuts
from core.cost.memory import TYPICAL_BASE_BYTES
from core.cost.tables import Flow, Tables, tables
from core.cost.types import Machine, NodePrediction, Prediction, Profile
from core.errors import PlanError
from core.model.graph import Model
from core.plan.form import NodeId, PlanRequest

__all__ = ["HOP_SECONDS", "IN_FLIGHT", "balanced_cuts", "predict"]

HOP_SECONDS: Final = 150e-6
"""A small message from one process to another, encrypted, as seen by the one that waits for it."""
MESSAGE_SECONDS: Final = 150e-6
"""Processor time that an agent, or the workstation, spends on the messages of one micro-batch, beside their bytes:
measured with agents that ran the digits classifier, 150 to 190 us; ZeroMQ's thread, which encrypts, included."""
IN_FLIGHT: Final = 2
"""Micro-batches that wait at a node, or are under way to it or from it, beside the one that runs."""


class _Load(Struct, frozen=True):
    """One node's part of a plan, for one micro-batch of its own."""

    node: NodeId
    compute_s: float
    cycle_s: float
    """Compute and handling of messages: the least time between two micro-batches."""
    weight_bytes: int
    repacked_bytes: int
    activation_bytes: int
    flow: Flow


class _Work(Struct, frozen=True):
    """What every strategy is worked out from."""

    known: Tables
    seconds: np.ndarray
    """Prefix sums of the layers' seconds at speed 1, for the request's micro-batch."""
    request: PlanRequest
    speeds: Mapping[NodeId, float]
    machines: Mapping[NodeId, Machine]

    def load(self, node: NodeId, first: int, last: int, again: tuple[int, ...], flow: Flow) -> _Load:
        speed = self.speeds.get(node, 1.0)
        extra = sum(float(self.seconds[layer + 1] - self.seconds[layer]) for layer in again)
        compute = (float(self.seconds[last] - self.seconds[first]) + extra) / speed
        machine = self.machines.get(node)
        own_speed = speed / machine.cpu_limit if machine is not None else speed  # a limit slows only the shards
        handling = (MESSAGE_SECONDS + SEND_SECONDS * (flow.received + flow.sent)) / own_speed
        return _Load(
            node=node,
            compute_s=compute,
            cycle_s=compute + handling,
            weight_bytes=self.known.weight_bytes(first, last, again),
            repacked_bytes=self.known.repacked_bytes(first, last),
            activation_bytes=self.known.activation_bytes(first, last) + IN_FLIGHT * (flow.received + flow.sent),
            flow=flow,
        )

    def whole(self, node: NodeId) -> _Load:
        """The whole model on one node."""
        count = self.known.count
        return self.load(node, 0, count, (), self.known.flows((0, count))[0])


def predict(
    profile: Profile,
    model: Model,
    request: PlanRequest,
    speeds: Mapping[NodeId, float],
    machines: Mapping[NodeId, Machine] = MappingProxyType({}),
) -> Prediction:
    """What ``request`` would do on nodes of these speeds (1.0: this workstation with one thread, also where unknown).

    ``machines`` says which nodes share the cores of one machine; a node that is not named has a machine to itself.

    Fast enough to follow a mouse: sums over ranges of layers are kept with the model. PlanError when the request makes
    no sense for the model; cuts left open are balanced first.
    """
    rule = _RULES.get(request.strategy)
    if rule is None:
        raise PlanError(f"There is no strategy {request.strategy!r}.", hint=f"Choose from {', '.join(_RULES)}.")
    known = tables(model, request.micro_batch)
    if len(profile.layer_seconds) != known.count:
        raise PlanError(f"This profile is of another model: it has {len(profile.layer_seconds)} layers.")
    scale = request.micro_batch / profile.batch if model.batchable and model.fixed_batch is None else 1.0
    seconds = np.concatenate([[0.0], np.cumsum(profile.layer_seconds)]) * scale
    if request.strategy == "pipeline" and request.cuts is None:
        in_order = [speeds.get(node, 1.0) for node in request.nodes]
        request = PlanRequest("pipeline", request.nodes, request.micro_batch, balanced_cuts(profile, model, in_order))
    return rule(_Work(known, seconds, request, speeds, machines), profile.base_bytes or TYPICAL_BASE_BYTES)


def _replicas(work: _Work, base: int) -> Prediction:
    """Every node takes micro-batches as it is free."""
    loads = [work.whole(node) for node in work.request.nodes]
    rates = [1 / load.cycle_s for load in loads]
    possible = min(1.0, _room(work, loads, rates))
    throughput = sum(rates) * work.request.micro_batch * possible
    latency = max(load.cycle_s for load in loads) + 2 * HOP_SECONDS
    slowest = max(loads, key=lambda load: load.cycle_s)
    return _prediction(work, base, loads, [possible] * len(loads), throughput, latency, slowest.node)


def _stages(work: _Work, base: int) -> Prediction:
    """Stages follow one another; the slowest is always busy, the others wait for it."""
    cuts = work.request.cuts or ()
    count = work.known.count
    if len(cuts) != len(work.request.nodes) - 1 or any(b <= a for a, b in pairwise((0, *cuts, count))):
        raise PlanError(f"Cuts {list(cuts)} do not divide {count} layers among {len(work.request.nodes)} nodes.")
    bounds = (0, *cuts, count)
    again = ((), *(work.known.cuts[position - 1].recomputed for position in cuts))
    loads = [
        work.load(node, first, last, rerun, flow)
        for node, (first, last), rerun, flow in zip(
            work.request.nodes, pairwise(bounds), again, work.known.flows(bounds), strict=True
        )
    ]
    slowest = max(loads, key=lambda load: load.cycle_s)
    possible = min(1.0, _room(work, loads, [1 / slowest.cycle_s] * len(loads)))
    shares = [load.cycle_s / slowest.cycle_s * possible for load in loads]
    latency = sum(load.cycle_s for load in loads) + (len(loads) + 1) * HOP_SECONDS
    throughput = work.request.micro_batch / slowest.cycle_s * possible
    return _prediction(work, base, loads, shares, throughput, latency, slowest.node)


def _room(work: _Work, loads: list[_Load], rates: list[float]) -> float:
    """Cores that the busiest machine has over cores that it would need; ``rates`` are micro-batches per second.

    Below 1.0 the nodes of that machine, and the workstation where it is the same one, get in each other's way.
    """
    needed: dict[str, float] = {}
    cores: dict[str, int] = {}
    through = sum(rates) if work.request.strategy != "pipeline" else rates[0]
    for load, rate in zip(loads, rates, strict=True):
        machine = work.machines.get(load.node)
        if machine is None:
            continue
        if machine.name not in needed:
            cores[machine.name] = machine.cores
            needed[machine.name] = through * MESSAGE_SECONDS if machine.here else 0.0
        computing = load.compute_s * machine.cpu_limit * machine.threads
        needed[machine.name] += rate * (computing + load.cycle_s - load.compute_s)
    return min((cores[name] / cores_needed for name, cores_needed in needed.items() if cores_needed), default=1.0)


_RULES: Final[Mapping[str, Callable[[_Work, int], Prediction]]] = MappingProxyType(
    {"single": _replicas, "replicate": _replicas, "pipeline": _stages}
)


def _prediction(
    work: _Work,
    base: int,
    loads: list[_Load],
    shares: list[float],
    throughput: float,
    latency: float,
    bottleneck: NodeId,
) -> Prediction:
    items = work.request.micro_batch
    alone = [work.whole(node) for node in work.request.nodes]
    best = min(alone, key=lambda load: load.cycle_s)
    single = items / best.cycle_s
    possible = sum(items / load.compute_s for load in alone)
    return Prediction(
        throughput=throughput,
        latency_s=latency,
        nodes=tuple(_node(load, share, base) for load, share in zip(loads, shares, strict=True)),
        bottleneck=bottleneck,
        efficiency=throughput / possible,
        single_throughput=single,
        single_node=best.node,
        notes=(*_sharing_notes(work, shares), *_notes(throughput, single)) if len(loads) > 1 else (),
    )


def _node(load: _Load, share: float, base: int) -> NodePrediction:
    return NodePrediction(
        node=load.node,
        compute_s=load.compute_s,
        weight_bytes=load.weight_bytes,
        activation_bytes=load.activation_bytes,
        memory_bytes=load.weight_bytes + load.repacked_bytes + load.activation_bytes + base,
        sent_bytes=load.flow.sent,
        share=share,
    )


def _sharing_notes(work: _Work, shares: list[float]) -> tuple[str, ...]:
    if max(shares) >= 1.0:
        return ()
    machines = [work.machines[node] for node in work.request.nodes if node in work.machines]
    crowded = max(machines, key=lambda machine: sum(other.name == machine.name for other in machines) / machine.cores)
    return (f"{crowded.name} has {crowded.cores} cores for its agents: at best {max(shares):.0%} busy each.",)


def _notes(throughput: float, single: float) -> tuple[str, ...]:
    if throughput >= single:
        return ()
    slower = f"Slower than the best node alone: {throughput:.3g} against {single:.3g} items/s."
    return (f"{slower} Leave out the slowest node, move the cuts, or use strategy single.",)
