"""The nodes a workstation knows, as a state machine without sockets, threads or clocks.

Every method takes what happened (and the time, monotonic seconds) and returns the effects to carry out, in order.
``core.cluster.client`` owns the sockets and feeds this.

How a node is reached: an *attempt* is one fresh connection that greets the node. An attempt that is not answered in
ATTEMPT_SECONDS is dropped and tried again later, at the node's next address when it has several. A node that talks is
pinged once a second; whatever it sends is a sign of life. When its connection breaks a fresh attempt starts at once,
but the node is called lost only after LOST_AFTER_SECONDS of silence, so a short break is not seen at all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from msgspec.structs import replace

from core import PROTOCOL_VERSION, __version__
from core.cluster.effects import Connect, Disconnect, Effect, Fail, PairWithKeyFile, Say, Sighting, Tell
from core.cluster.events import NodeChanged, NodeRemoved, TelemetryArrived
from core.cluster.node import (
    CONNECTED,
    HEARTBEAT_SECONDS,
    LOST_AFTER_SECONDS,
    Node,
    NodeEvent,
    NodeState,
    next_state,
)
from core.plan.form import NodeId
from core.wire.messages import Failure, Hello, NodeInfo, Ping, Subscribe, Telemetry, Welcome

ATTEMPT_SECONDS: Final = 2.5
RETRY_SECONDS: Final = (0.2, 1.0, 2.0, 5.0)
"""Pauses between attempts that fail in a row; the last one repeats."""
REFUSED_RETRY_SECONDS: Final = 5.0
STALE_TELEMETRY_SECONDS: Final = 2.5
"""A node that answers pings but sends no telemetry is asked for it again."""


@dataclass(slots=True)
class _Record:
    node: Node
    addresses: tuple[str, ...]
    protocol: int
    visible: bool
    """False: a node of earlier days that is looked for silently and shown only when it answers."""
    attempt_ends: float = math.inf
    """While an attempt is under way, when to give it up."""
    retry_at: float = math.inf
    """While there is no connection, when to try again."""
    failures: int = 0
    heard_at: float = -math.inf
    pinged_at: float = -math.inf
    telemetry_at: float = -math.inf
    linked: bool = False
    pair_tried: bool = False
    drained: bool = False
    moved_to: Sighting | None = None
    strange: bool = False
    """Something answers at the address, but not with the node's key."""

    @property
    def address(self) -> str:
        return self.node.address


class Roster:
    """See the module's description. Not thread-safe: it belongs to the cluster's thread."""

    def __init__(self, client_name: str, *, holds_key_file: bool) -> None:
        self._hello = Hello(protocol=PROTOCOL_VERSION, version=__version__, client_name=client_name)
        self._holds_key_file = holds_key_file
        self._records: dict[NodeId, _Record] = {}

    def nodes(self) -> tuple[Node, ...]:
        """Those to show, in the order in which they were met."""
        return tuple(r.node for r in self._records.values() if r.visible)

    def node(self, node_id: NodeId) -> Node | None:
        record = self._records.get(node_id)
        return record.node if record is not None else None

    def is_linked(self, node_id: NodeId) -> bool:
        """Whether a request can be sent now."""
        record = self._records.get(node_id)
        return record is not None and record.linked and record.node.state in CONNECTED

    # ------------------------------------------------------------ where nodes are

    def sighted(self, sighting: Sighting, now: float, *, visible: bool = True) -> list[Effect]:
        """A node is announced or was named by a person."""
        record = self._records.get(sighting.id)
        if record is None:
            return self._met(sighting, now, visible=visible)
        if sighting.source == "local":
            record.node = replace(record.node, source="local")
        appeared = visible and not record.visible
        record.visible = record.visible or visible
        if record.linked and now - record.heard_at < HEARTBEAT_SECONDS + 0.5:
            # It talks to us where it is; an announcement is no proof that it moved.
            if (sighting.addresses[0], sighting.control_port) != (record.node.host, record.node.control_port):
                record.moved_to = sighting
            return self._tell(record) if appeared else []
        self._move(record, sighting)
        return [*self._tell(record), *self._attempt_or_mismatch(record, now)]

    def vanished(self, node_id: NodeId) -> list[Effect]:
        """A node withdrew its announcement. One that talked to us is judged by its heartbeat alone."""
        record = self._records.get(node_id)
        if record is None or record.node.info is not None or record.node.source != "mdns":
            return []
        return self.forget(node_id)

    def forget(self, node_id: NodeId) -> list[Effect]:
        record = self._records.pop(node_id, None)
        if record is None:
            return []
        return [Disconnect(node_id, f"{record.node.name} was removed"), Tell(NodeRemoved(node_id))]

    def _met(self, sighting: Sighting, now: float, *, visible: bool) -> list[Effect]:
        node = Node(
            id=sighting.id,
            name=sighting.name,
            host=sighting.addresses[0],
            control_port=sighting.control_port,
            pairing_port=sighting.pairing_port,
            source=sighting.source,
        )
        record = _Record(node, sighting.addresses, sighting.protocol, visible)
        self._records[sighting.id] = record
        record.node = replace(node, reason=f"connecting to {node.address}")
        return [*self._tell(record), *self._attempt_or_mismatch(record, now)]

    def _move(self, record: _Record, sighting: Sighting) -> None:
        record.addresses = sighting.addresses
        record.protocol = sighting.protocol
        record.moved_to = None
        record.failures = 0
        record.pair_tried = False
        record.node = replace(
            record.node,
            name=sighting.name if record.node.info is None else record.node.name,
            host=sighting.addresses[0],
            control_port=sighting.control_port,
            pairing_port=sighting.pairing_port or record.node.pairing_port,
        )

    # ------------------------------------------------------------ attempts

    def _attempt_or_mismatch(self, record: _Record, now: float) -> list[Effect]:
        if record.protocol == PROTOCOL_VERSION:
            return self._attempt(record, now)
        return self._mismatched(record, f"speaks protocol {record.protocol}", now)

    def _attempt(self, record: _Record, now: float) -> list[Effect]:
        if record.moved_to is not None:
            self._move(record, record.moved_to)
        record.attempt_ends = now + ATTEMPT_SECONDS
        record.retry_at = math.inf
        record.linked = False
        record.strange = False
        node = record.node
        if node.source == "local" and self._holds_key_file and node.pairing_port is not None and not record.pair_tried:
            return self._pair(record)
        return [Connect(node.id, node.host, node.control_port, self._hello)]

    def _pair(self, record: _Record) -> list[Effect]:
        assert record.node.pairing_port is not None
        record.pair_tried = True
        record.attempt_ends = math.inf  # its end is reported by paired() or pairing_failed()
        return [PairWithKeyFile(record.node.id, record.node.host, record.node.pairing_port)]

    def _attempt_failed(self, record: _Record, now: float) -> list[Effect]:
        pause = RETRY_SECONDS[min(record.failures, len(RETRY_SECONDS) - 1)]
        record.failures += 1
        record.attempt_ends = math.inf
        record.retry_at = now + pause
        record.linked = False
        where = record.address
        what = (
            f"what answers at {where} is not this node but another key or program: pair it again if it was reinstalled"
            if record.strange
            else f"does not answer at {where}"
        )
        index = (record.addresses.index(record.node.host) + 1) if record.node.host in record.addresses else 0
        record.node = replace(record.node, host=record.addresses[index % len(record.addresses)])
        effects: list[Effect] = [Disconnect(record.node.id, f"{record.node.name} does not answer at {where}")]
        if record.node.state is not NodeState.DISCOVERED:
            return effects  # whether it is lost is for the silence to say
        return effects + self._step(record, NodeEvent.SILENT, what)

    # ------------------------------------------------------------ what came of an attempt

    def welcomed(self, node_id: NodeId, welcome: Welcome, now: float) -> list[Effect]:
        """Hello was answered."""
        record = self._records.get(node_id)
        if record is None:
            return []
        if welcome.protocol != PROTOCOL_VERSION:
            return self._mismatched(record, f"speaks protocol {welcome.protocol}", now)
        if welcome.info.id != node_id:
            return self._refused_with(record, f"{record.address} says it is another node than its key shows", now)
        record.visible = True
        record.linked = True
        record.failures = 0
        record.attempt_ends = math.inf
        record.heard_at = record.pinged_at = record.telemetry_at = now
        record.node = replace(record.node, info=welcome.info, name=welcome.info.name)
        effects: list[Effect] = [Say(node_id, Subscribe())]
        effects += self._step(record, NodeEvent.WELCOMED, "")
        if record.drained and record.node.state is not NodeState.DRAINED:
            effects += self._step(record, NodeEvent.DRAIN, "taken out of use")
        return effects

    def greeting_failed(self, node_id: NodeId, failure: Failure, now: float) -> list[Effect]:
        """Hello was answered with a failure."""
        record = self._records.get(node_id)
        if record is None:
            return []
        if failure.code == "version":
            return self._mismatched(record, failure.message, now)
        if failure.code == "untrusted":
            return self.refused(node_id, now)
        return self._refused_with(record, failure.message, now)

    def refused(self, node_id: NodeId, now: float) -> list[Effect]:
        """The node does not accept our key."""
        record = self._records.get(node_id)
        if record is None:
            return []
        node = record.node
        if self._holds_key_file and node.pairing_port is not None and not record.pair_tried:
            waiting = "not paired yet: trying the key file of this workstation"
            return [
                Disconnect(node_id, waiting),
                *self._step(record, NodeEvent.REFUSED, waiting),
                *self._pair(record),
            ]
        return self._refused_with(record, self.pairing_words(node), now)

    @staticmethod
    def pairing_words(node: Node) -> str:
        unusual = node.pairing_port not in {None, node.control_port + 1}
        port = f" --pairing-port {node.pairing_port}" if unusual else ""
        return (
            "not paired with this workstation: pair it with the code it shows "
            f"(shardboard pair {node.address} CODE{port})"
        )

    def paired(self, node_id: NodeId, now: float) -> list[Effect]:
        record = self._records.get(node_id)
        return self._attempt(record, now) if record is not None else []

    def pairing_failed(self, node_id: NodeId, now: float) -> list[Effect]:
        """The key file did not open it, or its pairing port did not answer; the plain attempt then says what is so."""
        record = self._records.get(node_id)
        if record is None:
            return []
        if record.node.source == "local":
            return self._attempt(record, now)
        return self._refused_with(record, self.pairing_words(record.node), now)

    def _refused_with(self, record: _Record, reason: str, now: float) -> list[Effect]:
        record.linked = False
        record.attempt_ends = math.inf
        record.retry_at = now + REFUSED_RETRY_SECONDS
        return [Disconnect(record.node.id, reason), *self._step(record, NodeEvent.REFUSED, reason)]

    def _mismatched(self, record: _Record, what: str, now: float) -> list[Effect]:
        record.linked = False
        record.attempt_ends = math.inf
        record.retry_at = now + REFUSED_RETRY_SECONDS if record.protocol == PROTOCOL_VERSION else math.inf
        reason = (
            f"{what}; this workstation runs Shardboard {__version__} with protocol {PROTOCOL_VERSION}: "
            "install the same version on both"
        )
        return [Disconnect(record.node.id, reason), *self._step(record, NodeEvent.MISMATCHED, reason)]

    def disconnected(self, node_id: NodeId, now: float) -> list[Effect]:
        """The connection broke, or could not be made."""
        record = self._records.get(node_id)
        if record is None or math.isfinite(record.retry_at):
            return []
        if record.linked:
            return self._attempt(record, now)
        return []  # the attempt under way ends by itself

    def not_itself(self, node_id: NodeId) -> None:
        """The handshake broke off: something answers that does not hold the node's key."""
        record = self._records.get(node_id)
        if record is not None:
            record.strange = True

    # ------------------------------------------------------------ what a connected node says

    def heard(self, node_id: NodeId, now: float) -> None:
        """Any message from the node is a sign of life."""
        record = self._records.get(node_id)
        if record is not None:
            record.heard_at = now

    def ponged(self, node_id: NodeId, seconds: float) -> list[Effect]:
        """A ping was answered after so long."""
        record = self._records.get(node_id)
        if record is not None:
            before = record.node.rtt_s
            record.node = replace(record.node, rtt_s=seconds if before is None else 0.7 * before + 0.3 * seconds)
        return []

    def telemetry(self, node_id: NodeId, telemetry: Telemetry, now: float) -> list[Effect]:
        record = self._records.get(node_id)
        if record is None or record.node.state not in CONNECTED:
            return []
        record.telemetry_at = now
        before = record.node
        record.node = replace(before, telemetry=telemetry, owner=telemetry.owner)
        held = bool(telemetry.deployment)
        state = next_state(before.name, before.state, NodeEvent.HELD if held else NodeEvent.FREE)
        reason = before.reason if state is NodeState.DRAINED else f"held by {telemetry.owner}" if held else ""
        effects: list[Effect] = [Tell(TelemetryArrived(node_id, telemetry))]
        if (state, reason, telemetry.owner) == (before.state, before.reason, before.owner):
            return effects
        record.node = replace(record.node, state=state, reason=reason)
        return [*self._tell(record), *effects]

    def info_changed(self, node_id: NodeId, info: NodeInfo) -> list[Effect]:
        record = self._records.get(node_id)
        if record is None or info.id != node_id:
            return []
        before = record.node
        speed = before.speed
        if speed is not None and before.info is not None:
            speed *= info.cpu_limit / before.info.cpu_limit
        record.node = replace(before, info=info, name=info.name, speed=speed)
        return self._tell(record)

    def measured(self, node_id: NodeId, speed: float) -> list[Effect]:
        record = self._records.get(node_id)
        if record is None:
            return []
        record.node = replace(record.node, speed=speed)
        return self._tell(record)

    # ------------------------------------------------------------ what a person decides

    def drain(self, node_id: NodeId) -> list[Effect]:
        """Take a node out of use until resume(), also when it goes and comes back."""
        record = self._records.get(node_id)
        if record is None:
            return []
        record.drained = True
        if record.node.state not in CONNECTED:
            return []
        return self._step(record, NodeEvent.DRAIN, "taken out of use")

    def resume(self, node_id: NodeId) -> list[Effect]:
        record = self._records.get(node_id)
        if record is None:
            return []
        record.drained = False
        return self._step(record, NodeEvent.RESUME, "") if record.node.state is NodeState.DRAINED else []

    # ------------------------------------------------------------ time

    def tick(self, now: float) -> list[Effect]:
        """To be called a few times a second."""
        effects: list[Effect] = []
        for record in tuple(self._records.values()):
            effects += self._tick(record, now)
        return effects

    def _tick(self, record: _Record, now: float) -> list[Effect]:
        effects: list[Effect] = []
        silence = now - record.heard_at
        if record.node.state in CONNECTED and silence >= LOST_AFTER_SECONDS:
            effects += self._lost(record)
        if now >= record.attempt_ends:
            effects += self._attempt_failed(record, now)
        elif now >= record.retry_at or self._is_mute(record, silence):
            effects += self._attempt(record, now)
        elif record.linked:
            effects += self._keep_in_touch(record, now)
        return effects

    @staticmethod
    def _is_mute(record: _Record, silence: float) -> bool:
        """Connected, yet silent for so long that another way should be tried."""
        moved = record.moved_to is not None and silence > HEARTBEAT_SECONDS + 0.5
        return record.linked and (moved or silence >= LOST_AFTER_SECONDS)

    def _keep_in_touch(self, record: _Record, now: float) -> list[Effect]:
        effects: list[Effect] = []
        if now - record.pinged_at >= HEARTBEAT_SECONDS:
            record.pinged_at = now
            effects.append(Say(record.node.id, Ping()))
        if now - record.telemetry_at >= STALE_TELEMETRY_SECONDS:
            record.telemetry_at = now
            effects.append(Say(record.node.id, Subscribe()))
        return effects

    def _lost(self, record: _Record) -> list[Effect]:
        reason = f"no sign of life for {LOST_AFTER_SECONDS:.0f} s from {record.address}"
        record.node = replace(record.node, owner="", telemetry=None, rtt_s=None)
        return [
            Fail(record.node.id, f"{record.node.name} is lost: {reason}"),
            *self._step(record, NodeEvent.SILENT, reason),
        ]

    # ------------------------------------------------------------ helpers

    def _step(self, record: _Record, event: NodeEvent, reason: str) -> list[Effect]:
        before = record.node
        state = next_state(before.name, before.state, event)
        record.node = replace(before, state=state, reason=reason)
        return self._tell(record) if record.node != before else []

    @staticmethod
    def _tell(record: _Record) -> list[Effect]:
        return [Tell(NodeChanged(record.node))] if record.visible else []
