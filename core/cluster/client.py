"""The workstation's view of its nodes: one background thread owns the control connections of all of them.

Threads: ``Cluster``'s methods may be called from any thread; listeners are called on the cluster's own thread, in
order, and must return quickly. The thread feeds ``core.cluster.roster`` and carries out what it answers.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, suppress
from functools import partial
from typing import TYPE_CHECKING, Final

from core.cluster.background import Background
from core.cluster.control import Answer, ControlLinks, settle
from core.cluster.discovery import Discovery
from core.cluster.effects import Connect, Disconnect, Effect, Fail, PairWithKeyFile, Say, Sighting, Tell
from core.cluster.events import ClusterEvent, DiscoveryProblem, NodeChanged, NodeRemoved, TelemetryArrived
from core.cluster.introductions import Introductions
from core.cluster.keeping import Keeper
from core.cluster.measured import Measurements, MeasurementStore
from core.cluster.node import CONNECTED, Node, NodeSource
from core.cluster.reach import DEFAULT_PORT
from core.cluster.roster import Roster
from core.cluster.words import not_ready_hint, not_ready_words, ready_nodes
from core.errors import NoNodesError, ProtocolError, ShardboardError, UnreachableError
from core.plan.form import NodeId
from core.wire.keys import KeyPair
from core.wire.messages import Failure, InfoPush, Ping, Reply, Request, TelemetryPush, Welcome
from core.wire.sockets import Wire
from core.wire.trust import KnownNodes

if TYPE_CHECKING:
    from core.cluster.local import LocalAgent

log = logging.getLogger(__name__)

Listener = Callable[[ClusterEvent], None]

CLOSED: Final = "The cluster was closed."
REQUEST_SECONDS: Final = 10.0
_TICK_SECONDS: Final = 0.1


class Cluster:
    """All nodes that this workstation knows of.

    Args:
        keys: this workstation's identity; nodes trust its public half.
        name: what nodes and other workstations call this one.
        discovery: look for nodes by mDNS.
        key_file: the shared key (32 bytes): nodes that hold the same one are paired with unasked.
        on_event: the first listener; called on the cluster's thread.
        known: where paired nodes are remembered; None remembers nothing.
        measurements: where measurements are kept; None keeps none between programs.
    """

    def __init__(
        self,
        keys: KeyPair,
        *,
        name: str = "",
        discovery: bool = True,
        key_file: bytes | None = None,
        on_event: Listener | None = None,
        known: KnownNodes | None = None,
        measurements: MeasurementStore | None = None,
    ) -> None:
        self.name = name or socket.gethostname()
        self.keys = keys
        self.wire = Wire(keys)
        self._known = known
        self._listeners: list[Listener] = [on_event] if on_event is not None else []
        self._changed = threading.Condition()
        self._nodes: dict[NodeId, Node] = {}
        self._discovery_problem: str | None = None if discovery else "Discovery is switched off."
        self._todo: deque[Callable[[], None]] = deque()
        self._asked: deque[tuple[NodeId, Request, float, Answer]] = deque()
        self._asking = threading.Lock()
        self._ended = False
        self._waker = self.wire.waker()
        self._roster = Roster(self.name, holds_key_file=key_file is not None)
        self._links = ControlLinks(self.wire, self._waker, self._pushed)
        self._held: dict[NodeId, list[tuple[Request, float, Answer]]] = {}
        self._keeper = Keeper(self, measurements, lambda event: self._post(lambda: self._tell(event)))
        self.measure = self._keeper.measure
        self.check_links = self._keeper.check_links
        self._background: Background | None = None
        self._introductions = Introductions(self, keys, self.name, key_file, known)
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="cluster", daemon=True)
        self._thread.start()
        self._discovery = Discovery(self._sighted, self._vanished, self._set_problem) if discovery else None
        if self._discovery is not None:
            self._discovery.start()

    # ------------------------------------------------------------ what is known; any thread

    def nodes(self) -> tuple[Node, ...]:
        """A snapshot, in the order in which the nodes were met."""
        with self._changed:
            return tuple(self._nodes.values())

    def node(self, node_id: NodeId) -> Node:
        """Raises NoNodesError for a node that is not known."""
        with self._changed:
            node = self._nodes.get(node_id)
        if node is None:
            raise NoNodesError("That node is not known here any more.")
        return node

    @property
    def discovery_problem(self) -> str | None:
        """Why nodes are not found by themselves, in words; None when they are."""
        return self._discovery_problem

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Adds a listener, called on the cluster's thread. Returns the function that takes it away."""
        self._listeners = [*self._listeners, listener]

        def unsubscribe() -> None:
            self._listeners = [one for one in self._listeners if one is not listener]

        return unsubscribe

    def wait_until(self, condition: Callable[[tuple[Node, ...]], bool], timeout: float) -> bool:
        """Blocks until ``condition`` holds for the nodes, at most ``timeout`` seconds; False when it never did."""
        with self._changed:
            return self._changed.wait_for(lambda: condition(tuple(self._nodes.values())), timeout)

    def wait_ready(self, count: int, timeout: float) -> tuple[Node, ...]:
        """The nodes that are READY as soon as they are ``count``.

        Raises NoNodesError after ``timeout`` seconds, with what was seen and why each is not ready.
        """
        self.wait_until(lambda nodes: len(ready_nodes(nodes)) >= count, timeout)
        nodes = self.nodes()
        ready = ready_nodes(nodes)
        if len(ready) < count:
            words = not_ready_words(nodes, count, self._discovery_problem, self._introductions.problems)
            raise NoNodesError(words, hint=not_ready_hint(nodes))
        return ready

    # ------------------------------------------------------------ nodes by hand; any thread

    def add_address(self, host: str, port: int = DEFAULT_PORT, *, pairing_port: int | None = None) -> Future[NodeId]:
        """Reach a node by its address. The future has its id once the node trusts us, or UnreachableError with words.

        A node that was never met at this address is introduced with the shared key file, if this workstation has one.
        """
        return self._introductions.add_address(host, port, pairing_port or port + 1)

    def pair(self, host: str, pairing_port: int, code: str) -> Future[NodeId]:
        """Introduce this workstation to a node with the one-time code that the node shows."""
        return self._introductions.pair_with_code(host, pairing_port, code)

    def add_known(
        self,
        node: NodeId,
        host: str,
        control_port: int,
        source: NodeSource = "local",
        *,
        pairing_port: int | None = None,
        name: str = "",
    ) -> None:
        """Reach a node whose id is known already."""
        self._sighted(Sighting(node, name or host, (host,), control_port, pairing_port, source))

    def add_local(self, agent: LocalAgent) -> None:
        """Reach an agent that this process started."""
        self.add_known(agent.id, agent.host, agent.control_port, pairing_port=agent.pairing_port, name=agent.name)

    def forget(self, node: NodeId) -> None:
        """Take a node off the list; it comes back if it is announced again."""
        if self._known is not None:
            self._known.forget(node)
        self._post(lambda: self._carry_out(self._roster.forget(node)))

    def drain(self, node: NodeId) -> None:
        """Take a node out of use until ``resume``."""
        self._post(lambda: self._carry_out(self._roster.drain(node)))

    def resume(self, node: NodeId) -> None:
        self._post(lambda: self._carry_out(self._roster.resume(node)))

    # ------------------------------------------------------------ requests; any thread

    def request(self, node: NodeId, body: Request, timeout: float = REQUEST_SECONDS) -> Future[Reply]:
        """Ask a node. A Failure becomes NodeOwnedError, DoesNotFitError or RemoteError; no answer, NodeLostError or
        UnreachableError."""
        future: Future[Reply] = Future()
        with self._changed:
            known = self._nodes.get(node)
        answer = settle(future, known.name if known is not None else "The node")
        with self._asking:
            ended = self._ended
            if not ended:
                self._asked.append((node, body, timeout, answer))
                self._waker.wake()
        if ended:
            answer(UnreachableError(CLOSED), 0.0)
        return future

    def measure_speeds(self, nodes: Sequence[NodeId]) -> dict[NodeId, float]:
        """Speed of each node; 1.0 is this workstation with one thread. Blocks for a second or two.

        Nodes on one machine share its cores, so they are measured one after the other; machines side by side.
        """
        from core.cluster.speeds import measure_speeds  # noqa: PLC0415 - needs onnx

        return measure_speeds(self, nodes)

    @property
    def measurements(self) -> Measurements:
        """What is known of nodes and links now; listeners get MeasurementsChanged when it becomes more."""
        return self._keeper.measurements

    @property
    def measurements_problem(self) -> str:
        """Why measurements of earlier days were not taken, or cannot be kept, in words; "" when all is well."""
        return self._keeper.problem

    def measure_in_background(self) -> None:
        """From now on, measure nodes and links as they become ready, while nothing holds them. Safe to call twice."""
        if self._background is None:
            self._background = Background(self, self._keeper)

    @property
    def measuring(self) -> bool:
        """Nodes, links, or what somebody took the turn for are being measured."""
        return self._keeper.busy

    def turn_to_measure(self, interrupt: threading.Event) -> AbstractContextManager[None]:
        """Neither nodes nor links are measured meanwhile; ``interrupt`` is set when a person asks for that. Raises
        Cancelled on entering where it is set before the turn has come."""
        return self._keeper.turn(interrupt)

    def set_speeds(self, speeds: Mapping[NodeId, float]) -> None:
        """Note measured speeds with the nodes."""
        for node, speed in speeds.items():
            self._post(partial(self._measured, node, speed))

    def _measured(self, node: NodeId, speed: float) -> None:
        self._carry_out(self._roster.measured(node, speed))

    def close(self) -> None:
        """Close all connections; requests that wait fail. Data connections made with ``wire`` must be closed before."""
        if self._closing:
            return
        if self._background is not None:
            self._background.close()
        if self._discovery is not None:
            self._discovery.close()
        self._introductions.close()
        self._closing = True
        self._waker.wake()
        self._thread.join()
        self.wire.close()
        self._waker.close()

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    # ------------------------------------------------------------ discovery's threads

    def _sighted(self, sighting: Sighting, *, visible: bool = True) -> None:
        self._post(lambda: self._carry_out(self._roster.sighted(sighting, time.monotonic(), visible=visible)))

    def _vanished(self, node: NodeId) -> None:
        self._post(lambda: self._carry_out(self._roster.vanished(node)))

    def _set_problem(self, message: str) -> None:
        self._discovery_problem = message or None
        self._post(lambda: self._tell(DiscoveryProblem(message)))

    def look_for_known(self) -> None:
        """Try the nodes paired in earlier days where they were last seen; they appear when they answer."""
        for node in self._known.ids() if self._known is not None else ():
            seen = self._known.get(node) if self._known is not None else None
            if seen is not None:
                where = Sighting(node, seen.name, (seen.host,), seen.control_port, None, "address")
                self._sighted(where, visible=False)

    # ------------------------------------------------------------ the cluster's thread

    def _post(self, action: Callable[[], None]) -> None:
        self._todo.append(action)
        self._waker.wake()

    def _run(self) -> None:
        while not self._closing:
            try:
                self._turn()
            except Exception:
                log.exception("a turn of the cluster's thread failed: this is a bug in Shardboard")
        with self._asking:
            self._ended = True
        self._links.shut()
        never = [answer for held in self._held.values() for _, _, answer in held]
        for answer in (*never, *(answer for _, _, _, answer in self._asked)):
            answer(UnreachableError(CLOSED), 0.0)

    def _turn(self) -> None:
        for node in self._links.wait(_TICK_SECONDS):
            self._read(node)
        while self._todo:
            with suppress(IndexError):
                self._todo.popleft()()
        while self._asked:
            self._ask(*self._asked.popleft())
        now = time.monotonic()
        self._links.expire(now)
        for node, problem in self._links.problems():
            self._carry_out(self._troubled(node, problem, now))
        self._carry_out(self._roster.tick(now))

    def _troubled(self, node: NodeId, problem: str, now: float) -> list[Effect]:
        if problem == "refused":
            return self._roster.refused(node, now)
        if problem == "handshake":
            self._roster.not_itself(node)
            return []
        return self._roster.disconnected(node, now)

    def _read(self, node: NodeId) -> None:
        try:
            for _ in self._links.read(node):
                self._roster.heard(node, time.monotonic())
        except ProtocolError as error:
            log.warning("node %s: %s", node, error)

    def _pushed(self, node: NodeId, push: TelemetryPush | InfoPush) -> None:
        if isinstance(push, TelemetryPush):
            self._carry_out(self._roster.telemetry(node, push.telemetry, time.monotonic()))
        else:
            self._carry_out(self._roster.info_changed(node, push.info))

    def _carry_out(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            match effect:
                case Connect():
                    self._links.open(effect.id, effect.host, effect.port)
                    self._say(effect.id, effect.hello)
                case Disconnect():
                    self._links.close(effect.id, effect.reason)
                case Say():
                    self._say(effect.id, effect.body)
                case PairWithKeyFile():
                    self._introduce(effect)
                case Fail():
                    self._links.fail(effect.id, effect.reason)
                    self._release_held(effect.id)
                case Tell():
                    self._tell(effect.event)

    def _introduce(self, effect: PairWithKeyFile) -> None:
        def done(paired: bool) -> None:
            outcome = self._roster.paired if paired else self._roster.pairing_failed
            self._post(lambda: self._carry_out(outcome(effect.id, time.monotonic())))

        self._introductions.pair_with_key_file(effect.host, effect.pairing_port, done)

    def _say(self, node: NodeId, body: Request) -> None:
        def answer(reply: Reply | ShardboardError, seconds: float) -> None:
            now = time.monotonic()
            match reply:
                case Welcome():
                    self._carry_out(self._roster.welcomed(node, reply, now))
                    self._release_held(node)
                case Failure() if not isinstance(body, Ping):
                    self._carry_out(self._roster.greeting_failed(node, reply, now))
                case ShardboardError():
                    pass  # the roster judges silence by its own clock
                case _ if isinstance(body, Ping):
                    self._carry_out(self._roster.ponged(node, seconds))
                    self._refresh(node)

        self._links.ask(node, "The node", body, REQUEST_SECONDS, answer)

    def _ask(self, node_id: NodeId, body: Request, timeout: float, answer: Answer) -> None:
        node = self._roster.node(node_id)
        if node is None:
            answer(NoNodesError("That node is not known here any more."), 0.0)
        elif self._roster.is_linked(node_id):
            self._links.ask(node_id, node.name, body, timeout, answer)
        elif node.state in CONNECTED:  # its connection is being made anew
            self._held.setdefault(node_id, []).append((body, timeout, answer))
        else:
            answer(UnreachableError(f"{node.name} at {node.address} is {node.state}: {node.reason}."), 0.0)

    def _release_held(self, node: NodeId) -> None:
        """Requests that came while the connection was being made anew: sent now, or failed if the node is lost."""
        for body, timeout, answer in self._held.pop(node, ()):
            self._ask(node, body, timeout, answer)

    def _refresh(self, node_id: NodeId) -> None:
        node = self._roster.node(node_id)
        with self._changed:
            if node is not None and node_id in self._nodes:
                self._nodes[node_id] = node

    def _tell(self, event: ClusterEvent) -> None:
        with self._changed:
            match event:
                case NodeChanged(node):
                    self._nodes[node.id] = node
                case NodeRemoved(node_id):
                    self._nodes.pop(node_id, None)
                case TelemetryArrived(node_id, _):
                    known = self._roster.node(node_id)
                    if known is not None and node_id in self._nodes:
                        self._nodes[node_id] = known
            self._changed.notify_all()
        for listener in self._listeners:
            try:
                listener(event)
            except Exception:
                log.exception("a listener of the cluster failed on %s", type(event).__name__)
