"""Making nodes trust this workstation: by a one-time code, or by the shared key file. Everything here may block.

Two pools: what a person asked for waits for what the cluster asks for, so they must not share threads.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Final, Protocol

from core.cluster.node import CONNECTED, Node, NodeSource, NodeState
from core.cluster.reach import probe_tcp
from core.errors import InputError, ProtocolError, ShardboardError, UnreachableError
from core.plan.form import NodeId
from core.wire.keys import KeyPair, keys_from_code, keys_from_secret
from core.wire.messages import PairReply
from core.wire.pairing import pair
from core.wire.trust import KnownNodes

log = logging.getLogger(__name__)

ANSWER_SECONDS: Final = 5.0
PAIR_SECONDS: Final = 5.0
UNASKED_SECONDS: Final = 3.0


class Nodes(Protocol):
    """What an introduction needs of the cluster."""

    def nodes(self) -> tuple[Node, ...]: ...

    def node(self, node_id: NodeId, /) -> Node: ...

    def wait_until(self, condition: Callable[[tuple[Node, ...]], bool], timeout: float) -> bool: ...

    def add_known(
        self,
        node: NodeId,
        host: str,
        control_port: int,
        source: NodeSource = ...,
        *,
        pairing_port: int | None = ...,
        name: str = ...,
    ) -> None: ...


class Introductions:
    """Introduces the workstation ``name`` with ``keys``; ``key_file`` is the shared key, if it holds one."""

    def __init__(
        self, cluster: Nodes, keys: KeyPair, name: str, key_file: bytes | None, known: KnownNodes | None
    ) -> None:
        self._cluster = cluster
        self._keys = keys
        self._name = name
        self._shared = keys_from_secret(key_file) if key_file is not None else None
        self._known = known
        self._asked = ThreadPoolExecutor(max_workers=8, thread_name_prefix="introduce")
        self._unasked = ThreadPoolExecutor(max_workers=4, thread_name_prefix="key-file")
        self.problems: dict[str, str] = {}
        """Why an address that was asked for is not a node yet, in words, by "host:port"."""

    def close(self) -> None:
        """Waits for what is under way, a few seconds at most."""
        self._asked.shutdown(wait=True, cancel_futures=True)
        self._unasked.shutdown(wait=True, cancel_futures=True)

    def add_address(self, host: str, port: int, pairing_port: int) -> Future[NodeId]:
        return self._asked.submit(self._add_address, host, port, pairing_port)

    def pair_with_code(self, host: str, pairing_port: int, code: str) -> Future[NodeId]:
        return self._asked.submit(self._pair_with_code, host, pairing_port, code)

    def pair_with_key_file(self, host: str, pairing_port: int, done: Callable[[bool], None]) -> None:
        """``done`` is called on a pool thread with whether the node accepted the shared key."""
        with suppress(RuntimeError):  # the pool takes nothing new while the cluster is being closed
            self._unasked.submit(self._pair_with_key_file, host, pairing_port, done)

    def _add_address(self, host: str, port: int, pairing_port: int) -> NodeId:
        address = f"{host}:{port}"
        try:
            node = self._reach(host, port, pairing_port)
        except ShardboardError as error:
            self.problems[address] = str(error)
            raise
        self.problems.pop(address, None)
        return node

    def _reach(self, host: str, port: int, pairing_port: int) -> NodeId:
        known = self._known.key_of(host, port) if self._known is not None else None
        for node in self._cluster.nodes():
            if (node.host, node.control_port) == (host, port):
                known = node.id
        if known is None:
            return self._introduce(host, port, pairing_port)
        probe_tcp(host, port)
        self._cluster.add_known(known, host, port, "address", pairing_port=pairing_port)
        node_id = self._await_trust(known)
        if self._known is not None:
            self._known.remember(node_id, self._cluster.node(node_id).name, host, port)
        return node_id

    def _introduce(self, host: str, port: int, pairing_port: int) -> NodeId:
        probe_tcp(host, port)
        hint = f"Pair it with the code it shows: shardboard pair {host}:{port} CODE"
        if self._shared is None:
            raise UnreachableError(f"The node at {host}:{port} is not paired with this workstation.", hint=hint)
        try:
            reply = pair(host, pairing_port, self._shared, self._keys, self._name, PAIR_SECONDS)
        except (UnreachableError, ProtocolError) as error:
            raise UnreachableError(
                f"The node at {host}:{port} is not paired with this workstation.", hint=hint
            ) from error
        return self._paired(host, port, pairing_port, reply)

    def _pair_with_code(self, host: str, pairing_port: int, code: str) -> NodeId:
        secret = keys_from_code(code)
        probe_tcp(host, pairing_port)
        reply = pair(host, pairing_port, secret, self._keys, self._name, PAIR_SECONDS)
        return self._paired(host, reply.control_port, pairing_port, reply)

    def _paired(self, host: str, control_port: int, pairing_port: int, reply: PairReply) -> NodeId:
        if self._known is not None:
            self._known.remember(reply.id, reply.name, host, control_port)
        self._cluster.add_known(reply.id, host, control_port, "address", pairing_port=pairing_port, name=reply.name)
        return self._await_trust(reply.id)

    def _await_trust(self, node_id: NodeId) -> NodeId:
        def settled(nodes: tuple[Node, ...]) -> bool:
            return any(n.id == node_id and (n.state in CONNECTED or n.state is NodeState.INCOMPATIBLE) for n in nodes)

        settled_in_time = self._cluster.wait_until(settled, ANSWER_SECONDS)
        node = self._cluster.node(node_id)
        if settled_in_time and node.state in CONNECTED:
            return node_id
        raise UnreachableError(f"{node.name} at {node.address}: {node.reason}.")

    def _pair_with_key_file(self, host: str, pairing_port: int, done: Callable[[bool], None]) -> None:
        assert self._shared is not None
        try:
            pair(host, pairing_port, self._shared, self._keys, self._name, UNASKED_SECONDS)
        except (UnreachableError, ProtocolError, InputError) as error:
            log.info("key file pairing with %s port %d: %s", host, pairing_port, error)
            done(False)
        else:
            done(True)
