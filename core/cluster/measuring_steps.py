"""What measuring nodes and measuring links have in common: progress, waiting, and who can be measured at all."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from core.cluster.node import CONNECTED
from core.errors import Cancelled, PlacementError
from core.plan.form import NodeId
from core.wire.messages import Reply

if TYPE_CHECKING:
    from concurrent.futures import Future

    from core.cluster.client import Cluster

_TICK_SECONDS: Final = 0.05

Progress = Callable[[float, str], None]
"""Share that is done, 0 to 1, and what is being measured, in words. Called on any thread."""


class Steps:
    """Counts what is done, from any thread."""

    def __init__(self, progress: Progress | None, count: int) -> None:
        self._progress = progress
        self._count = count
        self._done = 0.0
        self._lock = threading.Lock()

    def advance(self, share: float, words: str) -> None:
        """``share`` of one step more is done; ``words`` say what comes next."""
        if self._progress is None:
            return
        with self._lock:
            self._done += share
            self._progress(min(1.0, self._done / self._count), words)


def is_usable(cluster: Cluster, node_id: NodeId, refused: dict[NodeId, str] | None) -> bool:
    """Known and connected; whether another workstation holds it, it says itself."""
    try:
        node = cluster.node(node_id)
    except PlacementError as error:
        why = error.message
    else:
        if node.state in CONNECTED and node.info is not None:
            return True
        why = f"{node.name} ({node.address}) is {node.state}: {node.reason}."
    if refused is not None:
        refused[node_id] = why
    return False


def await_reply(answer: Future[Reply], stop: threading.Event) -> Reply:
    """Its result, or what went wrong; Cancelled as soon as ``stop`` is set, while the node ends by itself."""
    while True:
        if stop.is_set():
            raise cancelled()
        try:
            return answer.result(_TICK_SECONDS)
        except TimeoutError:
            continue


def cancelled() -> Cancelled:
    return Cancelled("Measuring was stopped.", hint="What was measured earlier is kept.")
