"""What the roster is told of nodes' whereabouts, and what it wants done in answer."""

from __future__ import annotations

from msgspec import Struct

from core import PROTOCOL_VERSION, __version__
from core.cluster.events import ClusterEvent
from core.cluster.node import NodeSource
from core.plan.form import NodeId
from core.wire.messages import Hello, Request


class Sighting(Struct, frozen=True):
    """Where a node is said to be. Nothing in it is proven until the node answers with its key."""

    id: NodeId
    name: str
    addresses: tuple[str, ...]
    """At least one; the likeliest first."""
    control_port: int
    pairing_port: int | None
    source: NodeSource
    protocol: int = PROTOCOL_VERSION
    version: str = __version__


class Connect(Struct, frozen=True):
    """Open a fresh control connection to the node and greet it; replaces the one that exists."""

    id: NodeId
    host: str
    port: int
    hello: Hello


class Disconnect(Struct, frozen=True):
    """Close the control connection; whatever waits for an answer on it fails with ``reason``."""

    id: NodeId
    reason: str


class Say(Struct, frozen=True):
    """Send a request on the node's connection; its reply comes back to the roster."""

    id: NodeId
    body: Request


class PairWithKeyFile(Struct, frozen=True):
    """Introduce this workstation with the shared key file it holds."""

    id: NodeId
    host: str
    pairing_port: int


class Tell(Struct, frozen=True):
    """Tell the listeners."""

    event: ClusterEvent


class Fail(Struct, frozen=True):
    """The node is lost: requests that wait for an answer fail with ``reason``."""

    id: NodeId
    reason: str


Effect = Connect | Disconnect | Say | PairWithKeyFile | Tell | Fail
