"""Play a dataflow of shards event by event: who computes when, who waits for whom. Knows nothing of models or plans.

A station is a node. It runs one shard at a time, the oldest micro-batch first; messages are handled at once, one after
the other, and on a node with one core they hold up the shard that runs meanwhile. The client sends a micro-batch's
inputs, waits for its results, and keeps a fixed number of micro-batches under way. A message crosses lines, each of
which carries one after the other; it flows, so what it takes is what the slowest takes. Everything is deterministic.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from heapq import heappop, heappush
from math import inf
from typing import Final

from msgspec import Struct

CLIENT: Final = -1
"""As a station: the workstation. As the run that a message is for: its results."""
MOST_EVENTS: Final = 60_000
STEADY: Final = 0.002
"""Rounds (as many micro-batches as are under way) that differ by less than this share are the same."""
STEADY_ROUNDS: Final = 3
"""As many in a row, after the first ones, in which the network is filled."""
FEWEST_ROUNDS: Final = 5
MOST_ROUNDS: Final = 24
"""Where they go on changing, the mean of the second half counts."""


class Station(Struct, frozen=True):
    beside: bool = False
    """Messages are handled on a core of their own."""
    machine: int = 0
    """Index of the cores it takes its own from."""
    threads: int = 1
    """Cores that a run takes."""


class Run(Struct, frozen=True):
    """A shard, for one micro-batch."""

    station: int
    seconds: float
    rest: float = 0.0
    """After it, until the station may run another."""
    messages: tuple[int, ...] = ()
    """That it sends, in this order."""
    feeds: tuple[int, ...] = ()
    """Runs of the same station that get its outputs without a message."""


class Message(Struct, frozen=True):
    source: int
    """Station, or CLIENT."""
    target: int
    run: int
    """That it is for; CLIENT: it is a result."""
    send: float
    """Seconds that the sender is busy with it."""
    receive: float
    lines: tuple[tuple[int, float], ...] = ()
    """(index of a line, seconds that the message takes of it)"""
    delay: float = 0.0
    """Seconds on its way, beside those on lines and the network's ``hop``."""


class Network(Struct, frozen=True):
    """One replica."""

    stations: tuple[Station, ...]
    cores: tuple[int, ...]
    """Of each machine."""
    runs: tuple[Run, ...]
    messages: tuple[Message, ...]
    hop: float
    """Seconds that any message is on its way."""
    lines: int = 0

    @property
    def client_seconds(self) -> float:
        """That the client is busy with one micro-batch."""
        ends = ((m.source, m.send) if m.source == CLIENT else (m.target, m.receive) for m in self.messages)
        return sum(seconds for end, seconds in ends if end == CLIENT)

    @property
    def busy_seconds(self) -> float:
        """That the busiest station, line, or the client needs for one micro-batch: no steady state is faster."""
        runs, ends = [0.0] * len(self.stations), [0.0] * (len(self.stations) + 1)
        rests, lines = [0.0] * len(self.stations), [0.0] * self.lines
        for run in self.runs:
            runs[run.station] += run.seconds
            rests[run.station] += run.rest
        for message in self.messages:
            ends[message.source] += message.send
            ends[message.target] += message.receive
            for line, seconds in message.lines:
                lines[line] += seconds
        together = (
            max(run + rest, end, run if station.beside else run + end)
            for station, run, rest, end in zip(self.stations, runs, rests, ends[:-1], strict=True)
        )
        return max(ends[CLIENT], *together, *lines)


def latency(network: Network) -> float:
    """Seconds of one micro-batch with the whole network to itself, from the client to the client.

    ValueError when it never ends: a run waits for what nobody sends, or nothing goes to the client.
    """
    return _Play(network, 1).completions(1)[0]


def rate(network: Network, under_way: int) -> float:
    """Micro-batches per second at steady state with so many of them unfinished at a time. ValueError as ``latency``."""
    play = _Play(network, under_way)
    done = FEWEST_ROUNDS
    ended = play.completions(done * under_way)
    counted = STEADY_ROUNDS
    while True:
        rounds = [ended[-1 - under_way * back] - ended[-1 - under_way * (back + 1)] for back in range(STEADY_ROUNDS)]
        if max(rounds) - min(rounds) <= STEADY * max(rounds):
            break
        if done >= MOST_ROUNDS or play.events >= MOST_EVENTS:
            counted = done // 2
            break
        done += 1
        ended = play.completions(done * under_way)
    lasted = ended[-1] - ended[-1 - under_way * counted]
    least = max(network.busy_seconds, lasted / (under_way * counted))
    return 1 / least if least > 0 else inf


class _Node:
    """A station while it is played."""

    __slots__ = ("beside", "current", "ends", "handled", "machine", "resting", "threads", "waiting")

    def __init__(self, station: Station) -> None:
        self.beside = station.beside
        self.machine = station.machine
        self.threads = station.threads
        self.handled = 0.0
        """When the messages known so far are dealt with."""
        self.current: tuple[int, int] | None = None
        """(run, micro-batch)"""
        self.ends = 0.0
        """When the current run does, unless messages come."""
        self.resting = False
        self.waiting: list[tuple[int, int]] = []
        """Heap of (micro-batch, run): an agent takes the oldest micro-batch first, of one the first shard."""


_LEFT, _ARRIVED, _READY, _ENDED, _RESTED, _COMPLETE = range(6)


class _Play:
    def __init__(self, network: Network, under_way: int) -> None:
        self.events = 0
        self._network = network
        self._nodes = [_Node(station) for station in network.stations]
        self._client = _Node(Station(beside=True))
        self._free = list(network.cores)
        self._queues: list[deque[_Node]] = [deque() for _ in network.cores]
        self._lines = [0.0] * network.lines
        """When each has carried all it was given so far."""
        self._needs = [0] * len(network.runs)
        for message in network.messages:
            if message.run != CLIENT:
                self._needs[message.run] += 1
        for run in network.runs:
            for fed in run.feeds:
                self._needs[fed] += 1
        self._results = sum(message.run == CLIENT for message in network.messages)
        self._inputs = [i for i, message in enumerate(network.messages) if message.source == CLIENT]
        self._missing: dict[int, list[int]] = {}
        """By micro-batch: what each run still waits for; last, at index CLIENT, the client."""
        self._ready: dict[int, list[float]] = {}
        self._heap: list[tuple[float, int, int, int, int]] = []
        self._order = 0
        self._begun = 0
        self._completed: list[float] = []
        if not self._inputs or not self._results:
            raise ValueError("a dataflow needs inputs from the client and results for it")
        for _ in range(under_way):
            self._begin(0.0)

    def completions(self, count: int) -> list[float]:
        """When each of the first ``count`` micro-batches was complete."""
        heap, completed = self._heap, self._completed
        handlers = (self._left, self._arrived, self._made_ready, self._ended, self._rested, self._complete)
        while len(completed) < count:
            if not heap:
                raise ValueError("a run waits for what nobody sends")
            now, _, kind, which, batch = heappop(heap)
            self.events += 1
            handlers[kind](now, which, batch)
        return completed

    def _push(self, when: float, kind: int, which: int, batch: int) -> None:
        self._order += 1
        heappush(self._heap, (when, self._order, kind, which, batch))

    # ------------------------------------------------------------ the client

    def _begin(self, now: float) -> None:
        batch = self._begun
        self._begun += 1
        self._missing[batch] = [*self._needs, self._results]
        self._ready[batch] = [0.0] * (len(self._needs) + 1)
        self._send(self._client, now, self._inputs, batch)

    def _complete(self, now: float, _: int, batch: int) -> None:
        del self._missing[batch], self._ready[batch]
        self._completed.append(now)
        self._begin(now)

    # ------------------------------------------------------------ messages

    def _send(self, node: _Node, now: float, messages: Sequence[int], batch: int) -> None:
        known, hop = self._network.messages, self._network.hop
        for index in messages:
            message = known[index]
            left = _handle(node, now, message.send)
            if message.lines:
                self._push(left, _LEFT, index, batch)
            else:
                self._push(left + hop + message.delay, _ARRIVED, index, batch)

    def _left(self, now: float, index: int, batch: int) -> None:
        """A message is on its lines: it begins on each as soon as it is free, and has arrived when all have let it
        through."""
        message = self._network.messages[index]
        begins = through = now
        for line, seconds in message.lines:
            begins = max(begins, self._lines[line])
            self._lines[line] = begins + seconds
            through = max(through, begins + seconds)
        self._push(through + self._network.hop + message.delay, _ARRIVED, index, batch)

    def _arrived(self, now: float, index: int, batch: int) -> None:
        message = self._network.messages[index]
        node = self._client if message.target == CLIENT else self._nodes[message.target]
        self._supply(_handle(node, now, message.receive), message.run, batch)

    def _supply(self, when: float, run: int, batch: int) -> None:
        """One more of a run's inputs (of the client's results) is there from ``when`` on."""
        missing, ready = self._missing[batch], self._ready[batch]
        missing[run] -= 1
        ready[run] = max(ready[run], when)
        if missing[run] == 0:
            self._push(ready[run], _COMPLETE if run == CLIENT else _READY, run, batch)

    # ------------------------------------------------------------ runs

    def _made_ready(self, now: float, run: int, batch: int) -> None:
        node = self._nodes[self._network.runs[run].station]
        heappush(node.waiting, (batch, run))
        if node.current is None and not node.resting and len(node.waiting) == 1:
            self._queue(node, now)

    def _queue(self, node: _Node, now: float) -> None:
        """A station that could run something wants its cores."""
        if self._free[node.machine] >= node.threads:
            self._start(node, now)
        else:
            self._queues[node.machine].append(node)

    def _start(self, node: _Node, now: float) -> None:
        self._free[node.machine] -= node.threads
        batch, run = heappop(node.waiting)
        node.current = (run, batch)
        begins = now if node.beside else max(now, node.handled)
        node.ends = begins + self._network.runs[run].seconds
        self._push(node.ends, _ENDED, run, batch)

    def _ended(self, now: float, index: int, batch: int) -> None:
        run = self._network.runs[index]
        node = self._nodes[run.station]
        if node.ends > now:  # messages came meanwhile
            self._push(node.ends, _ENDED, index, batch)
            return
        node.current = None
        for fed in run.feeds:
            self._supply(now, fed, batch)
        self._send(node, now, run.messages, batch)
        self._free[node.machine] += node.threads
        queue = self._queues[node.machine]
        while queue and self._free[node.machine] >= queue[0].threads:
            self._start(queue.popleft(), now)
        if run.rest > 0:
            node.resting = True
            self._push(now + run.rest, _RESTED, run.station, batch)
        elif node.waiting:
            self._queue(node, now)

    def _rested(self, now: float, station: int, _: int) -> None:
        node = self._nodes[station]
        node.resting = False
        if node.waiting:
            self._queue(node, now)


def _handle(node: _Node, now: float, seconds: float) -> float:
    """When a message that is there at ``now`` has been dealt with."""
    node.handled = max(now, node.handled) + seconds
    if node.current is not None and not node.beside:
        node.ends += seconds
    return node.handled
