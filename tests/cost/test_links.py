"""Links in the simulation, in both predictions, in cuts and in the price of exchanges."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from core.cost.balance import balanced_cuts, estimated_profile
from core.cost.dataflow import predict_outline
from core.cost.exchange import MEASURED, LinkCost, all_reduce_seconds, link_cost, searched
from core.cost.links import UNKNOWN, WORKSTATION, Line, Link, Links, Way, Ways
from core.cost.messages import HOP_SECONDS, MessageCosts
from core.cost.predict import predict
from core.cost.shared_cores import Station
from core.cost.simulation import CLIENT, Message, Network, Run, latency, rate
from core.cost.types import Machine, Profile
from core.model.graph import Model
from core.model.library import open_entry
from core.plan.compile import outline_plan
from tests.cost.outlines import joined, part
from tests.plan.models import chain, node_ids, request, skipping

SLOW = Link(round_trip_s=2e-4, bytes_per_s=12.5e6)
"""100 Mbit/s."""
A, B, C = node_ids(3)
FAST = Link(bytes_per_s=1e9)
ONE_SLOW = Links({(A, B): SLOW, (WORKSTATION, A): FAST, (WORKSTATION, B): FAST})
MODEL = chain(2)


def even(model: Model, batch: int = 2, seconds: float = 0.01) -> Profile:
    count = len(model.layers(batch))
    return Profile(model.sha256, batch, 1, (seconds,) * count, seconds * count, base_bytes=50 << 20)


class TestWays:
    def test_nothing_known_is_loopback(self) -> None:
        ways = Ways(UNKNOWN, (A, B), {})
        assert ways.plain
        assert ways.way(A, B) == ways.way(WORKSTATION, A) == Way(15e-6)

    def test_a_message_crosses_both_interfaces(self) -> None:
        ways = Ways(Links({(A, B): SLOW, (A, C): Link(bytes_per_s=125e6)}), (A, B, C), {})
        lines = dict(ways.way(A, B).lines)
        assert lines == {f"out of node {A}": 1 / 125e6, f"into node {B}": 1 / 12.5e6}
        assert ways.way(A, B).hop_s == pytest.approx(1e-4)
        assert ways.way(B, A).byte_s == 1 / 12.5e6

    def test_a_link_slower_than_both_interfaces_is_a_line_of_its_own(self) -> None:
        fast = Link(bytes_per_s=125e6)
        ways = Ways(Links({(A, B): SLOW, (A, C): fast, (B, C): fast}), (A, B, C), {})
        assert ways.way(A, B).byte_s == 1 / 12.5e6
        assert len(ways.way(A, B).lines) == 3
        assert ways.way(A, C).byte_s == 1 / 125e6

    def test_nodes_of_one_machine_share_its_interface(self) -> None:
        machines = {A: Machine("lab", 4), B: Machine("lab", 4), C: Machine("here", 4, here=True)}
        ways = Ways(Links(default=SLOW), (A, B, C), machines)
        assert ways.way(A, B) == Way(15e-6)
        assert ways.way(C, WORKSTATION) == Way(15e-6)
        assert ways.way(A, WORKSTATION).lines == ways.way(B, C).lines
        assert ways.way(A, WORKSTATION).lines == (("into the workstation", 8e-8), ("out of lab", 8e-8))

    def test_a_line_given_takes_the_interfaces_place(self) -> None:
        ways = Ways(Links(lines=(Line((A,), 1e6), Line((A, B), 1e5))), (A, B, C), {})
        assert ways.way(A, B).lines == ((f"out of node {A}", 1e-6),)
        assert dict(ways.way(C, B).lines) == {f"into {A}+{B}": 1e-5}

    def test_an_interface_that_is_faster_than_all_links_across_it_is_no_line(self) -> None:
        """As where a workstation feeds several nodes at once; nodes of its machine may be left out of a plan."""
        known = {(WORKSTATION, A): SLOW, (WORKSTATION, B): SLOW}
        shared = Ways(Links(known), (A, B), {})
        own = Ways(Links(known, (Line((WORKSTATION, C), inf),)), (A, B), {})
        names = [{name for name, _ in ways.way(WORKSTATION, A).lines} for ways in (shared, own)]
        assert names == [{"out of the workstation", f"into node {A}"}, {f"into node {A}"}]


class TestPlayed:
    def network(self, *lines: tuple[tuple[int, float], ...]) -> Network:
        """One run for each of ``lines``, all on one station, whose results cross those lines."""
        inputs = tuple(Message(CLIENT, 0, i, 0.0, 0.0) for i in range(len(lines)))
        results = tuple(Message(0, CLIENT, CLIENT, 0.0, 0.0, crossed, 0.5) for crossed in lines)
        runs = tuple(Run(0, 1.0, messages=(len(lines) + i,)) for i in range(len(lines)))
        count = 1 + max(line for crossed in lines for line, _ in crossed)
        return Network((Station(),), (1,), runs, inputs + results, 0.1, count)

    def test_a_message_flows_through_its_lines(self) -> None:
        assert latency(self.network(((0, 2.0), (1, 5.0)))) == pytest.approx(0.1 + 1 + 5 + 0.1 + 0.5)

    def test_a_line_carries_one_after_the_other(self) -> None:
        shared, apart = self.network(((0, 5.0),), ((0, 5.0),)), self.network(((0, 5.0),), ((1, 5.0),))
        assert latency(shared) == pytest.approx(0.1 + 1 + 5 + 5 + 0.6)
        assert latency(apart) == pytest.approx(0.1 + 2 + 5 + 0.6)
        assert rate(shared, 4) == pytest.approx(1 / 10)
        assert rate(apart, 8) == pytest.approx(1 / 5)

    def test_who_waits_for_a_further_line_leaves_the_first_one_free(self) -> None:
        jammed = self.network(((1, 9.0),), ((0, 1.0), (1, 1.0)), ((0, 20.0),))
        assert latency(jammed) == pytest.approx(0.1 + 3 + 20 + 0.6)


class TestPredicted:
    def megabyte(self, links: Links) -> tuple[float, float, float]:
        """Two stages that hand over 1 MB: latency, throughput, and the seconds that sending takes."""
        line = joined(2, [part(0, 0, {0: 1, 1: 1}), part(1, 1, {2: 1, 3: 1}, stage=1)],
                      [(-1, 0, 8), (0, 1, 1_000_000), (1, -1, 8)])  # fmt: skip
        told = predict_outline(even(MODEL, 1), line, MODEL, {}, {}, links)
        return told.latency_s, told.throughput, told.nodes[0].send_s

    def test_a_hand_over_takes_its_bytes_over_the_bandwidth(self) -> None:
        fast, slow = self.megabyte(UNKNOWN), self.megabyte(Links({(A, B): SLOW}))
        assert slow[0] == pytest.approx(fast[0] + 0.08 + 1e-4 - 15e-6, rel=1e-3)
        assert slow[1] == pytest.approx(1 / 0.08, rel=0.01)
        assert fast[1] > 40
        assert slow[2] == pytest.approx(0.08)

    def test_the_bottleneck_and_the_limit_are_named(self) -> None:
        model = chain(4, width=1000)
        asked = request("pipeline", 2, batch=500, cuts=(4,))  # 2 MB
        told = predict(even(model, 500), model, asked, {}, {}, ONE_SLOW)
        assert told.throughput == pytest.approx(500 / 0.16, rel=0.01)
        assert max(node.share for node in told.nodes) == pytest.approx(1, rel=0.01)
        assert told.single_throughput == pytest.approx(500 / 0.08, rel=0.05)
        assert any("The network is the limit" in note for note in told.notes)
        assert any("Slower than the best node alone" in note for note in told.notes)

    def test_replicas_share_the_workstations_interface(self) -> None:
        model = chain(2, width=1000)
        known = even(model, 100, seconds=0.001)  # 0.4 MB in, 0.4 MB out, 4 ms of work
        asked = request("replicate", 3, batch=100)
        assert predict(known, model, asked, {}, {}, Links(default=SLOW)).throughput == pytest.approx(
            100 / 0.032, rel=0.01
        )
        own = Links({(WORKSTATION, node): SLOW for node in (A, B, C)}, (Line((WORKSTATION,), 1e9),))
        apart = predict(known, model, asked, {}, {}, own)
        assert apart.throughput == pytest.approx(300 * 2 / apart.latency_s, rel=0.01)  # two under way to each
        assert 0.068 < apart.latency_s < 0.07

    def test_a_tensor_plan_over_a_slow_link_is_slower_than_one_node_and_says_so(self) -> None:
        model = chain(8, width=256)
        known = even(model, 64, seconds=1e-3)
        outline = outline_plan(model, request("tensor", 2, batch=64), profile=known)
        fast = predict_outline(known, outline, model, {})
        assert fast.throughput > fast.single_throughput
        slow = predict_outline(known, outline, model, {}, {}, Links({(A, B): SLOW}))
        assert slow.throughput < slow.single_throughput
        assert any("Slower than the best node alone" in note for note in slow.notes)

    @pytest.mark.parametrize("name", ["digits-cnn", "chain", "skipping"])
    def test_sums_and_simulation_agree(self, name: str) -> None:
        model = {"chain": chain(12, 256), "skipping": skipping()}.get(name) or open_entry(name)
        rough = estimated_profile(model, 16)
        links = Links({(A, B): SLOW, (B, C): replace(SLOW, bytes_per_s=3e6)}, default=Link(1e-3, 50e6))
        for strategy, count in (("single", 1), ("replicate", 3), ("pipeline", 2), ("pipeline", 3)):
            asked = request(strategy, count, 16)
            sums = predict(rough, model, asked, {}, {}, links)
            cuts = outline_plan(model, asked, profile=rough).request.cuts if strategy == "pipeline" else None
            asked = replace(asked, cuts=cuts)
            sums = predict(rough, model, asked, {}, {}, links)
            played = predict_outline(rough, outline_plan(model, asked), model, {}, {}, links)
            assert played.throughput == pytest.approx(sums.throughput, rel=0.08), (strategy, count)
            assert played.latency_s == pytest.approx(sums.latency_s, rel=0.05), (strategy, count)
            for one, other in zip(sums.nodes, played.nodes, strict=True):
                assert (other.send_s, other.receive_s) == pytest.approx((one.send_s, one.receive_s))

    def test_replicas_of_pipelines_add_up(self) -> None:
        model = chain(4)
        one = predict(even(model), model, request("pipeline", 2, cuts=(4,)), {})
        nested = request("replicate(2) > pipeline(2)", 4, cuts=(4,))
        two = predict(even(model), model, nested, {})
        assert two.throughput == pytest.approx(2 * one.throughput)
        played = predict_outline(even(model), outline_plan(model, nested), model, {})
        assert played.throughput == pytest.approx(two.throughput, rel=0.01)


def test_cuts_avoid_what_the_link_cannot_carry() -> None:
    model = skipping()  # one tensor crosses behind the first product, two in the middle
    known = Profile(model.sha256, 2, 1, (1e-5, 1e-5, 1e-5, 1e-5, 1e-5, 1e-5), 6e-5)
    slow = Links({(A, B): Link(bytes_per_s=1e6)})
    (cut,) = balanced_cuts(known, model, [1.0, 1.0], nodes=(A, B), links=slow)
    widths = {entry.position: entry.nbytes for entry in model.cuts(2)}
    assert widths[cut] == min(widths.values())
    assert balanced_cuts(known, model, [1.0, 1.0], nodes=(A, B)) == balanced_cuts(known, model, [1.0, 1.0])


class TestExchanges:
    def test_a_group_is_as_fast_as_its_slowest_link(self) -> None:
        assert link_cost((A, B), UNKNOWN) == MEASURED
        cost = link_cost((A, B, C), Links({(A, B): SLOW}))
        assert cost.wire_byte_s == pytest.approx(8e-8)
        assert cost.hop_s == pytest.approx(1e-4 + 20e-6)
        assert all_reduce_seconds(1 << 20, 2, cost) > (1 << 20) * 8e-8

    def test_messages_cost_what_was_measured_of_them(self) -> None:
        measured = MessageCosts(2e-4, 3e-9, 1e-4, 5e-5)
        assert link_cost((A, B), UNKNOWN, {}, measured) == LinkCost(2e-4, 3e-9, pytest.approx(1.5e-4))
        far = link_cost((A, B), Links({(A, B): SLOW}), {}, measured)
        assert (far.message_s, far.byte_s) == (2e-4, 3e-9)
        assert far.hop_s == pytest.approx(1e-4 + 1e-4 - HOP_SECONDS + 5e-5)

    def test_the_search_takes_no_message_to_be_cheaper_than_is_typical(self) -> None:
        measured = MessageCosts(1e-5, 3e-9, 1e-6)
        assert searched(measured) == MessageCosts(byte_s=3e-9)

    def test_ranks_on_two_machines_share_their_line(self) -> None:
        nodes = node_ids(8)
        machines = {node: Machine("one" if index < 4 else "two", 8) for index, node in enumerate(nodes)}
        cost = link_cost(nodes, Links(default=SLOW), machines)
        assert cost.trunk_byte_s == pytest.approx(8e-8)
        assert cost.wire_byte_s == 0
        mixed = link_cost(nodes[::2] + nodes[1::2], Links(default=SLOW), machines)
        assert mixed.wire_byte_s == pytest.approx(8e-8 * 16 / 7)


@given(st.floats(1e5, 1e9), st.floats(1.1, 10), st.integers(2, 3))
@settings(max_examples=30, derandomize=True, deadline=None)
def test_a_slower_link_never_helps(bytes_per_s: float, factor: float, stages: int) -> None:
    model = chain(4, width=64)
    asked = request("pipeline", stages, batch=8, cuts=(2, 4)[: stages - 1])
    one, other = (
        predict(even(model, 8, 1e-4), model, asked, {}, {}, Links(default=Link(1e-4, speed)))
        for speed in (bytes_per_s, bytes_per_s / factor)
    )
    assert other.throughput <= one.throughput * (1 + 1e-9)
    assert other.latency_s >= one.latency_s
