"""Small networks whose time lines can be drawn on paper; all seconds are round figures."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from core.cost.shared_cores import Station
from core.cost.simulation import CLIENT, Message, Network, Run, _Play, latency, rate

OWN = Station()


def line(seconds: list[float], *, end: float = 0.1, hop: float = 0.01) -> Network:
    """One station after the other."""
    count = len(seconds)
    ends = [CLIENT, *range(count), CLIENT]
    messages = tuple(
        Message(ends[i], ends[i + 1], i if i < count else CLIENT, send=end, receive=end) for i in range(count + 1)
    )
    runs = tuple(Run(i, taken, messages=(i + 1,)) for i, taken in enumerate(seconds))
    stations = tuple(Station(machine=i) for i in range(count))
    return Network(stations, (1,) * count, runs, messages, hop)


class TestOneAfterTheOther:
    def test_latency_is_the_sum(self) -> None:
        assert latency(line([1.0])) == pytest.approx(1 + 4 * 0.1 + 2 * 0.01)
        assert latency(line([1.0, 3.0, 2.0])) == pytest.approx(6 + 8 * 0.1 + 4 * 0.01)

    def test_the_slowest_sets_the_pace(self) -> None:
        assert rate(line([1.0, 3.0, 2.0]), 6) == pytest.approx(1 / 3.2)

    def test_one_at_a_time(self) -> None:
        network = line([1.0, 3.0])
        assert rate(network, 1) == pytest.approx(1 / latency(network))

    def test_the_client_is_a_limit_too(self) -> None:
        assert rate(line([0.01], end=0.1), 8) == pytest.approx(1 / 0.21)
        assert rate(replace(line([0.0], end=0.1), stations=(Station(beside=True),)), 8) == pytest.approx(1 / 0.2)

    def test_nothing_takes_any_time(self) -> None:
        assert rate(line([0.0], end=0.0, hop=0.0), 2) == float("inf")


def test_messages_hold_up_a_run_unless_they_have_a_core() -> None:
    """Ten messages reach the second station, one after the other, while it runs what the first one started."""
    inputs = tuple(Message(CLIENT, 0, 0 if i == 0 else 1, send=0.1, receive=0.5) for i in range(11))
    result = (Message(0, CLIENT, CLIENT, send=0.0, receive=0.0), Message(0, CLIENT, CLIENT, send=0.0, receive=0.0))
    runs = (Run(0, 10.0, messages=(11,)), Run(0, 1.0, messages=(12,)))
    shared = Network((OWN,), (1,), runs, inputs + result, hop=0.0)
    assert latency(shared) == pytest.approx(0.1 + 11 * 0.5 + 10 + 1)
    beside = replace(shared, stations=(Station(beside=True),), cores=(2,))
    assert latency(beside) == pytest.approx(0.1 + 0.5 + 10 + 1)


def test_outputs_go_before_the_next_run_begins() -> None:
    """Two runs of one station wait for the same input; the result of the first leaves before the second begins."""
    messages = (
        Message(CLIENT, 0, 0, send=0.0, receive=0.0),
        Message(0, CLIENT, CLIENT, send=1.0, receive=0.0),
        Message(0, CLIENT, CLIENT, send=1.0, receive=0.0),
    )
    runs = (Run(0, 2.0), Run(0, 3.0, messages=(1,)), Run(0, 5.0, messages=(2,)))
    runs = (replace(runs[0], feeds=(1, 2)), *runs[1:])
    assert latency(Network((OWN,), (1,), runs, messages, 0.0)) == pytest.approx(2 + 3 + 1 + 5 + 1)


def test_a_rest_delays_only_what_comes_after_it() -> None:
    network = line([1.0], end=0.0, hop=0.0)
    limited = replace(network, runs=(replace(network.runs[0], rest=3.0),))
    assert latency(limited) == pytest.approx(1.0)
    assert rate(limited, 2) == pytest.approx(1 / 4)


def in_turns() -> Network:
    """Two stations; the first has a short shard at the beginning of a micro-batch and a long one at its end."""
    messages = (
        Message(CLIENT, 0, 0, send=0.0, receive=0.0),
        Message(0, 1, 1, send=0.0, receive=0.0),
        Message(1, 0, 2, send=0.0, receive=0.0),
        Message(0, CLIENT, CLIENT, send=0.0, receive=0.0),
    )
    runs = (Run(0, 2.0, messages=(1,)), Run(1, 1.0, messages=(2,)), Run(0, 4.0, messages=(3,)))
    return Network((Station(machine=0), Station(machine=1)), (1, 1), runs, messages, hop=0.0)


def test_the_oldest_micro_batch_goes_first() -> None:
    """Three begin at once. The second shard of the first one is ready at 3, while the first shard of the second one
    runs, and goes before that of the third one: 4 to 8. First come, first served it would run from 6 to 10."""
    assert _Play(in_turns(), 3).completions(3)[:2] == pytest.approx([8, 12])


def test_of_one_micro_batch_the_first_shard_goes_first() -> None:
    """Four shards of a station; the inputs of the second come last, while the first one runs. Only what it makes takes
    another station any time: from 2 on, not from 4 on."""
    inputs = [Message(CLIENT, 0, run, send=0.0, receive=0.0) for run in (0, 3, 2, 1)]
    results = [Message(0, CLIENT, CLIENT, send=0.0, receive=0.0) for _ in range(3)]
    on, last = Message(0, 1, 4, send=0.0, receive=0.0), Message(1, CLIENT, CLIENT, send=0.0, receive=0.0)
    sent = [(4,), (7,), (5,), (6,)]
    runs = (*(Run(0, 1.0, messages=messages) for messages in sent), Run(1, 9.0, messages=(8,)))
    stations = (Station(machine=0), Station(machine=1))
    assert latency(Network(stations, (1, 1), runs, (*inputs, *results, on, last), hop=0.0)) == pytest.approx(2 + 9)


def both(stations: tuple[Station, ...], cores: tuple[int, ...], seconds: float = 4.0) -> Network:
    """Two stations work on the same micro-batch side by side."""
    messages = (
        *(Message(CLIENT, i, i, send=0.0, receive=0.0) for i in range(2)),
        *(Message(i, CLIENT, CLIENT, send=0.0, receive=0.0) for i in range(2)),
    )
    runs = tuple(Run(i, seconds, messages=(2 + i,)) for i in range(2))
    return Network(stations, cores, runs, messages, hop=0.0)


class TestCores:
    def test_stations_of_two_machines_run_at_once(self) -> None:
        assert latency(both((Station(machine=0), Station(machine=1)), (1, 1))) == pytest.approx(4)

    def test_stations_of_one_core_take_turns(self) -> None:
        one_core = both((OWN, OWN), (1,))
        assert latency(one_core) == pytest.approx(8)
        assert rate(one_core, 4) == pytest.approx(1 / 8)
        assert latency(both((OWN, OWN), (2,))) == pytest.approx(4)

    def test_a_run_takes_as_many_cores_as_it_has_threads(self) -> None:
        wide = Station(threads=2)
        assert latency(both((wide, wide), (3,))) == pytest.approx(4 * 4 / 3)
        assert latency(both((wide, wide), (4,))) == pytest.approx(4)


class TestNeverEnding:
    def test_a_run_that_waits_for_itself(self) -> None:
        network = line([1.0, 1.0])
        stuck = replace(network, runs=(replace(network.runs[0], feeds=(0,)), network.runs[1]))
        with pytest.raises(ValueError, match="waits"):
            latency(stuck)
        with pytest.raises(ValueError, match="waits"):
            rate(stuck, 3)

    def test_no_way_to_the_client(self) -> None:
        network = line([1.0])
        with pytest.raises(ValueError, match="client"):
            latency(replace(network, messages=network.messages[:1], runs=(Run(0, 1.0),)))


@st.composite
def groups(draw: st.DrawFn) -> Network:
    """A few ranks that exchange with each other after every one of a few steps."""
    ranks, steps = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    seconds = st.floats(0.01, 3)
    ends = draw(st.floats(0.001, 0.3))
    runs, messages = [], []

    def message(source: int, target: int, run: int) -> int:
        messages.append(Message(source, target, run, ends, ends))
        return len(messages) - 1

    for rank in range(ranks):
        message(CLIENT, rank, rank)
    for step in range(steps):
        for rank in range(ranks):
            last = step == steps - 1
            following = [] if last else [((step + 1) * ranks + other, other) for other in range(ranks)]
            sent = [message(rank, other, run) for run, other in following if other != rank]
            if last:
                sent.append(message(rank, CLIENT, CLIENT))
            fed = [run for run, other in following if other == rank]
            runs.append(Run(rank, draw(seconds), messages=tuple(sent), feeds=tuple(fed)))
    stations = tuple(Station(beside=draw(st.booleans()), machine=rank) for rank in range(ranks))
    return Network(stations, (1,) * ranks, tuple(runs), tuple(messages), hop=draw(st.floats(0, 0.5)))


@given(groups(), st.integers(1, 5))
@settings(max_examples=60, derandomize=True, deadline=None)
def test_bounds(network: Network, under_way: int) -> None:
    """Never faster than the busiest station, nor than what is under way allows; as fast as one at a time at least."""
    whole, each = latency(network), rate(network, under_way)
    assert each <= 1 / network.busy_seconds * (1 + 1e-9)
    assert each <= under_way / whole * (1 + 1e-9)
    assert each >= 1 / whole * (1 - 1e-9)
    assert (whole, each) == (latency(network), rate(network, under_way))


def handling(network: Network) -> float:
    """Of the messages of the busiest station: by so much a run may end later because a message came earlier."""
    ends = [0.0] * (len(network.stations) + 1)
    for message in network.messages:
        ends[message.source] += message.send
        ends[message.target] += message.receive
    return max(ends)


@given(groups(), st.floats(1.1, 4))
@settings(max_examples=60, derandomize=True, deadline=None)
def test_a_faster_link_never_takes_longer(network: Network, factor: float) -> None:
    faster = replace(network, hop=network.hop / factor)
    assert latency(faster) <= latency(network) + handling(network)
    free = replace(network, messages=tuple(replace(m, send=0.0, receive=0.0) for m in network.messages))
    assert latency(free) <= latency(network) * (1 + 1e-9)


@given(groups(), st.data())
@settings(max_examples=60, derandomize=True, deadline=None)
def test_a_faster_station_never_takes_longer(network: Network, data: st.DataObject) -> None:
    which = data.draw(st.integers(0, len(network.stations) - 1))
    runs = [replace(run, seconds=run.seconds / 2) if run.station == which else run for run in network.runs]
    faster = replace(network, runs=tuple(runs))
    assert latency(faster) <= latency(network) + handling(network)


@given(groups(), st.sampled_from([0.25, 0.5, 2.0, 8.0]), st.integers(1, 4))
@settings(max_examples=40, derandomize=True, deadline=None)
def test_all_scaled_is_the_same_scaled(network: Network, factor: float, under_way: int) -> None:
    scaled = replace(
        network,
        runs=tuple(replace(run, seconds=run.seconds * factor) for run in network.runs),
        messages=tuple(replace(m, send=m.send * factor, receive=m.receive * factor) for m in network.messages),
        hop=network.hop * factor,
    )
    assert latency(scaled) == factor * latency(network)
    assert rate(scaled, under_way) == rate(network, under_way) / factor
