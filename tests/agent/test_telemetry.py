"""The meter on a clock of the test's, the sampler on this machine, and what both cost."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import msgspec
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.telemetry import EnergyCounters, Meter, Sampler
from core.plan.form import ShardId
from core.wire.messages import Execution, Telemetry
from tests.counting import calls_of

ONE, TWO = ShardId(1), ShardId(2)


class Clock:
    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def meter(clock: Clock) -> Meter:
    return Meter(clock)


def test_shares_and_rates_are_over_the_real_interval(meter: Meter, clock: Clock) -> None:
    meter.record(ONE, "layers 0-3", 7, 4, 1000.0, 0.1)
    meter.record(ONE, "layers 0-3", 8, 4, 1000.2, 0.2)
    meter.record(TWO, "layers 4-9", 7, 4, 1000.1, 0.5)
    clock.now += 1.5
    loads, executions = meter.drain()
    assert [(load.shard, load.label, load.items) for load in loads] == [(1, "layers 0-3", 8), (2, "layers 4-9", 4)]
    assert [load.busy for load in loads] == pytest.approx([0.2, 1 / 3])
    assert [load.items_per_s for load in loads] == pytest.approx([8 / 1.5, 4 / 1.5])
    assert executions == (
        Execution(ONE, 7, 1000.0, 0.1),
        Execution(ONE, 8, 1000.2, 0.2),
        Execution(TWO, 7, 1000.1, 0.5),
    )


def test_a_drain_begins_a_new_interval_but_items_add_up(meter: Meter, clock: Clock) -> None:
    meter.record(ONE, "a", 0, 3, 1.0, 0.2)
    clock.now += 1
    meter.drain()
    clock.now += 1
    loads, executions = meter.drain()
    assert (loads[0].busy, loads[0].items_per_s, loads[0].items, executions) == (0, 0, 3, ())


def test_what_left_a_shard_adds_up_since_it_was_loaded(meter: Meter, clock: Clock) -> None:
    meter.reset([(ONE, "a"), (TWO, "b")])
    for seq in range(3):
        meter.record(ONE, "a", seq, 4, 1.0, 0.25)
        meter.handed_on(ONE, 0.25, 100, 40)
        clock.now += 1
        meter.drain()
    meter.record(ONE, "a", 3, 4, 1.0, 0.25)  # what it made is still here
    (one, two), _ = meter.drain()
    assert (one.items, one.runs, one.seconds, one.sent, one.received) == (16, 3, 0.75, 300, 120)
    assert (two.runs, two.seconds, two.sent, two.received) == (0, 0.0, 0, 0)
    meter.reset([(ONE, "a")])
    meter.handed_on(TWO, 1.0, 1, 1)
    ((again,), _) = meter.drain()
    assert (again.shard, again.runs, again.sent, again.received) == (ONE, 0, 0, 0), "what is gone is not counted"


def test_a_long_run_shows_as_busy_while_it_lasts_and_counts_once(meter: Meter, clock: Clock) -> None:
    meter.begin(ONE, "a")
    clock.now += 1
    assert meter.drain()[0][0].busy == pytest.approx(1.0)
    clock.now += 0.5
    meter.record(ONE, "a", 0, 1, 1.0, 1.5)
    clock.now += 0.5
    assert meter.drain()[0][0].busy == pytest.approx(0.5)
    clock.now += 1
    assert meter.drain()[0][0].busy == 0


def test_a_run_that_was_not_announced_counts_at_its_end_and_never_over_1(meter: Meter, clock: Clock) -> None:
    clock.now += 0.2
    meter.record(ONE, "a", 0, 1, 1.0, 5.0)
    assert meter.drain()[0][0].busy == 1.0


def test_loaded_shards_show_as_idle_until_they_run(meter: Meter, clock: Clock) -> None:
    meter.record(ONE, "old", 0, 3, 1.0, 0.2)
    clock.now += 1
    meter.reset([(ONE, "a"), (TWO, "b")])
    clock.now += 1
    loads, executions = meter.drain()
    assert [(load.label, load.busy, load.items) for load in loads] == [("a", 0, 0), ("b", 0, 0)]
    assert executions == ()
    meter.reset()
    assert meter.drain() == ((), ())


def test_the_newest_64_executions_are_kept(meter: Meter) -> None:
    for seq in range(100):
        meter.record(ONE, "a", seq, 1, float(seq), 0.001)
    executions = meter.drain()[1]
    assert [execution.seq for execution in executions] == list(range(36, 100))


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(0, 2), st.integers(1, 50)), max_size=50))
def test_shares_are_shares_whatever_is_recorded(runs: list[tuple[int, float, int]]) -> None:
    clock = Clock()
    meter = Meter(clock)
    for shard, seconds, items in runs:
        meter.record(ShardId(shard), "", 0, items, 0.0, seconds)
    loads, _ = meter.drain()
    assert all(0 <= load.busy <= 1 for load in loads)
    assert sum(load.items for load in loads) == sum(items for _, _, items in runs)


def test_nothing_is_lost_between_threads() -> None:
    meter, items = Meter(), 0

    def work(shard: ShardId) -> None:
        for seq in range(2000):
            meter.begin(shard, "a")
            meter.record(shard, "a", seq, 2, 0.0, 1e-6)

    threads = [threading.Thread(target=work, args=(ShardId(n),)) for n in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert all(0 <= load.busy <= 1 for load in meter.drain()[0])
    items = sum(load.items for load in meter.drain()[0])
    assert items == 4 * 2000 * 2


def sampled(sampler: Sampler) -> Telemetry:
    return sampler.sample(Meter(), 3, "d1", "desk", 10, 20)


def test_a_sample_is_this_machine() -> None:
    process = psutil.Process()

    def now() -> tuple[float, float]:
        return time.perf_counter(), sum(process.cpu_times()[:2])

    clock = time.time()
    before = now()
    sampler = Sampler()
    begun = now()
    while sum(process.cpu_times()[:2]) < begun[1] + 0.3:
        pass
    ended = now()
    telemetry = sampled(sampler)
    after = now()
    assert clock - 1 <= telemetry.time <= time.time() + 1
    assert len(telemetry.cpu_per_core) == psutil.cpu_count()
    assert 0 < telemetry.cpu <= 1
    # Whatever else runs here: the sampler's interval lies between these two, and its CPU time between theirs.
    least, most = (ended[1] - begun[1]) / (after[0] - before[0]), (after[1] - before[1]) / (ended[0] - begun[0])
    assert 0.99 * least <= telemetry.process_cpu <= 1.01 * most
    assert sum(telemetry.cpu_per_core) > 0.5 * least
    assert 0 < telemetry.memory_used < telemetry.memory_total == psutil.virtual_memory().total
    assert 1e6 < telemetry.process_memory < telemetry.memory_total
    assert telemetry.net_sent_per_s >= 0
    assert telemetry.net_received_per_s >= 0
    assert telemetry.temperature is None or 0 < telemetry.temperature < 150
    assert telemetry.power is None or 0 <= telemetry.power < 5000
    assert (telemetry.queue, telemetry.deployment, telemetry.owner) == (3, "d1", "desk")
    assert (telemetry.data_sent, telemetry.data_received) == (10, 20)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(telemetry), type=Telemetry) == telemetry


def test_two_samples_at_once_do_not_divide_by_nothing() -> None:
    clock = Clock()
    sampler = Sampler(clock)
    telemetry = [sampled(sampler), sampled(sampler)][-1]
    assert 0 <= telemetry.cpu <= 1


def test_most_samples_read_a_few_counters_only() -> None:
    """Sensors and interfaces are looked for now and then; ``tests.bench.small_costs`` tells the share of a core."""
    clock = Clock()
    sampler, meter = Sampler(clock), Meter()

    def sample() -> None:
        sampler.sample(meter, 0, "", "", 0, 0)

    sample()
    clock.now += 0.2
    often = calls_of(sample)
    clock.now += 3600
    assert often < calls_of(sample) / 2, "the sensors are read again"
    for seq in range(64):
        meter.record(ONE, "a", seq, 1, 0.0, 0.001)
    clock.now += 0.2
    assert calls_of(sample) < often + 64 * 10


def counters(root: Path, **packages: tuple[str, str, str]) -> None:
    for name, (kind, energy, span) in packages.items():
        folder = root / name.replace("_", ":").replace("rapl:", "intel-rapl:")
        folder.mkdir(exist_ok=True)
        (folder / "name").write_text(f"{kind}\n")
        (folder / "energy_uj").write_text(f"{energy}\n")
        (folder / "max_energy_range_uj").write_text(f"{span}\n")


def test_power_is_the_packages_energy_over_time(tmp_path: Path, clock: Clock) -> None:
    counters(
        tmp_path,
        rapl_0=("package-0", "1000000", "9000000"),
        rapl_1=("package-1", "8000000", "9000000"),
        rapl_0_0=("core", "0", "9000000"),
        rapl_2=("psys", "0", "9000000"),
    )
    energy = EnergyCounters(tmp_path, clock)
    counters(
        tmp_path,
        rapl_0=("package-0", "3000000", "9000000"),
        rapl_1=("package-1", "1000000", "9000000"),
        rapl_0_0=("core", "5000000", "9000000"),
        rapl_2=("psys", "5000000", "9000000"),
    )
    clock.now += 2
    assert energy.watts() == pytest.approx((2 + 2) / 2), "package-1 has run over its range"


def test_power_is_unknown_where_the_machine_does_not_tell(tmp_path: Path, clock: Clock) -> None:
    assert EnergyCounters(tmp_path / "absent", clock).watts() is None
    counters(tmp_path, rapl_0=("package-0", "not a number", "9"))
    assert EnergyCounters(tmp_path, clock).watts() is None
    counters(tmp_path, rapl_0=("package-0", "1", "9"))
    energy = EnergyCounters(tmp_path, clock)
    (tmp_path / "intel-rapl:0" / "energy_uj").unlink()
    clock.now += 1
    assert energy.watts() is None
