"""The end of the panel. A worker thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from core.cluster.client import Cluster
    from core.cluster.deployment import Deployment
    from core.cluster.local import LocalAgents


def close_all(
    quiet: Callable[[], bool],
    held: Callable[[], tuple[Deployment | None, Cluster | None, Sequence[LocalAgents]]],
    done: threading.Event,
    limit: float,
) -> None:
    """Wait until nothing runs any more (at most ``limit`` seconds), then free the nodes and end what was started."""
    deadline = time.monotonic() + limit
    settled = threading.Event()
    while not quiet() and time.monotonic() < deadline:
        settled.wait(0.02)
    deployment, cluster, local = held()
    try:
        if deployment is not None:
            deployment.close()
    finally:
        try:
            if cluster is not None:
                cluster.close()
        finally:
            for agents in local:
                agents.close()
            done.set()
