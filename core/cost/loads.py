"""What each node has to do for one micro-batch, and what is known before that is worked out."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from core.cost.links import UNKNOWN, Links, Ways
from core.cost.memory import ARENA, TYPICAL_BASE_BYTES, WORKING_BYTES
from core.cost.messages import IN_FLIGHT, TYPICAL, MessageCosts
from core.cost.moving import BYTE_SECONDS
from core.cost.network import Flow
from core.cost.nodes import NodeCost, node_costs
from core.cost.tables import Tables, tables
from core.cost.types import Machine, Profile
from core.errors import PlanError
from core.model.graph import Model
from core.plan.form import NodeId, PlanRequest


class Load(Struct, frozen=True):
    """One node's part of a replica, for one micro-batch."""

    node: NodeId
    compute_s: float
    """The rest that a CPU limit wants included."""
    receive_s: float
    """That the node is busy with what comes in."""
    send_s: float
    sent_bytes: int
    waiting_bytes: int
    """Of tensors that come in, leave, or lie between two of its shards."""
    weight_bytes: int
    sessions_bytes: int
    """Of all its shards but one beside their weights and tensors; that one is counted with every node."""
    live_bytes: int
    """Peak of the tensors inside its shards."""
    receive_line_s: float = 0.0
    """That what comes in is on the slowest line, or the fullest, that it crosses."""
    send_line_s: float = 0.0
    received_bytes: int = 0

    @property
    def handling_s(self) -> float:
        return self.receive_s + self.send_s

    @property
    def line_s(self) -> float:
        """Lines carry both ways at once."""
        return max(self.receive_line_s, self.send_line_s)

    @property
    def activation_bytes(self) -> int:
        return round(ARENA * (self.live_bytes + IN_FLIGHT * self.waiting_bytes))


class Replica(Struct, frozen=True):
    loads: tuple[Load, ...]
    """One for each of its nodes that has anything to do."""
    rate: float
    """Micro-batches per second, with the workstation to itself and a core for every node."""
    latency_s: float
    client_s: float
    """That the workstation spends on one micro-batch."""
    lines: Mapping[str, float] = {}
    """Seconds that one micro-batch takes of each line."""
    flow: Flow | None = None
    """What was played; None: its rate is right whatever else goes on."""
    under_way: int = 1
    """Micro-batches that may be unfinished at a time."""


class Setting(Struct, frozen=True):
    """What is known before anything is divided."""

    request: PlanRequest
    known: Tables
    layer_seconds: tuple[float, ...]
    """At speed 1, for the request's micro-batch."""
    costs: Mapping[NodeId, NodeCost]
    base_bytes: int
    """Of an agent with a session of all operators, beside weights and tensors."""
    ways: Ways
    messages: MessageCosts = TYPICAL
    """Of the workstation."""
    session_bytes: int = 0
    """Of each shard more on a node."""
    moving_s: float = BYTE_SECONDS
    """As in ``Profile``."""


def setting_of(
    profile: Profile,
    model: Model,
    request: PlanRequest,
    speeds: Mapping[NodeId, float],
    machines: Mapping[NodeId, Machine],
    links: Links = UNKNOWN,
) -> Setting:
    """PlanError when the profile is of another model, there is no node, or a speed is not above 0."""
    known = tables(model, request.micro_batch)
    if len(profile.layer_seconds) != known.count:
        raise PlanError(f"This profile is of another model: it has {len(profile.layer_seconds)} layers.")
    if not request.nodes:
        raise PlanError("A plan needs at least one node.")
    if any(not speeds.get(node, 1.0) > 0 for node in request.nodes):
        raise PlanError("A node's speed must be above 0.")
    scale = request.micro_batch / profile.batch if model.batchable and model.fixed_batch is None else 1.0
    seconds = tuple(scale * taken for taken in profile.layer_seconds)
    costs = node_costs(request.nodes, speeds, machines, profile.messages, profile.together)
    ways = Ways(links, request.nodes, machines)
    own = max((machines[node].own_bytes for node in request.nodes if node in machines), default=0)
    base = own + WORKING_BYTES if own else profile.base_bytes or TYPICAL_BASE_BYTES
    base += profile.session_bytes + profile.operator_bytes * known.count
    return Setting(
        request, known, seconds, costs, base, ways, profile.messages, profile.session_bytes, profile.moving_s
    )
