"""From a LoadShards message to a deployment that is served. Runs on the worker thread."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Final

import psutil

from agent import heap
from agent.arena import Arena
from agent.blobs import BlobStore
from agent.data_plane import DataPlane
from agent.dataflow import Dataflow
from agent.executor import load_shard
from agent.failures import AgentFailureError
from core.errors import ProtocolError
from core.plan.form import NodeId, Sha256, memory_bytes
from core.units import format_bytes
from core.wire.messages import Loaded, LoadShards
from core.wire.room import room_for_inputs
from core.wire.trust import TrustStore

_INSTALL_SECONDS: Final = 30.0


class Loader:
    """Replaces what the node serves by what a message asks for."""

    def __init__(
        self,
        node: NodeId,
        data: DataPlane,
        blobs: BlobStore,
        trust: TrustStore,
        *,
        threads: int,
        memory_limit: int,
    ) -> None:
        self._node = node
        self._data = data
        self._blobs = blobs
        self._trust = trust
        self._threads = threads
        self._memory_limit = memory_limit
        self._arena = Arena()
        self._process = psutil.Process(os.getpid())
        self._base: int = self._process.memory_info().rss
        """What the agent takes with nothing loaded."""
        self._used = False
        """Whether anything ever was."""

    @property
    def own_memory(self) -> int:
        """Resident bytes of the agent before it holds any shard. It grows until somebody is connected; what earlier
        shards left behind does not count. Any thread."""
        if not self._used:
            self._base = self._process.memory_info().rss
        return self._base

    def check_memory(self, nbytes: int, loading: int = 0) -> None:
        """Raises AgentFailureError("memory"), with figures, where a deployment of ``nbytes`` does not fit, or where the
        machine has no room for ``loading`` bytes more that are needed for a moment."""
        room = self._memory_limit - self._base
        if nbytes > room:
            raise AgentFailureError(
                "memory",
                f"The shards need {format_bytes(nbytes)}, but this node may use {format_bytes(self._memory_limit)}, "
                f"of which the agent itself takes {format_bytes(self._base)}.",
            )
        free = self._machine_free()
        if nbytes + loading > free:
            moment = " while they are loaded" if loading else ""
            raise AgentFailureError(
                "memory",
                f"The shards need {format_bytes(nbytes + loading)}{moment}, but only {format_bytes(free)} are free on "
                "this node.",
            )

    @property
    def free_memory(self) -> int:
        """Bytes that shards may take now, those that are loaded not counted. Any thread."""
        return max(0, min(self._memory_limit - self._base, self._machine_free()))

    def _machine_free(self) -> int:
        """Of the machine, whatever this node may use of it."""
        return int(psutil.virtual_memory().available + max(0, self._process.memory_info().rss - self._base))

    def load(self, message: LoadShards, owner: str, wanted: Callable[[], bool]) -> Loaded:
        """Serve ``message`` from now on. ``wanted`` says whether the reservation is still the same one.

        Raises AgentFailureError; then nothing of the deployment is served.
        """
        began = time.perf_counter()
        flow = self._flow(message, owner)
        self._blobs.pin(message.deployment, _blobs_of(message))
        self._data.uninstall(message.deployment).result(_INSTALL_SECONDS)
        self._used = True
        self._arena.give_back()
        shards = []
        for shard in message.shards:
            _insist(wanted)
            shards.append(load_shard(shard, self._blobs, self._threads))
            heap.give_back()
        self._trust.lend(message.deployment, flow.peers)
        try:
            self._data.install(flow, shards, message.peers).result(_INSTALL_SECONDS)
        except ProtocolError as error:
            raise AgentFailureError("field", error.message) from error
        if not wanted():
            self.unload(message.deployment)
        _insist(wanted)
        return Loaded(time.perf_counter() - began, self._process.memory_info().rss)

    def unload(self, deployment: str) -> None:
        """Let go of a deployment; does not wait for the data thread. May be called from any thread."""
        self._data.uninstall(deployment).add_done_callback(lambda _: self._give_back())
        self._trust.withdraw(deployment)
        self._blobs.unpin(deployment)

    def _give_back(self) -> None:
        """What the shards that are gone had taken."""
        self._arena.give_back()
        heap.give_back()

    def _flow(self, message: LoadShards, owner: str) -> Dataflow:
        needed = memory_bytes(message.shards)
        self.check_memory(needed, max((shard.repacked_bytes for shard in message.shards), default=0))
        budget = room_for_inputs(self._memory_limit - self._base - needed)
        try:
            return Dataflow(
                self._node,
                owner,
                message.deployment,
                message.epoch,
                message.shards,
                message.routes,
                message.placement,
                budget,
            )
        except ProtocolError as error:
            raise AgentFailureError("field", error.message) from error


def _insist(wanted: Callable[[], bool]) -> None:
    if not wanted():
        raise AgentFailureError("owned", "The deployment was released while its shards were being loaded.")


def _blobs_of(message: LoadShards) -> set[Sha256]:
    return {s.graph for s in message.shards} | {w.blob for s in message.shards for w in s.weights}
