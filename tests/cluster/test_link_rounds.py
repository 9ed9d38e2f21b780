"""Which links are measured and when, and what is the line's of what was measured."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from core.cluster.link_meaning import Ends, evened_links, meaning_of
from core.cluster.link_rounds import groups_of, rounds_of, tasks_of
from core.cluster.machines import THIS_MACHINE
from core.cluster.measured import MeasuredLink
from core.cost.links import WORKSTATION
from core.plan.form import NodeId
from core.wire.messages import LinkProbed, LinkSample
from tests.cluster.test_measured import LINE, node

HERE_1, HERE_2, FAR_1, FAR_2, SLOW, OTHER = (NodeId(name) for name in ("h1", "h2", "f1", "f2", "slow", "other"))
MACHINES = {
    HERE_1: THIS_MACHINE, HERE_2: THIS_MACHINE, FAR_1: "far", FAR_2: "far", SLOW: "far", OTHER: "other"
}  # fmt: skip
NODES = [node(one, machine, link_limit=1000 if one == SLOW else 0) for one, machine in MACHINES.items()]


def test_nodes_of_a_machine_are_measured_once() -> None:
    groups = groups_of(NODES, MACHINES)
    assert [group.nodes for group in groups] == [
        (WORKSTATION, HERE_1, HERE_2), (FAR_1, FAR_2), (OTHER,), (SLOW,)
    ]  # fmt: skip
    tasks = tasks_of(groups, {})
    pairs = {frozenset((task.one, task.other)) for task in tasks if task.one != task.other}
    assert pairs == {
        frozenset(pair)
        for pair in (
            (WORKSTATION, FAR_1), (WORKSTATION, OTHER), (WORKSTATION, SLOW), (FAR_1, OTHER), (FAR_1, SLOW),
            (SLOW, OTHER), (WORKSTATION, HERE_1), (FAR_1, FAR_2),
        )
    }  # fmt: skip
    # those that talk to other machines measure themselves first
    assert {task.one for task in tasks if task.one == task.other} == {FAR_1, OTHER, SLOW}
    assert tasks[0].one == tasks[0].other


def test_what_is_known_of_any_of_them_is_not_measured_again() -> None:
    groups = groups_of(NODES, MACHINES)
    known = {(HERE_2, FAR_2): LINE, (FAR_2, HERE_2): LINE, (WORKSTATION, WORKSTATION): LINE, (FAR_1, OTHER): LINE}
    pairs = {frozenset((task.one, task.other)) for task in tasks_of(groups, known)}
    assert frozenset((WORKSTATION, FAR_1)) not in pairs
    assert frozenset((WORKSTATION, HERE_1)) not in pairs
    assert frozenset((FAR_1, OTHER)) in pairs  # one direction is not enough
    everything = {(one, other): LINE for one in (*MACHINES, WORKSTATION) for other in (*MACHINES, WORKSTATION)}
    assert tasks_of(groups, everything) == []


@given(st.lists(st.integers(0, 6), min_size=1, max_size=20))
def test_a_machine_takes_part_in_one_measurement_at_a_time(places: list[int]) -> None:
    machines = {NodeId(f"n{index}"): f"m{place}" if place else THIS_MACHINE for index, place in enumerate(places)}
    groups = groups_of([node(one, machine) for one, machine in machines.items()], machines)
    tasks = tasks_of(groups, {})
    rounds = rounds_of(tasks)
    assert sorted((t.one, t.other) for one in rounds for t in one) == sorted((t.one, t.other) for t in tasks)
    for one in rounds:
        taken = [machine for task in one for machine in task.machines]
        assert len(taken) == len(set(taken))


@pytest.mark.parametrize("count", [2, 3, 7, 8, 15, 16])
def test_there_are_hardly_more_rounds_than_nodes(count: int) -> None:
    machines = {NodeId(f"n{index:02}"): f"m{index}" for index in range(count)}
    tasks = tasks_of(groups_of([node(one, machine) for one, machine in machines.items()], machines), {})
    assert len(rounds_of([task for task in tasks if task.one != task.other])) <= count + 1  # the workstation too


def probed(round_trip: float, *rates: float) -> LinkProbed:
    return LinkProbed(round_trip, tuple(LinkSample(1 << 16 + 2 * step, rate) for step, rate in enumerate(rates)))


ALONE = (probed(200e-6, 500e6), probed(400e-6, 300e6))


def meaning(found: LinkProbed, **ends: object) -> MeasuredLink:
    whole = {"one_machine": False, "alone": ALONE, "alone_limited": (False, False), **ends}
    return meaning_of(found, Ends(**whole), 1.0)  # type: ignore[arg-type]


def test_a_line_is_slower_than_what_its_ends_do_alone() -> None:
    link = meaning(probed(800e-6, 100e6, 118e6, 90e6))
    assert (link.bound, link.bytes_per_s) == ("line", 100e6)  # one stream may seem faster than the line
    assert link.way_s == pytest.approx(500e-6)  # what each end takes for half a round trip with itself is its own
    assert link.link.bytes_per_s == 100e6


@pytest.mark.parametrize("rate", [250e6, 300e6, 2e9])
def test_a_stream_as_fast_as_the_slower_end_is_bound_by_processors(rate: float) -> None:
    link = meaning(probed(310e-6, rate))
    assert link.bound == "processors"
    assert link.link.bytes_per_s == float("inf")
    assert link.way_s == 0.0  # 10 us are noise


@pytest.mark.parametrize(
    ("rate", "one_machine", "bound"),
    [
        (12.5e6, False, "limit"),
        (11.0e6, False, "limit"),
        (9.0e6, False, "line"),
        (9.0e6, True, "limit"),
        (5.0e6, True, "processors"),
    ],
)
def test_a_limit_explains_a_rate_near_to_it(rate: float, one_machine: bool, bound: str) -> None:
    link = meaning(probed(1e-3, rate), one_machine=one_machine, limits=(100_000_000,), alone_limited=(True, False))
    assert link.bound == bound
    assert (link.link.bytes_per_s == rate) is (bound == "line")
    assert (link.way_s == 0) is one_machine


def test_small_messages_do_not_tell_the_rate_of_a_stream() -> None:
    small = LinkProbed(1e-3, (LinkSample(1024, 90e6), LinkSample(1 << 16, 10e6), LinkSample(1 << 18, 12e6)))
    assert meaning(small).bytes_per_s == 12e6
    assert meaning(LinkProbed(1e-3, (LinkSample(1024, 1e5),))).bytes_per_s == 1e5


def test_links_that_differ_by_noise_are_alike() -> None:
    a, b, c = NodeId("a"), NodeId("b"), NodeId("c")
    links = {(a, b): LINE, (b, a): replace(LINE, bytes_per_s=11.8e6, way_s=0.12e-3), (a, c): replace(LINE, way_s=9e-3)}
    found = evened_links(links, {})
    assert found[a, b].link == found[b, a].link
    assert found[a, c].way_s == 9e-3
    known = {(b, c): replace(LINE, bytes_per_s=12.3e6)}
    assert evened_links({(a, b): LINE}, known)[a, b].bytes_per_s == 12.3e6
    processors = replace(LINE, bound="processors")
    assert evened_links({(a, b): processors}, known)[a, b].bytes_per_s == LINE.bytes_per_s
