"""What the machine and the shards are doing, cheap enough to ask five times a second.

``Meter`` is told of every run (by the thread that computes); ``Sampler`` reads the machine and empties the meter (on
the thread that publishes). Nothing is sampled while nobody asks. What is slow to read (sensors, the list of
interfaces) is read rarely, and more rarely still on machines where it takes long.
"""

from __future__ import annotations

import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import psutil

from core.plan.form import ShardId
from core.wire.messages import Execution, ShardLoad, Telemetry

MOST_EXECUTIONS: Final = 64
_SENSOR_SECONDS: Final = 5.0
_POWER_SECONDS: Final = 1.0
_INTERFACE_SECONDS: Final = 30.0
_SLOW_SHARE: Final = 0.002
"""Reading a slow source may take this share of one core."""
_POWERCAP: Final = Path("/sys/class/powercap")


class _Account:
    """One shard since the previous drain, and since it was loaded."""

    __slots__ = ("busy", "items", "label", "received", "running_since", "runs", "seconds", "sent", "total_items")

    def __init__(self, label: str) -> None:
        self.label = label
        self.busy = 0.0
        self.items = 0
        self.total_items = 0
        self.running_since: float | None = None
        self.runs = self.sent = self.received = 0
        self.seconds = 0.0


class Meter:
    """Counts the runs of a node's shards. Every method may be called from any thread.

    ``clock`` is monotonic; the ``start`` of an execution is Unix time.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._accounts: dict[ShardId, _Account] = {}
        self._executions: deque[Execution] = deque(maxlen=MOST_EXECUTIONS)
        self._drained = clock()

    def reset(self, shards: Iterable[tuple[ShardId, str]] = ()) -> None:
        """Forget everything and count for these shards (id, label), which show as idle until they run."""
        with self._lock:
            self._accounts = {shard: _Account(label) for shard, label in shards}
            self._executions.clear()
            self._drained = self._clock()

    def begin(self, shard: ShardId, label: str) -> None:
        """A run begins. Optional; without it a run counts when it ends, so a long one would show as idle before."""
        with self._lock:
            self._account(shard, label).running_since = self._clock()

    def record(self, shard: ShardId, label: str, seq: int, items: int, start: float, seconds: float) -> None:
        """A run has just ended: ``items`` of micro-batch ``seq`` in ``seconds``, begun at Unix time ``start``."""
        with self._lock:
            account = self._account(shard, label)
            # What a drain has already counted of this run is not counted again.
            if account.running_since is not None:
                account.busy += min(seconds, self._clock() - max(account.running_since, self._drained))
                account.running_since = None
            else:
                account.busy += seconds
            account.items += items
            account.total_items += items
            self._executions.append(Execution(shard, seq, start, seconds))

    def handed_on(self, shard: ShardId, seconds: float, sent: int, received: int) -> None:
        """The outputs of a run have gone where they are wanted: all that is to be counted of one micro-batch at once,
        so that the counters belong together whenever they are read. Bytes of tensors, to and from elsewhere."""
        with self._lock:
            account = self._accounts.get(shard)
            if account is not None:
                account.runs += 1
                account.seconds += seconds
                account.sent += sent
                account.received += received

    def drain(self) -> tuple[tuple[ShardLoad, ...], tuple[Execution, ...]]:
        """Loads over the time since the previous drain, and its executions (the newest 64)."""
        with self._lock:
            now = self._clock()
            interval = max(now - self._drained, 1e-6)
            loads = tuple(self._load(shard, account, now, interval) for shard, account in self._accounts.items())
            executions = tuple(self._executions)
            self._executions.clear()
            self._drained = now
            return loads, executions

    def _account(self, shard: ShardId, label: str) -> _Account:
        account = self._accounts.get(shard)
        if account is None:
            account = self._accounts[shard] = _Account(label)
        return account

    def _load(self, shard: ShardId, account: _Account, now: float, interval: float) -> ShardLoad:
        busy = account.busy
        if account.running_since is not None:
            busy += now - max(account.running_since, self._drained)
        load = ShardLoad(
            shard=shard,
            label=account.label,
            busy=min(1.0, busy / interval),
            items_per_s=account.items / interval,
            items=account.total_items,
            runs=account.runs,
            seconds=account.seconds,
            sent=account.sent,
            received=account.received,
        )
        account.busy, account.items = 0.0, 0
        return load


class Sampler:
    """Reads the machine. Used by one thread at a time; rates are over the time since its previous sample."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter, powercap: Path = _POWERCAP) -> None:
        self._clock = clock
        self._process = psutil.Process()
        self._temperature = _Rarely(hottest_sensor, _SENSOR_SECONDS, clock)
        self._power = _Rarely(EnergyCounters(powercap, clock).watts, _POWER_SECONDS, clock)
        self._loopback = _Rarely(_loopback_names, _INTERFACE_SECONDS, clock)
        self._at = clock()
        self._cores = _core_times()
        self._process_seconds = self._process_time()
        self._network = self._network_bytes()

    def sample(
        self, meter: Meter, queue: int, deployment: str, owner: str, data_sent: int, data_received: int
    ) -> Telemetry:
        """One telemetry. ``queue`` in micro-batches, ``data_*`` in bytes since the agent started."""
        now = self._clock()
        elapsed = max(now - self._at, 1e-6)
        self._at = now
        per_core = self._per_core()
        process_cpu = self._process_cpu(elapsed)
        sent, received = self._network_rates(elapsed)
        memory = psutil.virtual_memory()
        loads, executions = meter.drain()
        return Telemetry(
            time=time.time(),
            cpu=sum(per_core) / len(per_core) if per_core else 0.0,
            cpu_per_core=per_core,
            process_cpu=process_cpu,
            memory_used=memory.total - memory.available,
            memory_total=memory.total,
            process_memory=self._process.memory_info().rss,
            net_sent_per_s=sent,
            net_received_per_s=received,
            data_sent=data_sent,
            data_received=data_received,
            temperature=self._temperature.value(),
            power=self._power.value(),
            queue=queue,
            shards=loads,
            executions=executions,
            deployment=deployment,
            owner=owner,
        )

    def _per_core(self) -> tuple[float, ...]:
        before, self._cores = self._cores, _core_times()
        # Cores come and go on some machines; then this sample starts over.
        if len(before) != len(self._cores):
            return tuple(0.0 for _ in self._cores)
        return tuple(
            _busy_share(total - total0, idle - idle0)
            for (total0, idle0), (total, idle) in zip(before, self._cores, strict=True)
        )

    def _process_cpu(self, elapsed: float) -> float:
        before, self._process_seconds = self._process_seconds, self._process_time()
        return max(0.0, self._process_seconds - before) / elapsed

    def _process_time(self) -> float:
        times = self._process.cpu_times()
        return float(times.user + times.system)

    def _network_rates(self, elapsed: float) -> tuple[float, float]:
        before, self._network = self._network, self._network_bytes()
        # A counter that runs backwards is an interface that went away.
        sent, received = (max(0, now - then) / elapsed for now, then in zip(self._network, before, strict=True))
        return sent, received

    def _network_bytes(self) -> tuple[int, int]:
        loopback = self._loopback.value()
        counters = [
            counter
            for name, counter in psutil.net_io_counters(pernic=True, nowrap=False).items()
            if name not in loopback
        ]
        return sum(c.bytes_sent for c in counters), sum(c.bytes_recv for c in counters)


class _Rarely:
    """The value of a slow source, read again only after ``seconds``, or later where reading takes long."""

    def __init__(self, read: Callable[[], Any], seconds: float, clock: Callable[[], float]) -> None:
        self._read = read
        self._seconds = seconds
        self._clock = clock
        self._next = float("-inf")
        self._value: Any = None

    def value(self) -> Any:
        start = self._clock()
        if start >= self._next:
            self._value = self._read()
            took = self._clock() - start
            self._next = start + max(self._seconds, took / _SLOW_SHARE)
        return self._value


def hottest_sensor() -> float | None:
    """Degrees Celsius; None where the system has no sensors or psutil does not read them (Windows, macOS)."""
    read = getattr(psutil, "sensors_temperatures", None)
    if read is None:
        return None
    try:
        sensors: dict[str, Sequence[Any]] = read()
    except OSError:
        return None
    # Unconnected sensors read as 0 or as absurdly hot.
    values = [s.current for group in sensors.values() for s in group if s.current and 0 < s.current < 150]
    return float(max(values)) if values else None


class EnergyCounters:
    """The RAPL counters of the processor packages (Linux, Intel and AMD), where this user may read them."""

    _PACKAGE: Final = re.compile(r"[a-z-]*rapl:\d+")

    def __init__(self, root: Path, clock: Callable[[], float]) -> None:
        self._clock = clock
        # "psys" is the whole platform, packages included
        self._packages = [
            folder
            for folder in _listed(root)
            if self._PACKAGE.fullmatch(folder.name) and _line(folder / "name").startswith("package")
        ]
        self._ranges = [_number(folder / "max_energy_range_uj") or 0 for folder in self._packages]
        self._at = clock()
        self._energy = self._read()

    def watts(self) -> float | None:
        """Mean power since the previous call, all packages together; None where a counter cannot be read."""
        if self._energy is None:
            return None
        before, self._energy = self._energy, self._read()
        elapsed, self._at = self._clock() - self._at, self._clock()
        if self._energy is None or elapsed <= 0:
            return None
        # A counter starts again at 0 after its range.
        joules = sum(
            (now - then if now >= then else now - then + span) / 1e6
            for now, then, span in zip(self._energy, before, self._ranges, strict=True)
        )
        return joules / elapsed

    def _read(self) -> list[int] | None:
        values = [_number(folder / "energy_uj") for folder in self._packages]
        numbers = [value for value in values if value is not None]
        return numbers if numbers and len(numbers) == len(values) else None


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _line(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""


def _number(file: Path) -> int | None:
    text = _line(file)
    return int(text) if text.isdecimal() else None


def _core_times() -> list[tuple[float, float]]:
    """(total, idle) seconds of each logical core. Waiting for a disk is idle; guest time is in user time already."""
    return [
        (
            sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0),
            times.idle + getattr(times, "iowait", 0.0),
        )
        for times in psutil.cpu_times(percpu=True)
    ]


def _busy_share(total: float, idle: float) -> float:
    return min(1.0, max(0.0, 1.0 - idle / total)) if total > 0 else 0.0


def _loopback_names() -> frozenset[str]:
    return frozenset(
        name
        for name, stats in psutil.net_if_stats().items()
        if "loopback" in getattr(stats, "flags", "").split(",") or name.lower().startswith(("lo0", "loopback"))
    )
