"""What a station has to do while it is played; and the cores of a machine that do not suffice for all who may want them
at once, which are dealt out anew whenever that changes. The innermost loop of ``core.cost.simulation``: it deals
thousands of times for one prediction that follows a mouse."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from math import inf
from typing import Final, NamedTuple

from msgspec import Struct

_ROUNDING: Final = 1e-9
"""Seconds."""
_FREE: Final = 1 << 30
"""Places from here on are those of tasks that are not bound to a core."""


class Station(Struct, frozen=True):
    beside: bool = False
    """Messages are handled on a core of their own."""
    machine: int = 0
    """Index of the cores it takes its own from."""
    threads: int = 1
    """Cores that a run takes."""
    core: int | None = None
    """The one that it is bound to; None: it takes whichever is least in use."""


class Handled(NamedTuple):
    """A message to be dealt with."""

    seconds: float
    kind: int
    """Of the event that follows."""
    which: int
    batch: int


class Task:
    """What a node may want a core for: the message that it deals with, or its run."""

    __slots__ = ("at", "core", "left", "message", "node", "on", "place", "rate", "threads")

    def __init__(self, node: Node, core: int | None, threads: int, *, message: bool) -> None:
        self.node = node
        self.core = core
        self.at = core
        """The one that it is on; None: on none yet."""
        self.threads = threads
        self.message = message
        self.place = 0
        """Among all tasks of the same cores."""
        self.on = False
        """Whether it wants a core now."""
        self.left = 0.0
        """Seconds of work, with a core to itself."""
        self.rate = 1.0
        """Seconds of work a second."""


class Node:
    """A station, or the client, while it is played."""

    __slots__ = (
        "began", "beside", "cores", "current", "ends", "handled", "handling", "messages", "resting", "running",
        "waiting",
    )  # fmt: skip

    def __init__(self, station: Station, cores: Cores | None) -> None:
        self.beside = station.beside
        self.cores = cores
        """Those it shares; None: there are enough for everybody."""
        self.handled = 0.0
        """When the messages known so far are dealt with; not kept on shared cores."""
        self.current: tuple[int, int] | None = None
        """(run, micro-batch)"""
        self.began = 0.0
        self.ends = 0.0
        """When the current run does, unless messages come."""
        self.resting = False
        self.waiting: list[tuple[int, int]] = []
        """Heap of (micro-batch, run): an agent takes the oldest micro-batch first, of one the first shard."""
        self.messages: deque[Handled] = deque()
        """On shared cores: those to be dealt with."""
        self.handling = Task(self, station.core, 1, message=True)
        self.running = Task(self, station.core, station.threads, message=False)
        if cores is not None:
            cores.know(self.handling, self.running)

    def end(self) -> None:
        """Its run has ended."""
        self.current = None
        if self.cores is not None and self.running.on:
            self.cores.leave(self.running)

    # ------------------------------------------------------------ on shared cores

    def begin(self, seconds: float, cores: Cores) -> None:
        """A run that takes so long with its cores to itself."""
        self.running.left = seconds
        if self.beside or not self.messages:
            cores.take_on(self.running)

    def take_in(self, message: Handled, cores: Cores) -> None:
        self.messages.append(message)
        if len(self.messages) == 1:
            self.handling.left = message.seconds
            cores.take_on(self.handling)
            if self.running.on and not self.beside:
                cores.leave(self.running)

    def dealt_with(self, cores: Cores) -> Handled:
        """The message that it was at."""
        done = self.messages.popleft()
        if self.messages:
            self.handling.left = self.messages[0].seconds
        else:
            cores.leave(self.handling)
            if self.current is not None and not self.beside:
                cores.take_on(self.running)
        return done


class Cores:
    """Of one machine: each who wants one gets an equal part.

    Who is bound to a core shares it with all others there. Whoever is not begins where the fewest are, and stays: it
    moves to a core with nothing to do when that has lasted for ``move`` seconds. Where nobody is bound all take turns
    on all cores.
    """

    __slots__ = (
        "_bound", "_count", "_known", "_loads", "_move", "_moving", "_places", "_shared", "_since", "_together",
        "_uneven", "_wide", "_working", "index", "stirred", "version",
    )  # fmt: skip

    def __init__(self, index: int, count: int, together: float, move: float = 0.0) -> None:
        self.index = index
        """Of the machine."""
        self.stirred = False
        """Whether they are to be dealt out anew."""
        self.version = 0
        """Of the event that tells of the next to finish."""
        self._count = count
        self._together = together
        self._known = 0
        self._working: list[Task] = []
        """Who has work: first those that are bound."""
        self._places: list[int] = []
        """Of each of them."""
        self._bound = 0
        """How many of them are."""
        self._wide = 0
        """How many of them want several cores."""
        self._loads = [0] * count
        """By those that are bound."""
        self._shared: dict[tuple[int, ...], tuple[float, ...]] = {}
        """Rates by how many are on each core."""
        self._since = 0.0
        self._move = move
        self._uneven: float | None = None
        """Since when a core has had nothing to do while somebody could come to it."""
        self._moving = False
        """Whether the next thing to happen is that somebody moves."""

    def know(self, *tasks: Task) -> None:
        """They may want cores."""
        for task in tasks:
            task.place = self._known + (0 if task.core is not None else _FREE)
            self._known += 1

    def take_on(self, task: Task) -> None:
        """It wants one. Before, ``advance``."""
        task.on = True
        at = bisect_left(self._places, task.place)
        self._places.insert(at, task.place)
        self._working.insert(at, task)
        self._wide += task.threads > 1
        if task.core is not None:
            self._bound += 1
            self._loads[task.core] += 1

    def leave(self, task: Task) -> None:
        """It wants none any more. Before, ``advance``."""
        task.on = False
        task.at = task.core
        at = bisect_left(self._places, task.place)
        del self._places[at], self._working[at]
        self._wide -= task.threads > 1
        if task.core is not None:
            self._bound -= 1
            self._loads[task.core] -= 1

    def advance(self, now: float) -> None:
        """Take off what was done since the last time."""
        passed = now - self._since
        if passed > 0:
            self._since = now
            for task in self._working:
                task.left -= passed * task.rate

    def finished(self, rounding: float) -> list[Task]:
        """Those that are through first; seconds of work less than ``rounding`` more are none. Nobody where somebody
        moves first."""
        if self._moving:
            return []
        least = max(0.0, min([task.left for task in self._working])) + rounding
        return [task for task in self._working if task.left <= least]

    def deal(self) -> float | None:
        """Give out the cores anew. Seconds until the first is finished; None: nobody has any work."""
        working = self._working
        self._moving = False
        if not working:
            return None
        if not self._bound:
            demand = sum([task.threads for task in working]) if self._wide else len(working)
            rate = min(1.0, self._count / demand) * self._speed(min(demand, self._count))
            for task in working:
                task.rate = rate
            return max(0.0, min([task.left for task in working])) / rate
        if self._wide:
            self._share_out(working[: self._bound], working[self._bound :])
        else:
            wait = self._settle(working[self._bound :])
            rates = self._shared_by(working)
            for task in working:
                task.rate = rates[task.at]  # type: ignore[index]
            finish = max(0.0, min([task.left / task.rate for task in working]))
            self._moving = wait < finish
            return min(wait, finish)
        return max(0.0, min([task.left / task.rate for task in working]))

    def _settle(self, free: Sequence[Task]) -> float:
        """On which core each of those is that are not bound. Seconds until one of them moves."""
        loads = self._loads.copy()
        for task in free:
            if task.at is not None:
                loads[task.at] += 1
        for task in free:
            if task.at is None:
                task.at = loads.index(min(loads))
                loads[task.at] += 1
        while 0 in loads:
            crowded = next((task for task in free if loads[task.at] > 1), None)  # type: ignore[index]
            if crowded is None:
                break
            if self._uneven is None:
                self._uneven = self._since
            wait = self._uneven + self._move - self._since
            if wait > _ROUNDING:
                return wait
            loads[crowded.at] -= 1  # type: ignore[index]
            crowded.at = loads.index(0)
            loads[crowded.at] = 1
            self._uneven = None
        self._uneven = None
        return inf

    def _shared_by(self, working: Sequence[Task]) -> tuple[float, ...]:
        """Seconds of work a second on each core."""
        loads = [0] * self._count
        for task in working:
            loads[task.at] += 1  # type: ignore[index]
        key = tuple(loads)
        found = self._shared.get(key)
        if found is None:
            found = self._shared[key] = self._rates(loads)
        return found

    def _share_out(self, bound: Sequence[Task], free: Sequence[Task]) -> None:
        """Where some want several cores."""
        loads = self._loads.copy()
        taken = []
        for task in free:
            taken.append(sorted(range(self._count), key=loads.__getitem__)[: task.threads])
            for core in taken[-1]:
                loads[core] += 1
        rates = self._rates(loads)
        for task in bound:
            task.rate = rates[task.core]  # type: ignore[index]
        for task, cores in zip(free, taken, strict=True):
            task.rate = min(rates[core] for core in cores)

    def _rates(self, loads: Sequence[int]) -> tuple[float, ...]:
        speed = self._speed(len(loads) - loads.count(0))
        return tuple(speed / load if load else speed for load in loads)

    def _speed(self, used: int) -> float:
        """Of a core while so many are in use."""
        return 1.0 if used < 2 else 1.0 - (1.0 - self._together) * (used - 1) / (self._count - 1)
