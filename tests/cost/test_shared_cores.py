"""Nodes of one machine, and the workstation on it, when its cores do not suffice; and links that nodes limit."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.cost.links import UNKNOWN, WORKSTATION, Line, Link, Links, Ways
from core.cost.network import Flow, Traffic, network_of
from core.cost.nodes import NodeCost, node_costs, share_cores
from core.cost.shared_cores import Station
from core.cost.simulation import CLIENT, Message, Network, Run, latency, rate, rates
from core.cost.types import Machine
from core.plan.form import NodeId
from core.wire.pacing import BURST_SECONDS

A, B, C = (NodeId(letter * 40) for letter in "ABC")


def side_by_side(
    seconds: list[float], cores: int, *, rest: float = 0.0, client: bool = False, handling: float = 0.0
) -> Network:
    """Replicas of one run each, on stations of one machine."""
    count = len(seconds)
    messages = tuple(Message(CLIENT, i, i, handling, handling) for i in range(count))
    messages += tuple(Message(i, CLIENT, CLIENT, handling, handling) for i in range(count))
    runs = tuple(
        Run(i, taken, rest if i == count - 1 else 0.0, (count + i,), replica=i) for i, taken in enumerate(seconds)
    )
    stations = tuple(Station() for _ in seconds)
    return Network(stations, (cores,), runs, messages, 0.0, client=0 if client else None)


class TestCores:
    def test_each_gets_an_equal_part(self) -> None:
        assert rates(side_by_side([1.0, 1.0, 1.0], 2), 2) == pytest.approx((2 / 3,) * 3, rel=1e-3)
        assert rates(side_by_side([1.0, 2.0], 1), 2) == pytest.approx((1 / 2, 1 / 4), rel=0.05)

    def test_who_rests_leaves_cores_to_the_others_and_rests_longer_when_it_was_slowed(self) -> None:
        """With three at work each has 2/3 of a core: the last one runs for 1.5 s, then rests for 1.5 s."""
        busy, other, resting = rates(side_by_side([1.0, 1.0, 1.0], 2, rest=1.0), 2)
        assert resting == pytest.approx(1 / 3, rel=0.01)
        assert busy == pytest.approx(5 / 6, rel=0.02)
        assert other == pytest.approx(5 / 6, rel=0.02)

    def test_the_workstation_takes_its_part(self) -> None:
        """Sending and receiving takes it as long as the run takes the only core that there is."""
        together = side_by_side([1.0], 1, client=True, handling=0.25)
        apart = side_by_side([1.0], 1, handling=0.25)
        assert rate(apart, 2) == pytest.approx(1 / 1.5)
        assert rate(together, 2) == pytest.approx(1 / 2)
        assert latency(together) == pytest.approx(2)

    def test_enough_cores_are_as_good_as_machines_of_their_own(self) -> None:
        crowd = side_by_side([1.0, 1.5, 2.0], 4, client=True, handling=0.1)
        assert rates(crowd, 2) == pytest.approx((1 / 1.2, 1 / 1.7, 1 / 2.2), rel=0.02)

    @given(
        seconds=st.lists(st.floats(0.05, 2), min_size=1, max_size=4),
        cores=st.integers(1, 4),
        handling=st.floats(0, 0.2),
        under_way=st.integers(1, 3),
    )
    @settings(max_examples=40, derandomize=True, deadline=None)
    def test_no_core_does_more_than_it_can(
        self, seconds: list[float], cores: int, handling: float, under_way: int
    ) -> None:
        found = rates(side_by_side(seconds, cores, client=True, handling=handling), under_way)
        work = [taken + 4 * handling for taken in seconds]
        assert sum(each * taken for each, taken in zip(found, work, strict=True)) <= cores * 1.05
        assert all(each <= 1.02 / taken for each, taken in zip(found, seconds, strict=True))

    @pytest.mark.parametrize(("move", "seconds"), [(0.0, 4.5), (0.5, 4.75), (100.0, 8.0)])
    def test_who_shares_a_core_comes_to_a_free_one_after_a_while(self, move: float, seconds: float) -> None:
        """The first two are bound to a core each; the second has soon done, the third has begun beside the first."""
        messages = tuple(Message(CLIENT, i, i, 0.0, 0.0) for i in range(3))
        messages += tuple(Message(i, CLIENT, CLIENT, 0.0, 0.0) for i in range(3))
        runs = tuple(Run(i, taken, 0.0, (3 + i,)) for i, taken in enumerate([4.0, 1.0, 4.0]))
        stations = (Station(core=0), Station(core=1), Station())
        assert latency(Network(stations, (2,), runs, messages, 0.0, move=move)) == pytest.approx(seconds)

    def test_share_cores(self) -> None:
        def costs(here: bool, cores: int, threads: int = 1) -> list[NodeCost]:
            machines = {node: Machine("lab", cores, threads, here=here) for node in (A, B)}
            return list(node_costs((A, B), {}, machines).values())

        assert not share_cores(costs(here=False, cores=2))
        assert share_cores(costs(here=True, cores=2))
        assert share_cores(costs(here=False, cores=3, threads=2))
        assert not share_cores([NodeCost(), NodeCost()])


class TestLimitedLinks:
    """A limit of 8 Mbit/s: a megabyte takes a second."""

    def machines(self, *limited: NodeId) -> dict[NodeId, Machine]:
        return {node: Machine("here", 8, here=True, link_limit=8_000_000 if node in limited else 0) for node in (A, B)}

    def network(self, machines: dict[NodeId, Machine], links: Links = UNKNOWN) -> Network:
        flow = Flow((A, B), ((0, 0.0), (1, 0.0)), (Traffic(-1, 0, 0), Traffic(0, 1, 1_000_000), Traffic(1, -1, 0)))
        costs = node_costs((A, B), {}, machines)
        return network_of([flow], costs, Ways(links, (A, B), machines))

    def test_each_end_takes_its_time(self) -> None:
        free, one, both = (latency(self.network(self.machines(*limited))) for limited in ((), (B,), (A, B)))
        assert one == pytest.approx(free + 1 - BURST_SECONDS, rel=1e-3)
        assert both == pytest.approx(free + 2 * (1 - BURST_SECONDS), rel=1e-3)

    def test_in_a_stream_both_ends_work_at_once(self) -> None:
        assert rate(self.network(self.machines(A, B)), 4) == pytest.approx(1, rel=0.01)

    def test_a_small_message_passes_at_once(self) -> None:
        machines = self.machines(A)
        flow = Flow((A,), ((0, 0.0),), (Traffic(-1, 0, 1500), Traffic(0, -1, 1500)))
        network = network_of([flow], node_costs((A,), {}, machines), Ways(UNKNOWN, (A,), machines))
        free = network_of([flow], node_costs((A,), {}, {}), Ways(UNKNOWN, (A,), {}))
        assert latency(network) == pytest.approx(latency(free))

    def test_a_measured_stream_does_not_count_twice(self) -> None:
        measured = Links({(A, B): Link(bytes_per_s=0.99e6)}, (Line((A,)), Line((B,))))
        limited = self.machines(A, B)
        assert latency(self.network(limited, measured)) == pytest.approx(latency(self.network(limited)), rel=0.02)

    def test_the_way_names_the_limits(self) -> None:
        way = Ways(UNKNOWN, (A, B), self.machines(A)).way(A, B)
        assert way.leaves
        assert not way.enters
        assert Ways(UNKNOWN, (A, B), self.machines(A)).way(WORKSTATION, A).enters
