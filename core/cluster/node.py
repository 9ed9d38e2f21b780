"""What this workstation knows of a node, and the only ways its state may change.

    DISCOVERED ──WELCOMED──▶ TRUSTED ──FREE──▶ READY ◀──FREE · HELD──▶ BUSY
        ▲                       ▲
        └──REFUSED── LOST ──WELCOMED        LOST: from every connected state by SILENT
                                            INCOMPATIBLE: from everywhere by MISMATCHED
                                            DRAINED: taken out of use by a person, until RESUME

* A node is its public key: it may change its name, address and port and stays the same node.
* DISCOVERED: announced or named, but not (yet) talking to us; ``reason`` says why: unpaired, no answer, refused.
* TRUSTED: it accepted our key and told what it is; READY and BUSY follow from its first telemetry.
* BUSY: a deployment holds it; ``owner`` is the workstation, which may be this one.
* LOST: it talked to us once and has been silent for three heartbeats. Hearing from it again makes it TRUSTED.
* Everything else is an error in our own code and raises IllegalTransitionError.
"""

from __future__ import annotations

import enum
from typing import Final, Literal

from msgspec import Struct

from core.plan.form import NodeId
from core.wire.messages import NodeInfo, Telemetry

HEARTBEAT_SECONDS: Final = 1.0
LOST_AFTER_SECONDS: Final = 3.0

NodeSource = Literal["mdns", "address", "local"]


class NodeState(enum.StrEnum):
    DISCOVERED = "discovered"
    TRUSTED = "trusted"
    READY = "ready"
    BUSY = "busy"
    LOST = "lost"
    DRAINED = "drained"
    INCOMPATIBLE = "incompatible"


class NodeEvent(enum.StrEnum):
    WELCOMED = "welcomed"
    """It accepted our key and answered Hello."""
    REFUSED = "refused"
    """It does not accept our key."""
    MISMATCHED = "mismatched"
    """It speaks another protocol version."""
    FREE = "free"
    """Telemetry: no deployment holds it."""
    HELD = "held"
    """Telemetry: a deployment holds it."""
    SILENT = "silent"
    """No sign of life for LOST_AFTER_SECONDS, or no answer to a connection attempt."""
    DRAIN = "drain"
    RESUME = "resume"


class IllegalTransitionError(Exception):
    """Our own bug: names the node, its state and the event."""

    def __init__(self, node: str, state: NodeState, event: NodeEvent) -> None:
        super().__init__(f"node {node} in state {state.name} cannot take event {event.name}")
        self.node = node
        self.state = state
        self.event = event


_S = NodeState
_E = NodeEvent

TRANSITIONS: Final[dict[tuple[NodeState, NodeEvent], NodeState]] = {
    (_S.DISCOVERED, _E.WELCOMED): _S.TRUSTED,
    (_S.DISCOVERED, _E.REFUSED): _S.DISCOVERED,
    (_S.DISCOVERED, _E.MISMATCHED): _S.INCOMPATIBLE,
    (_S.DISCOVERED, _E.SILENT): _S.DISCOVERED,
    (_S.TRUSTED, _E.WELCOMED): _S.TRUSTED,
    (_S.TRUSTED, _E.REFUSED): _S.DISCOVERED,
    (_S.TRUSTED, _E.MISMATCHED): _S.INCOMPATIBLE,
    (_S.TRUSTED, _E.FREE): _S.READY,
    (_S.TRUSTED, _E.HELD): _S.BUSY,
    (_S.TRUSTED, _E.SILENT): _S.LOST,
    (_S.TRUSTED, _E.DRAIN): _S.DRAINED,
    (_S.READY, _E.WELCOMED): _S.TRUSTED,
    (_S.READY, _E.REFUSED): _S.DISCOVERED,
    (_S.READY, _E.MISMATCHED): _S.INCOMPATIBLE,
    (_S.READY, _E.FREE): _S.READY,
    (_S.READY, _E.HELD): _S.BUSY,
    (_S.READY, _E.SILENT): _S.LOST,
    (_S.READY, _E.DRAIN): _S.DRAINED,
    (_S.BUSY, _E.WELCOMED): _S.TRUSTED,
    (_S.BUSY, _E.REFUSED): _S.DISCOVERED,
    (_S.BUSY, _E.MISMATCHED): _S.INCOMPATIBLE,
    (_S.BUSY, _E.FREE): _S.READY,
    (_S.BUSY, _E.HELD): _S.BUSY,
    (_S.BUSY, _E.SILENT): _S.LOST,
    (_S.BUSY, _E.DRAIN): _S.DRAINED,
    (_S.DRAINED, _E.WELCOMED): _S.DRAINED,
    (_S.DRAINED, _E.REFUSED): _S.DISCOVERED,
    (_S.DRAINED, _E.MISMATCHED): _S.INCOMPATIBLE,
    (_S.DRAINED, _E.FREE): _S.DRAINED,
    (_S.DRAINED, _E.HELD): _S.DRAINED,
    (_S.DRAINED, _E.SILENT): _S.LOST,
    (_S.DRAINED, _E.DRAIN): _S.DRAINED,
    (_S.DRAINED, _E.RESUME): _S.TRUSTED,
    (_S.LOST, _E.WELCOMED): _S.TRUSTED,
    (_S.LOST, _E.REFUSED): _S.DISCOVERED,
    (_S.LOST, _E.MISMATCHED): _S.INCOMPATIBLE,
    (_S.LOST, _E.SILENT): _S.LOST,
    (_S.INCOMPATIBLE, _E.WELCOMED): _S.TRUSTED,
    (_S.INCOMPATIBLE, _E.REFUSED): _S.DISCOVERED,
    (_S.INCOMPATIBLE, _E.MISMATCHED): _S.INCOMPATIBLE,
    (_S.INCOMPATIBLE, _E.SILENT): _S.LOST,
}

CONNECTED: Final = frozenset({_S.TRUSTED, _S.READY, _S.BUSY, _S.DRAINED})
"""States in which requests can be sent."""


def next_state(node: str, state: NodeState, event: NodeEvent) -> NodeState:
    """The state after ``event``. Raises IllegalTransitionError where the table has no row."""
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise IllegalTransitionError(node, state, event) from None


class Node(Struct, frozen=True):
    """One node as the workstation sees it now; replaced as a whole at every change."""

    id: NodeId
    name: str
    host: str
    control_port: int
    pairing_port: int | None = None
    state: NodeState = NodeState.DISCOVERED
    reason: str = ""
    """Why it is not ready, in words; "" when there is nothing to say."""
    info: NodeInfo | None = None
    """None until it has trusted us."""
    telemetry: Telemetry | None = None
    """The newest one."""
    source: NodeSource = "mdns"
    rtt_s: float | None = None
    """Seconds from a heartbeat to its answer, smoothed."""
    speed: float | None = None
    """Measured, under its CPU limit; 1.0 is this workstation with one thread."""
    owner: str = ""
    """Name of the workstation whose deployment holds it, or ""."""

    @property
    def address(self) -> str:
        return f"{self.host}:{self.control_port}"

    @property
    def data_endpoint(self) -> str:
        """ "tcp://host:port" of its data socket. Raises ValueError before the node has told its port."""
        if self.info is None:
            raise ValueError(f"node {self.name} has not told its data port yet")
        return f"tcp://{bracketed(self.host)}:{self.info.data_port}"


def bracketed(host: str) -> str:
    """An IPv6 address in brackets, anything else as it is."""
    return f"[{host}]" if ":" in host and not host.startswith("[") else host
