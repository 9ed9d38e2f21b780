"""From a compiled plan to shards that are loaded on their nodes, and back to free nodes.

``deploy`` reserves all nodes before a byte is sent, ships what each lacks, loads the shards everywhere, and undoes
what it did when anything fails or it is cancelled: after it raised, no node is held.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any, Final, Literal
from urllib.parse import urlsplit

import numpy.typing as npt
from msgspec import Struct

from core.cluster.client import Cluster
from core.cluster.delivery import Parcel, deliver, is_missing_blob
from core.cluster.links import DataLinks
from core.cluster.node import CONNECTED, Node, NodeState, bracketed
from core.cluster.outputs import Outputs
from core.cluster.reach import is_loopback
from core.cluster.shipping import Need, Transfer
from core.errors import Cancelled, NodeLostError, NoNodesError, PlacementError, RemoteError, ShardboardError
from core.plan.compile import CompiledPlan
from core.plan.form import CLIENT, NodeId, Plan, Sha256, memory_bytes
from core.wire.messages import CancelJob, LoadShards, Release, Reply, Request, Reserve, ShardFailed

log = logging.getLogger(__name__)

Array = npt.NDArray[Any]
Phase = Literal["reserve", "ship", "load", "verify", "ready"]

LOAD_SECONDS: Final = 600.0
"""Loading reads every weight from disk: minutes for a large model on a slow card."""
RELEASE_SECONDS: Final = 3.0
INFER_SECONDS: Final = 60.0
_PROGRESS_SECONDS: Final = 0.05
_WAIT_SECONDS: Final = 0.1


class DeployProgress(Struct, frozen=True):
    """How far one node is."""

    node: NodeId
    phase: Phase
    sent_bytes: int
    """Of ``total_bytes``; what the node held already is in neither."""
    total_bytes: int


class Deployment:
    """A plan whose shards are loaded on their nodes. ``close`` it, or use it as a context manager.

    ``infer`` may be called from any thread, one call at a time goes through. A job (``core.run.runner``) takes the
    results of the deployment for itself while it runs: do not call ``infer`` meanwhile.
    """

    def __init__(self, cluster: Cluster, compiled: CompiledPlan, deployment_id: str, epoch: int) -> None:
        self.cluster = cluster
        self.compiled = compiled
        self.id = deployment_id
        self.epoch = epoch
        self._links: DataLinks | None = None
        self._taken = False
        """A job took delivery of the results since ``_links`` were made: they get nothing any more."""
        self._lock = threading.Lock()
        self._job = secrets.randbelow(1 << 30) + (1 << 30)
        self._seq = 0
        self._closed = False
        self.outputs = Outputs(compiled.plan)

    @property
    def plan(self) -> Plan:
        return self.compiled.plan

    @property
    def nodes(self) -> tuple[NodeId, ...]:
        """Those that hold shards, in the plan's order."""
        return nodes_of(self.plan)

    @property
    def endpoints(self) -> dict[NodeId, str]:
        """Data endpoint of each node, as this workstation reaches it."""
        return {node: self.cluster.node(node).data_endpoint for node in self.nodes}

    def open_links(self) -> DataLinks:
        """Data connections that take delivery of this deployment's results, for the calling thread. Close them."""
        self._taken = True
        return self._new_links()

    def _new_links(self) -> DataLinks:
        return DataLinks(self.cluster.wire, self.plan, self.id, self.epoch, self.endpoints)

    def infer(self, feed: Mapping[str, Array], *, replica: int = 0, timeout: float = INFER_SECONDS) -> dict[str, Array]:
        """Run one micro-batch with the least delay and return the model's outputs (read-only arrays).

        ``feed`` has the plan's micro-batch where ``fixed_items`` says so. Raises RemoteError (a shard failed),
        NodeLostError, UnreachableError (no result within ``timeout`` seconds), ProtocolError (the feed or a result does
        not have the size that the plan says).
        """
        with self._lock:
            if self._links is not None and self._taken:
                self._links.close()
                self._links = None
            if self._links is None:
                self._links = self._new_links()
                self._taken = False
            self._seq += 1
            return self._exchange(self._links, feed, replica, timeout)

    def _exchange(self, links: DataLinks, feed: Mapping[str, Array], replica: int, timeout: float) -> dict[str, Array]:
        job, seq, wanted = self._job, self._seq, self.outputs.names[replica]
        links.send(job, seq, replica, feed)
        outputs: dict[str, Array] = {}
        deadline = time.monotonic() + timeout
        while True:
            arrived = links.poll(_WAIT_SECONDS)
            for result in arrived:
                if result.job != job or result.seq != seq:
                    continue
                if isinstance(result, ShardFailed):
                    raise self._shard_error(result)
                outputs.update(result.outputs)
            if outputs.keys() >= wanted:
                return self.outputs.join(replica, outputs)
            if not arrived:
                self._check_alive(replica, deadline)

    def _shard_error(self, failed: ShardFailed) -> RemoteError:
        shard = self.plan.shard(failed.shard)
        where = f"{shard.label} on {self.cluster.node(shard.node).name}"
        return RemoteError(f"{where} failed: {failed.message}", remote_code=failed.code)

    def _check_alive(self, replica: int, deadline: float) -> None:
        for shard in self.plan.shards:
            node = self.cluster.node(shard.node)
            if shard.replica == replica and node.state not in CONNECTED:
                raise NodeLostError(f"{node.name}, which runs {shard.label}, is lost: {node.reason}.")
        if time.monotonic() >= deadline:
            raise NodeLostError("The nodes are there, but no result came in time.", hint="Deploy again.")

    def detach(self) -> None:
        """Give up the connections of ``infer``; the next call makes new ones."""
        with self._lock:
            if self._links is not None:
                self._links.close()
                self._links = None

    def cancel_job(self, job: int) -> None:
        """Tell the nodes to drop what is queued for a job; does not wait for them."""
        for node in self.nodes:
            self.cluster.request(node, CancelJob(self.id, job))

    def close(self) -> None:
        """Free the nodes; blocks a few seconds at most. Safe to call twice."""
        if self._closed:
            return
        self._closed = True
        self.detach()
        release(self.cluster, self.nodes, self.id)

    def __enter__(self) -> Deployment:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


def deploy(
    cluster: Cluster,
    compiled: CompiledPlan,
    *,
    owner: str = "",
    progress: Callable[[DeployProgress], None] | None = None,
    cancel: threading.Event | None = None,
) -> Deployment:
    """Reserve the nodes, send them the weights they lack, and load the shards. ``progress`` is called in this thread.

    Args:
        owner: what other workstations are told about who holds the nodes; the cluster's name when empty.

    Raises:
        NoNodesError: a node of the plan is not there.
        NodeOwnedError, DoesNotFitError: a node refused, with who holds it or with figures.
        NodeLostError, RemoteError, JobError: a node failed on the way.
        Cancelled: ``cancel`` was set.
    """
    work = _Deploying(cluster, compiled, owner or cluster.name, progress, cancel)
    try:
        work.reserve()
        work.ship()
        work.load()
    except BaseException:
        release(cluster, work.reserved, work.id)
        raise
    return Deployment(cluster, compiled, work.id, work.epoch)


class _Deploying:
    def __init__(
        self,
        cluster: Cluster,
        compiled: CompiledPlan,
        owner: str,
        progress: Callable[[DeployProgress], None] | None,
        cancel: threading.Event | None,
    ) -> None:
        self.id = secrets.token_hex(8)
        self.epoch = 1
        self.reserved: tuple[NodeId, ...] = ()
        self._cluster = cluster
        self._compiled = compiled
        self._plan = compiled.plan
        self._nodes = nodes_of(compiled.plan)
        needs = {node: memory_bytes(compiled.plan.on_node(node)) for node in self._nodes}
        self._reserves = {node: Reserve(self.id, owner, nbytes) for node, nbytes in needs.items()}
        self._parcels: dict[NodeId, Parcel] = {}
        self._progress = progress
        self._cancel = cancel
        self._told: dict[NodeId, float] = {}

    def reserve(self) -> None:
        for node in self._nodes:
            _check_usable(self._cluster.node(node))
            self._tell(node, "reserve")
        self.reserved = self._nodes  # also those whose answer never comes are released
        self._everywhere(dict(self._reserves), timeout=10.0)

    def ship(self) -> None:
        self._parcels = {node: self._parcel(node) for node in self._nodes}
        for node in self._nodes:
            self._tell(node, "ship")
        self._deliver(tuple(self._parcels.values()))

    def _deliver(self, parcels: Sequence[Parcel]) -> None:
        deliver(self._cluster, parcels, self._compiled.blobs, progress=self._shipped, cancel=self._cancel)
        for parcel in parcels:
            self._tell(parcel.node, "ship")

    def load(self) -> None:
        for node in self._nodes:
            self._tell(node, "load")
        bodies = {node: self._load_shards(node) for node in self._nodes}
        try:
            self._everywhere(bodies, timeout=LOAD_SECONDS)
        except RemoteError as error:
            if not is_missing_blob(error):
                raise
            log.warning("a node lost a blob, sending again: %s", error)
            self._parcels = {node: self._parcel(node) for node in self._nodes}
            self._deliver(tuple(self._parcels.values()))
            self._everywhere(bodies, timeout=LOAD_SECONDS)
        for node in self._nodes:
            self._tell(node, "ready")

    def _parcel(self, node: NodeId) -> Parcel:
        needs = [Need(sha, self._compiled.blobs.nbytes(sha)) for sha in blobs_of(self._plan, node)]
        name = self._cluster.node(node).name
        return Parcel(node, name, Transfer(name, needs), self._reserves[node])

    def _load_shards(self, node: NodeId) -> LoadShards:
        plan = self._plan
        shards = plan.on_node(node)
        ours = {shard.id for shard in shards}
        routes = tuple(r for r in plan.routes if r.producer in ours or r.consumer in ours)
        named = {s for r in routes for s in (r.producer, r.consumer) if s != CLIENT} | ours
        placement = {int(s): plan.shard(s).node for s in sorted(named)}
        asking = self._cluster.node(node)
        peers = {n: peer_endpoint(self._cluster.node(n), asking) for n in set(placement.values()) if n != node}
        return LoadShards(self.id, self.epoch, shards, routes, placement, peers)

    def _everywhere(self, bodies: Mapping[NodeId, Request], timeout: float) -> None:
        """Ask all nodes side by side; returns when all agreed, raises the first refusal."""
        futures: dict[Future[Reply], NodeId] = {
            self._cluster.request(node, body, timeout): node for node, body in bodies.items()
        }
        pending = set(futures)
        while pending:
            if self._cancel is not None and self._cancel.is_set():
                raise Cancelled("The deployment was stopped.")
            done, pending = wait(pending, _WAIT_SECONDS, FIRST_COMPLETED)
            for future in done:
                future.result()

    def _shipped(self, parcel: Parcel) -> None:
        now = time.monotonic()
        if now - self._told.get(parcel.node, 0.0) >= _PROGRESS_SECONDS:
            self._told[parcel.node] = now
            self._tell(parcel.node, "ship")

    def _tell(self, node: NodeId, phase: Phase) -> None:
        if self._progress is None:
            return
        transfer = self._parcels[node].transfer if node in self._parcels else None
        sent, total = (transfer.sent_bytes, transfer.total_bytes) if transfer is not None else (0, 0)
        self._progress(DeployProgress(node, phase, sent, total))


def release(cluster: Cluster, nodes: Sequence[NodeId], deployment_id: str) -> None:
    """Free the nodes of a deployment; a node that is away frees itself when our lease there runs out."""
    futures = [cluster.request(node, Release(deployment_id), RELEASE_SECONDS) for node in nodes]
    done, _ = wait(futures, RELEASE_SECONDS)
    for future in done:
        with contextlib.suppress(ShardboardError):
            future.result()


def nodes_of(plan: Plan) -> tuple[NodeId, ...]:
    """The nodes that hold shards, each once, in the request's order."""
    placed = {shard.node for shard in plan.shards}
    return tuple(dict.fromkeys(node for node in plan.request.nodes if node in placed))


def blobs_of(plan: Plan, node: NodeId) -> tuple[Sha256, ...]:
    """Graphs and weights that a node needs, each once."""
    shards = plan.on_node(node)
    return tuple(dict.fromkeys([s.graph for s in shards] + [w.blob for s in shards for w in s.weights]))


def peer_endpoint(node: Node, seen_by: Node) -> str:
    """Where ``seen_by`` reaches the data socket of ``node``.

    A node on this workstation is known to us by its loopback address; another machine needs this machine's own one.
    """
    if not is_loopback(node.host) or is_loopback(seen_by.host):
        return node.data_endpoint
    port = urlsplit(node.data_endpoint).port
    return f"tcp://{bracketed(_own_address_towards(seen_by.host))}:{port}"


def _own_address_towards(host: str) -> str:
    """The address of this machine on the way to ``host``; nothing is sent."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((host, 9))
        except OSError as error:
            raise PlacementError(f"There is no way from this machine to {host}: {error.strerror or error}.") from error
        return str(probe.getsockname()[0])


def _check_usable(node: Node) -> None:
    if node.state is NodeState.DRAINED:
        raise NoNodesError(f"{node.name} is taken out of use.", hint="Bring it back first, or choose another node.")
    if node.state not in CONNECTED:
        raise NoNodesError(f"{node.name} ({node.address}) is {node.state}: {node.reason}.")
