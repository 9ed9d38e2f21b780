"""What was measured of a model, and what is predicted for a plan. Seconds and bytes throughout."""

from __future__ import annotations

from msgspec import Struct

from core.cost.messages import TYPICAL, MessageCosts
from core.cost.moving import BYTE_SECONDS
from core.plan.form import NodeId, Sha256


class Profile(Struct, frozen=True):
    """Time of each layer of a model, measured on this workstation, or on a node."""

    model: Sha256
    batch: int
    """Items in the micro-batch that was timed."""
    threads: int
    layer_seconds: tuple[float, ...]
    """One per layer of the model, for one micro-batch; they add up to ``total_seconds``."""
    total_seconds: float
    """The whole model in one session with onnxruntime's fusions, for one micro-batch."""
    base_bytes: int = 0
    """Resident memory of an agent without shards, where the node does not tell."""
    session_bytes: int = 0
    """That each session of onnxruntime takes beside weights and activations."""
    operator_bytes: int = 0
    """The same of each operator in it."""
    node: NodeId = NodeId("")
    """That it was measured on; "" is this workstation."""
    messages: MessageCosts = TYPICAL
    """Of this workstation."""
    together: float = 1.0
    """Speed of each core of this workstation while all of them run the model, against one alone: they share caches and
    memory."""
    moving_s: float = BYTE_SECONDS
    """For each byte that an operator writes which only moves values or adds them up, on this workstation with one
    thread."""


class Machine(Struct, frozen=True):
    """What a node shares with the other nodes of the same machine."""

    name: str
    """The same for all nodes of one machine."""
    cores: int
    threads: int = 1
    """That the node computes with."""
    cpu_limit: float = 1.0
    here: bool = False
    """The workstation is this machine: sending inputs and taking results costs it time too."""
    link_limit: int = 0
    """Bits per second that the node itself keeps to, each way; 0: none."""
    pinned: int | None = None
    """The one core that the node is bound to; None: it may use any."""
    own_bytes: int = 0
    """Resident memory of the node's agent before it holds any shard; 0: not known."""


class NodePrediction(Struct, frozen=True):
    node: NodeId
    compute_s: float
    """Per micro-batch that the node handles."""
    weight_bytes: int
    activation_bytes: int
    """Of all micro-batches the node holds at once."""
    memory_bytes: int
    """Resident at the most while it runs: weights, each once, activations, sessions, and the agent itself."""
    sent_bytes: int
    """Tensors that leave the node, per micro-batch it handles."""
    share: float
    """Busy share of the node or of its line at steady state, 0..1; 1.0 is the bottleneck."""
    receive_s: float = 0.0
    """Handling of messages that come in, per micro-batch it handles; or that they are on the line, where that is
    longer: then the node computes meanwhile, and the four add up to more than the time between two micro-batches."""
    send_s: float = 0.0
    """The same of those that leave."""
    wait_s: float = 0.0
    """Without anything to do, or without a core to do it on, and with nothing under way to it or from it; per
    micro-batch at steady state."""
    received_bytes: int = 0
    """Tensors that reach the node, per micro-batch it handles."""
    period_s: float = 0.0
    """Between one micro-batch that it handles and the next, at steady state; 0 where it handles none."""


class Prediction(Struct, frozen=True):
    throughput: float
    """Items per second at steady state."""
    latency_s: float
    """One micro-batch through an idle cluster; the slowest replica's where there are several. Under load each also
    waits for others: ``loaded_latency_s``."""
    nodes: tuple[NodePrediction, ...]
    """In the order of the request's nodes."""
    bottleneck: NodeId
    efficiency: float
    """Throughput against the sum of the nodes' own speeds, 0..1: what each would do with the whole model, computing and
    handling its messages, if neither a line nor the workstation nor another node held it up."""
    single_throughput: float
    """Items per second of the best node alone."""
    single_node: NodeId
    """The node that ``single_throughput`` speaks of."""
    notes: tuple[str, ...] = ()
    """What a person should know before deploying: slower than the best node alone, ..."""
    loaded_latency_s: float = 0.0
    """Median of a run's micro-batches while ``in_flight`` of each replica are unfinished at any time."""
    in_flight: int = 1
    timed: bool = False
    """Its shards were timed by themselves (``core.cost.shard_times``); else their time is put together from that of
    their layers."""

    def efficiency_at(self, throughput: float) -> float | None:
        """Of a run of the plan that came to ``throughput`` items per second, against the same speeds; None where
        nothing can be said."""
        return throughput * self.efficiency / self.throughput if self.throughput > 0 and self.efficiency > 0 else None
