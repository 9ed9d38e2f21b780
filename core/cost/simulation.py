"""Play a dataflow of shards event by event: who computes when, who waits for whom. Knows nothing of models or plans.

A station is a node. It runs one shard at a time, the oldest micro-batch first; messages are handled at once, one after
the other, and on a node with one core they hold up the shard that runs meanwhile. Stations of one machine, and the
client where it is on the same one, get equal parts of its cores when those do not suffice. The client sends a
micro-batch's inputs, waits for its results, and keeps a fixed number of micro-batches under way in each replica. A
message crosses lines, each of which carries one after the other; it flows, so what it takes is what the slowest takes.
A line that holds messages back gives each on only when it has all of it. Everything is deterministic.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from math import ceil, inf
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
    core: int | None = None
    """The one that it is bound to; None: it takes whichever is least in use."""


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


class _Node:
    """A station, or the client, while it is played."""

    __slots__ = (
        "began", "beside", "core", "current", "ends", "handled", "machine", "messages", "resting", "run_left",
        "threads", "waiting",
    )  # fmt: skip

    def __init__(self, station: Station, machine: _Machine | None) -> None:
        self.beside = station.beside
        self.machine = machine
        """Where its cores are shared; None: there are enough for everybody."""
        self.threads = station.threads
        self.core = station.core
        self.handled = 0.0
        """When the messages known so far are dealt with; not kept on shared cores."""
        self.current: tuple[int, int] | None = None
        """(run, micro-batch)"""
        self.began = 0.0
        self.ends = 0.0
        """When the current run does, unless messages come."""
        self.run_left = 0.0
        """On shared cores: seconds of work that the current run still needs."""
        self.messages: deque[list[float]] = deque()
        """On shared cores: (seconds of work left, kind of event, index, micro-batch) of each to be dealt with."""
        self.resting = False
        self.waiting: list[tuple[int, int]] = []
        """Heap of (micro-batch, run): an agent takes the oldest micro-batch first, of one the first shard."""


class _Machine:
    """Cores that do not suffice for all that may want them at once: each gets an equal part."""

    __slots__ = ("cores", "index", "nodes", "since", "stirred", "together", "version", "working")

    def __init__(self, index: int, cores: int, together: float) -> None:
        self.index = index
        self.cores = cores
        self.together = together
        self.nodes: list[_Node] = []
        self.working: list[_Worker] = []
        """Those that had work when the parts were last dealt out."""
        self.since = 0.0
        self.stirred = False
        self.version = 0
        """Of the event that tells of the next to finish."""

    def advance(self, now: float) -> None:
        """Take off what was done since the last time."""
        passed = now - self.since
        self.since = now
        for node, message, rate in self.working:
            if message is not None:
                message[0] -= passed * rate
            else:
                node.run_left -= passed * rate

    def deal(self) -> float | None:
        """Give out the cores anew. Seconds until the first is finished; None: nobody has any work.

        Who is bound to a core shares it with all others there; whoever is not goes where the fewest are. Where nobody
        is bound all take turns on all cores.
        """
        loads = [0] * self.cores
        placed: list[tuple[_Node, list[float] | None, tuple[int, ...]]] = []
        free: list[tuple[_Node, list[float] | None, int]] = []
        for node in self.nodes:
            tasks: list[tuple[list[float] | None, int]] = [(node.messages[0], 1)] if node.messages else []
            if node.current is not None and (node.beside or not node.messages):
                tasks.append((None, node.threads))
            for message, threads in tasks:
                if node.core is None:
                    free.append((node, message, threads))
                else:
                    placed.append((node, message, (node.core,)))
                    loads[node.core] += 1
        if not placed:
            demand = sum(threads for _, _, threads in free)
            rate = min(1.0, self.cores / demand) * self._speed(min(demand, self.cores)) if demand else 1.0
            self.working = [(node, message, rate) for node, message, _ in free]
            return min((_left(worker) / rate for worker in self.working), default=None)
        for node, message, threads in free:
            taken = tuple(sorted(range(self.cores), key=loads.__getitem__)[:threads])
            placed.append((node, message, taken))
            for core in taken:
                loads[core] += 1
        speed = self._speed(sum(load > 0 for load in loads))
        self.working = [
            (node, message, speed * min(1.0 / loads[core] for core in cores)) for node, message, cores in placed
        ]
        return min((_left(worker) / worker[2] for worker in self.working), default=None)

    def _speed(self, used: int) -> float:
        """Of a core while so many are in use."""
        return 1.0 if used < 2 else 1.0 - (1.0 - self.together) * (used - 1) / (self.cores - 1)


_Worker = tuple[_Node, list[float] | None, float]
"""A node, the message it deals with (None: its run), and how fast."""


def _left(worker: _Worker) -> float:
    """Seconds of work; a rounding error is none."""
    node, message, _ = worker
    return max(0.0, node.run_left if message is None else message[0])


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
        self._nodes = [_Node(station, self._machines.get(station.machine)) for station in network.stations]
        self._client = _Node(Station(), None if network.client is None else self._machines.get(network.client))
        for node in (*self._nodes, self._client):
            if node.machine is not None:
                node.machine.nodes.append(node)
        self._stirred: list[_Machine] = []
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

    def _send(self, node: _Node, now: float, messages: Sequence[int], batch: int) -> None:
        known = self._network.messages
        for index in messages:
            self._handle(node, now, known[index].send, _LEFT, index, batch)

    def _handle(self, node: _Node, now: float, seconds: float, kind: int, index: int, batch: int) -> None:
        """A message that is there at ``now`` is dealt with in its turn, and then is what ``kind`` says."""
        if node.machine is not None:
            self._stir(node.machine, now)
            node.messages.append([seconds, kind, index, batch])
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

    def _start(self, node: _Node, now: float) -> None:
        batch, run = heappop(node.waiting)
        node.current = (run, batch)
        seconds = self._network.runs[run].seconds
        if node.machine is not None:
            self._stir(node.machine, now)
            node.began = now
            node.run_left = seconds
            return
        node.began = now if node.beside else max(now, node.handled)
        node.ends = node.began + seconds
        self._push(node.ends, _ENDED, run, batch)

    def _ended(self, now: float, index: int, batch: int) -> None:
        run = self._network.runs[index]
        node = self._nodes[run.station]
        if node.machine is None and node.ends > now:  # messages came meanwhile
            self._push(node.ends, _ENDED, index, batch)
            return
        node.current = None
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

    def _stir(self, machine: _Machine, now: float) -> None:
        """Before what its nodes have to do changes."""
        if now > machine.since:
            machine.advance(now)
        if not machine.stirred:
            machine.stirred = True
            self._stirred.append(machine)

    def _deal(self, now: float) -> None:
        for machine in self._stirred:
            machine.stirred = False
            machine.version += 1
            seconds = machine.deal()
            if seconds is not None:
                self._push(now + seconds, _FINISHED, machine.index, machine.version)
        self._stirred.clear()

    def _finished(self, now: float, index: int, version: int) -> None:
        """Somebody on a machine has done what it was at."""
        machine = self._machines[index]
        if version != machine.version:
            return
        machine.advance(now)
        least = min(map(_left, machine.working)) + _NONE
        finished = [worker for worker in machine.working if _left(worker) <= least]
        self._stir(machine, now)
        for node, message, _ in finished:
            if message is not None:
                node.messages.popleft()
                _, kind, which, batch = message
                (self._left if kind == _LEFT else self._supplied)(now, int(which), int(batch))
            elif node.current is not None:
                self._ended(now, *node.current)


def _alone(network: Network, replica: int) -> float:
    """Seconds that its busiest station needs for a micro-batch."""
    taken = [0.0] * len(network.stations)
    for run in network.runs:
        if run.replica == replica:
            taken[run.station] += run.seconds * (1 + run.rest)
    return max(taken, default=0.0)


def _shared(network: Network) -> dict[int, _Machine]:
    """Machines whose cores do not suffice for all that could want them at once."""
    wanted = [0] * len(network.cores)
    for station in network.stations:
        wanted[station.machine] += station.threads + station.beside
    if network.client is not None:
        wanted[network.client] += 1
    pairs = enumerate(zip(wanted, network.cores, strict=True))
    return {
        index: _Machine(index, cores, network.together[index] if network.together else 1.0)
        for index, (needed, cores) in pairs
        if needed > cores
    }
