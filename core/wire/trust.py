"""Who may connect (a node's allow-list) and which nodes a workstation knows. Both are small private JSON files.

A node trusts two kinds of peers: workstations that were paired, for good, and the other nodes of a deployment, lent by
its workstation for as long as the deployment lives. The latter may bring tensors and nothing else.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct

from core.errors import InputError
from core.plan.form import NodeId
from core.wire.keys import is_key, replace_private

_T = TypeVar("_T")


class KnownNode(Struct, frozen=True):
    """Where a node that was paired was last seen."""

    name: str
    host: str
    control_port: int


class TrustStore:
    """A node's allow-list of client public keys (Z85). Any thread may call any method.

    Raises InputError when the file is damaged, so that a damaged file never opens the node.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._clients = _load(path, dict[str, str])
        self._lent: dict[str, frozenset[str]] = {}
        self._allowed = frozenset(self._clients)

    @property
    def clients(self) -> dict[str, str]:
        """Names of the paired workstations by key."""
        with self._lock:
            return dict(self._clients)

    def is_client(self, key: str) -> bool:
        """Whether ``key`` is a paired workstation's."""
        return key in self._clients

    def allows(self, key: str) -> bool:
        """Whether ``key`` belongs to a paired workstation or to a node of a living deployment."""
        return key in self._allowed

    def add(self, key: str, name: str) -> None:
        """Pair a workstation, for good. Raises InputError when ``key`` is not a key."""
        if not is_key(key):
            raise InputError("That is not a public key.")
        with self._lock:
            self._clients = {**self._clients, key: name}
            self._save()

    def remove(self, key: str) -> None:
        """Forget a workstation; unknown keys are ignored."""
        with self._lock:
            self._clients = {k: n for k, n in self._clients.items() if k != key}
            self._save()

    def lend(self, deployment: str, keys: Iterable[str]) -> None:
        """Let the other nodes of ``deployment`` in until it is withdrawn; replaces what was lent to it before."""
        with self._lock:
            self._lent = {**self._lent, deployment: frozenset(keys)}
            self._refresh()

    def withdraw(self, deployment: str) -> None:
        """End what was lent to ``deployment``."""
        with self._lock:
            self._lent = {d: k for d, k in self._lent.items() if d != deployment}
            self._refresh()

    def _save(self) -> None:
        replace_private(self._path, msgspec.json.format(msgspec.json.encode(self._clients)))
        self._refresh()

    def _refresh(self) -> None:
        self._allowed = frozenset(self._clients).union(*self._lent.values())


class KnownNodes:
    """The nodes that a workstation was paired with, by id. Any thread may call any method."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._nodes = _load(path, dict[NodeId, KnownNode])

    def ids(self) -> tuple[NodeId, ...]:
        return tuple(self._nodes)

    def get(self, node: NodeId) -> KnownNode | None:
        return self._nodes.get(node)

    def key_of(self, host: str, port: int) -> NodeId | None:
        """The node last seen at this host and control port."""
        return next((n for n, k in self._nodes.items() if (k.host, k.control_port) == (host, port)), None)

    def remember(self, node: NodeId, name: str, host: str, control_port: int) -> None:
        """Keep where a node was seen; an address belongs to the node seen there last."""
        known = KnownNode(name, host, control_port)
        if self._nodes.get(node) == known:
            return
        with self._lock:
            others = {
                n: k for n, k in self._nodes.items() if n != node and (k.host, k.control_port) != (host, control_port)
            }
            self._nodes = {**others, node: known}
            self._save()

    def forget(self, node: NodeId) -> None:
        """Drop a node; unknown ids are ignored."""
        with self._lock:
            self._nodes = {n: k for n, k in self._nodes.items() if n != node}
            self._save()

    def _save(self) -> None:
        replace_private(self._path, msgspec.json.format(msgspec.json.encode(self._nodes)))


def _load(path: Path, type_: type[_T]) -> _T:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return type_()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error
    try:
        return msgspec.json.decode(content, type=type_)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is damaged: {error}.", hint="Move it away and pair again.") from error
