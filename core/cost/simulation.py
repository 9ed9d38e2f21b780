"""Play a dataflow of shards event by event: who computes when, who waits for whom. Knows nothing of models or plans.

A station is a node. It runs one shard at a time, the oldest micro-batch first; messages are handled at once, one after
the other, and on a node with one core they hold up the shard that runs meanwhile. Stations of one machine, and the
client where it is on the same one, get equal parts of its cores when those do not suffice. The client sends a
micro-batch's inputs, waits for its results, and keeps a fixed number of micro-batches under way in each replica. A
message crosses lines, each of which carries one after the other; it flows, so what it takes is what the slowest takes.
A line that holds messages back gives each on only when it has all of it. Everything is deterministic.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from math import ceil, inf
from typing import Final

from msgspec import Struct

from core.cost.shared_cores import Cores, Handled, Node, Station

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


class Run(Struct, frozen=True):
    """A shard, for one micro-batch."""

    station: int
    seconds: float
    """With its cores to itself."""
    rest: float = 0.0
    """After it, for each second that it took, until the station may run another."""
    messages: tuple[int, ...] = ()
    """That it sends, in this order."""
    feeds: tuple[int, ...] = ()
    """Runs of the same station that get its outputs without a message."""
    replica: int = 0


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
    held: tuple[tuple[int, float], ...] = ()
    """Lines that it crosses after those, one by one, each of which holds it back until it has all of it."""


class Network(Struct, frozen=True):
    """One replica, or several that share the client, lines and machines."""

    stations: tuple[Station, ...]
    cores: tuple[int, ...]
    """Of each machine."""
    runs: tuple[Run, ...]
    messages: tuple[Message, ...]
    hop: float
    """Seconds that any message is on its way."""
    lines: int = 0
    ahead: tuple[float, ...] = ()
    """Of each line: seconds by which it gives a message on before it would be through, in whole ticks. Empty: none
    does."""
    tick: float = 1e-3
    client: int | None = None
    """Machine that the client is on; None: it has its own."""
    together: tuple[float, ...] = ()
    """Of each machine: speed of a core while all of them are in use, against one alone. Empty: they do not share
    anything."""
    move: float = 0.0
    """Seconds that a core has nothing to do before who shares another one comes to it."""

    @property
    def replicas(self) -> int:
        return 1 + max((run.replica for run in self.runs), default=0)

    @property
    def client_seconds(self) -> float:
        """That the client is busy with one micro-batch, of each replica."""
        ends = ((m.source, m.send) if m.source == CLIENT else (m.target, m.receive) for m in self.messages)
        return sum(seconds for end, seconds in ends if end == CLIENT)

    @property
    def busy_seconds(self) -> float:
        """That the busiest station, line, or the client needs for one micro-batch: no steady state of one replica is
        faster."""
        runs, ends = [0.0] * len(self.stations), [0.0] * (len(self.stations) + 1)
        rests, lines = [0.0] * len(self.stations), [0.0] * self.lines
        for run in self.runs:
            runs[run.station] += run.seconds
            rests[run.station] += run.rest * run.seconds
        for message in self.messages:
            ends[message.source] += message.send
            ends[message.target] += message.receive
            for line, seconds in (*message.lines, *message.held):
                lines[line] += seconds
        together = (
            max(run + rest, end, run if station.beside else run + end)
            for station, run, rest, end in zip(self.stations, runs, rests, ends[:-1], strict=True)
        )
        return max(ends[CLIENT], *together, *lines)


def latency(network: Network, replica: int = 0) -> float:
    """Seconds of one micro-batch with the whole network to itself, from the client to the client.

    ValueError when it never ends: a run waits for what nobody sends, or nothing goes to the client.
    """
    return _Play(network, 1, (replica,)).completions(1)[0]


def rate(network: Network, under_way: int) -> float:
    """Micro-batches per second at steady state with so many of them unfinished at a time. ValueError as ``latency``."""
    return sum(rates(network, under_way))


def rates(network: Network, under_way: int) -> tuple[float, ...]:
    """Of each replica, with ``under_way`` unfinished in each. ValueError as ``latency``."""
    play = _Play(network, under_way)
    replicas = network.replicas
    each = under_way * replicas
    done = FEWEST_ROUNDS
    ended = play.completions(done * each)
    counted = STEADY_ROUNDS
    while True:
        rounds = [ended[-1 - each * back] - ended[-1 - each * (back + 1)] for back in range(STEADY_ROUNDS)]
        if max(rounds) - min(rounds) <= STEADY * max(rounds) and replicas == 1:
            break
        if done >= MOST_ROUNDS or play.events >= MOST_EVENTS:
            counted = done // 2
            break
        done += 1
        ended = play.completions(done * each)
    since = ended[-1 - each * counted]
    if replicas > 1:
        return tuple(_pace([when for when in own if when >= since]) for own in play.by_replica)
    least = max(network.busy_seconds, (ended[-1] - since) / (each * counted))
    return (1 / least if least > 0 else inf,)


def _pace(moments: Sequence[float]) -> float:
    """Per second, from the first of them to the last."""
    lasted = moments[-1] - moments[0] if len(moments) > 1 else 0.0
    return (len(moments) - 1) / lasted if lasted > 0 else (inf if len(moments) > 1 else 0.0)


_LEFT, _HELD, _ARRIVED, _SUPPLIED, _READY, _ENDED, _RESTED, _COMPLETE, _FINISHED, _BEGUN = range(10)
_NONE: Final = 1e-12
"""Seconds of work that are a rounding error."""


class _Play:
    def __init__(self, network: Network, under_way: int, replicas: Sequence[int] | None = None) -> None:
        self.events = 0
        self.by_replica: list[list[float]] = [[] for _ in range(network.replicas)]
        """When each micro-batch was complete."""
        self._network = network
        self._machines = _shared(network)
        self._nodes = [Node(station, self._machines.get(station.machine)) for station in network.stations]
        self._client = Node(Station(), None if network.client is None else self._machines.get(network.client))
        self._stirred: list[Cores] = []
        """Whose cores are to be dealt out anew."""
        self._lines = [0.0] * network.lines
        """When each has carried all it was given so far."""
        self._needs = [0] * len(network.runs)
        for message in network.messages:
            if message.run != CLIENT:
                self._needs[message.run] += 1
        for run in network.runs:
            for fed in run.feeds:
                self._needs[fed] += 1
        self._results = [0] * network.replicas
        self._inputs: list[list[int]] = [[] for _ in range(network.replicas)]
        for run in network.runs:
            self._results[run.replica] += sum(network.messages[index].run == CLIENT for index in run.messages)
        for index, message in enumerate(network.messages):
            if message.source == CLIENT:
                self._inputs[network.runs[message.run].replica].append(index)
        self._replica: dict[int, int] = {}
        """Of each micro-batch."""
        self._missing: dict[int, list[int]] = {}
        """By micro-batch: what each run still waits for; last, at index CLIENT, the client."""
        self._ready: dict[int, list[float]] = {}
        self._heap: list[tuple[float, int, int, int, int]] = []
        self._order = 0
        self._begun = 0
        self._completed: list[float] = []
        played = range(network.replicas) if replicas is None else replicas
        if not all(self._inputs[replica] and self._results[replica] for replica in played):
            raise ValueError("a dataflow needs inputs from the client and results for it")
        for replica in played:
            # what began together would stay in step for ever here, but not on real machines
            first = _alone(network, replica) * replica / network.replicas if len(played) > 1 else 0.0
            for _ in range(under_way):
                self._push(first, _BEGUN, replica, 0)

    def completions(self, count: int) -> list[float]:
        """When each of the first ``count`` micro-batches was complete."""
        heap, completed = self._heap, self._completed
        handlers: tuple[Callable[[float, int, int], None], ...] = (
            self._left, self._on_held, self._arrived, self._supplied, self._made_ready, self._ended, self._rested,
            self._complete, self._finished, self._begin,
        )  # fmt: skip
        while len(completed) < count:
            if not heap:
                raise ValueError("a run waits for what nobody sends")
            now, _, kind, which, batch = heappop(heap)
            self.events += 1
            handlers[kind](now, which, batch)
            if self._stirred:
                self._deal(now)
        return completed

    def _push(self, when: float, kind: int, which: int, batch: int) -> None:
        self._order += 1
        heappush(self._heap, (when, self._order, kind, which, batch))

    # ------------------------------------------------------------ the client

    def _begin(self, now: float, replica: int, _: int = 0) -> None:
        batch = self._begun
        self._begun += 1
        self._replica[batch] = replica
        self._missing[batch] = [*self._needs, self._results[replica]]
        self._ready[batch] = [0.0] * (len(self._needs) + 1)
        self._send(self._client, now, self._inputs[replica], batch)

    def _complete(self, now: float, _: int, batch: int) -> None:
        replica = self._replica.pop(batch)
        del self._missing[batch], self._ready[batch]
        self._completed.append(now)
        self.by_replica[replica].append(now)
        self._begin(now, replica)

    # ------------------------------------------------------------ messages

    def _send(self, node: Node, now: float, messages: Sequence[int], batch: int) -> None:
        known = self._network.messages
        for index in messages:
            self._handle(node, now, known[index].send, _LEFT, index, batch)

    def _handle(self, node: Node, now: float, seconds: float, kind: int, index: int, batch: int) -> None:
        """A message that is there at ``now`` is dealt with in its turn, and then is what ``kind`` says."""
        if node.cores is not None:
            self._stir(node.cores, now)
            node.take_in(Handled(seconds, kind, index, batch), node.cores)
            return
        node.handled = max(now, node.handled) + seconds
        if node.current is not None and not node.beside:
            node.ends += seconds
        self._push(node.handled, kind, index, batch)

    def _left(self, now: float, index: int, batch: int) -> None:
        """A message is on its lines: it begins on each as soon as it is free, and has crossed when all have let it
        through."""
        network = self._network
        message = network.messages[index]
        begins = through = now
        for line, seconds in message.lines:
            begins = max(begins, self._lines[line])
            self._lines[line] = begins + seconds
            through = max(through, self._passed(line, now, begins + seconds))
        arrives = through + network.hop + message.delay
        if message.held:
            self._push(arrives, _HELD, index, batch)
        else:
            self._push(arrives, _ARRIVED, index, batch)

    def _on_held(self, now: float, index: int, batch: int) -> None:
        network = self._network
        through = now
        for line, seconds in network.messages[index].held:
            finish = self._lines[line] = max(through, self._lines[line]) + seconds
            through = self._passed(line, through, finish)
        self._push(through, _ARRIVED, index, batch)

    def _passed(self, line: int, now: float, finish: float) -> float:
        """When a line that carries a message until ``finish`` gives it on."""
        ahead = self._network.ahead[line] if self._network.ahead else 0.0
        if not ahead:
            return finish
        wait = finish - ahead - now
        return now + ceil(wait / self._network.tick - _NONE) * self._network.tick if wait > 0 else now

    def _arrived(self, now: float, index: int, batch: int) -> None:
        message = self._network.messages[index]
        node = self._client if message.target == CLIENT else self._nodes[message.target]
        self._handle(node, now, message.receive, _SUPPLIED, index, batch)

    def _supplied(self, now: float, index: int, batch: int) -> None:
        self._supply(now, self._network.messages[index].run, batch)

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
        if node.current is None and not node.resting:
            self._start(node, now)

    def _start(self, node: Node, now: float) -> None:
        batch, run = heappop(node.waiting)
        node.current = (run, batch)
        seconds = self._network.runs[run].seconds
        if node.cores is not None:
            self._stir(node.cores, now)
            node.began = now
            node.begin(seconds, node.cores)
            return
        node.began = now if node.beside else max(now, node.handled)
        node.ends = node.began + seconds
        self._push(node.ends, _ENDED, run, batch)

    def _ended(self, now: float, index: int, batch: int) -> None:
        run = self._network.runs[index]
        node = self._nodes[run.station]
        if node.cores is None and node.ends > now:  # messages came meanwhile
            self._push(node.ends, _ENDED, index, batch)
            return
        node.end()
        for fed in run.feeds:
            self._supply(now, fed, batch)
        self._send(node, now, run.messages, batch)
        if run.rest > 0:
            node.resting = True
            self._push(now + run.rest * (now - node.began), _RESTED, run.station, batch)
        elif node.waiting:
            self._start(node, now)

    def _rested(self, now: float, station: int, _: int) -> None:
        node = self._nodes[station]
        node.resting = False
        if node.waiting:
            self._start(node, now)

    # ------------------------------------------------------------ shared cores

    def _stir(self, cores: Cores, now: float) -> None:
        """Before what their nodes have to do changes."""
        cores.advance(now)
        if not cores.stirred:
            cores.stirred = True
            self._stirred.append(cores)

    def _deal(self, now: float) -> None:
        for cores in self._stirred:
            cores.stirred = False
            cores.version += 1
            seconds = cores.deal()
            if seconds is not None:
                self._push(now + seconds, _FINISHED, cores.index, cores.version)
        self._stirred.clear()

    def _finished(self, now: float, index: int, version: int) -> None:
        """Somebody on a machine has done what it was at."""
        cores = self._machines[index]
        if version != cores.version:
            return
        cores.advance(now)
        finished = cores.finished(_NONE)
        self._stir(cores, now)
        for task in finished:
            if task.message:
                _, kind, which, batch = task.node.dealt_with(cores)
                (self._left if kind == _LEFT else self._supplied)(now, which, batch)
            elif task.node.current is not None:
                self._ended(now, *task.node.current)


def _alone(network: Network, replica: int) -> float:
    """Seconds that its busiest station needs for a micro-batch."""
    taken = [0.0] * len(network.stations)
    for run in network.runs:
        if run.replica == replica:
            taken[run.station] += run.seconds * (1 + run.rest)
    return max(taken, default=0.0)


def _shared(network: Network) -> dict[int, Cores]:
    """Machines whose cores do not suffice for all that could want them at once."""
    wanted = [0] * len(network.cores)
    for station in network.stations:
        wanted[station.machine] += station.threads + station.beside
    if network.client is not None:
        wanted[network.client] += 1
    pairs = enumerate(zip(wanted, network.cores, strict=True))
    return {
        index: Cores(index, cores, network.together[index] if network.together else 1.0, network.move)
        for index, (needed, cores) in pairs
        if needed > cores
    }
