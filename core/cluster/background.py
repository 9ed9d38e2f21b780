"""Measures nodes that are new, in the background, while nothing holds them.

A node is measured when it first becomes ready, and so are its links; one that was measured in earlier days is looked at
shortly, to see whether it still does what it did, and so are all on other machines every few minutes. As soon as a
deployment takes a node, measuring stops until all that are to be measured are free again.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Final

from core.cluster.events import ClusterEvent, NodeChanged, NodeRemoved
from core.cluster.node import NodeState
from core.errors import Cancelled, ShardboardError
from core.plan.form import NodeId

if TYPE_CHECKING:
    from core.cluster.client import Cluster
    from core.cluster.keeping import Keeper

log = logging.getLogger(__name__)

_SETTLE_SECONDS: Final = 0.5
"""Nodes that become ready one after the other are measured together."""
LOOK_SECONDS: Final = 300.0
"""From one look at what is known to the next."""


class Background:
    """One thread, from its making until ``close``."""

    def __init__(self, cluster: Cluster, keeper: Keeper) -> None:
        self._cluster = cluster
        self._keeper = keeper
        self._changed = threading.Condition()
        self._ready: set[NodeId] = set()
        self._remote: set[NodeId] = set()
        """Not started by this program; other people's work, and real networks, come and go there."""
        self._look_at = time.monotonic() + LOOK_SECONDS
        self._busy: set[NodeId] = set()
        self._done: set[NodeId] = set()
        """Measured, or tried; a node that went away and came back is looked at again."""
        self._interrupt = threading.Event()
        self._closing = False
        self._unsubscribe = cluster.subscribe(self._on_event)
        for node in cluster.nodes():
            self._on_event(NodeChanged(node))
        self._thread = threading.Thread(target=self._work, name="measuring", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Waits until what is being measured has stopped: a fraction of a second."""
        self._unsubscribe()
        with self._changed:
            self._closing = True
            self._interrupt.set()
            self._changed.notify_all()
        self._thread.join()

    def _on_event(self, event: ClusterEvent) -> None:
        """On the cluster's thread."""
        with self._changed:
            match event:
                case NodeChanged(node):
                    if node.source != "local":
                        self._remote.add(node.id)
                    self._move(node.id, node.state)
                case NodeRemoved(node_id):
                    self._move(node_id, NodeState.LOST)
                case _:
                    return
            self._changed.notify_all()

    def _move(self, node: NodeId, state: NodeState) -> None:
        if state is NodeState.READY:
            self._ready.add(node)
        else:
            self._ready.discard(node)
        if state is NodeState.BUSY:
            self._busy.add(node)
            self._interrupt.set()
        else:
            self._busy.discard(node)
        if state in {NodeState.LOST, NodeState.DISCOVERED, NodeState.INCOMPATIBLE}:
            self._done.discard(node)

    def _work(self) -> None:
        while (nodes := self._next()) is not None:
            try:
                outcome = self._keeper.measure_in_background(nodes, self._interrupt)
            except Cancelled:
                continue
            except ShardboardError as error:
                log.warning("nodes were not measured: %s", error)
            else:
                for words in (*outcome.refused.values(), *outcome.problems):
                    log.info("%s", words)
            with self._changed:
                self._done.update(nodes)
                self._look_at = time.monotonic() + LOOK_SECONDS

    def _next(self) -> list[NodeId] | None:
        """All that are ready, once there is a new one among them, or it is time for a look, and none is in use; None:
        this is to end."""

        def due() -> bool:
            look = bool(self._ready & self._remote) and time.monotonic() >= self._look_at
            return self._closing or (not self._busy and (look or not self._ready <= self._done))

        with self._changed:
            while True:
                self._changed.wait_for(due, max(0.0, self._look_at - time.monotonic()) or LOOK_SECONDS)
                if self._closing:
                    return None
                before = frozenset(self._ready)
                self._changed.wait_for(lambda: self._closing, _SETTLE_SECONDS)
                if due() and before == self._ready and not self._closing:
                    self._interrupt.clear()
                    return sorted(self._ready)
