"""Orders and cuts against every order and every cut, by the same tables."""

from __future__ import annotations

from collections import Counter
from itertools import combinations, permutations
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.cost.links import UNKNOWN, WORKSTATION, Link, Links, Ways
from core.cost.nodes import NodeCost
from core.cost.orders import CostTables, Goal, Member, best_cuts, best_lines, transitions
from core.cost.stages import Stages, stages_of
from core.cost.tables import tables
from core.model.graph import Model
from tests.plan.models import chain, node_ids, skipping

MODELS = [chain(4), skipping()]
SPEEDS = st.sampled_from([0.3, 0.5, 1.0, 2.0])


def made(model: Model, seconds: list[float]) -> Stages:
    known = tables(model, 2)
    return stages_of(known, seconds[: known.count], 500)


def value(stages: Stages, members: list[Member], ways: Ways, goal: Goal, cuts: tuple[int, ...], sent_on: bool) -> float:
    """Of these stages, added up one by one; ``sent_on``: it is known which node comes next."""
    places = [list(stages.positions).index(cut) for cut in cuts]
    bounds = [0, *places, len(stages.positions) - 1]
    total, worst = 0.0, 0.0
    for index, member in enumerate(members):
        at = bounds[index], bounds[index + 1]
        if not stages.allowed[at] or stages.memory[at] > member.room:
            return inf
        there, back = ways.way(WORKSTATION, member.node), ways.way(member.node, WORKSTATION)
        given, results, received = stages.given[at], stages.results[at], stages.received[at]
        lines = [there.lines, [(name, byte_s) for name, byte_s in back.lines]]
        carried: Counter[str] = Counter()
        coming = given * there.byte_s + (given > 0) * there.hop_s
        for ways_lines, nbytes in zip(lines, (given, results), strict=True):
            carried.update({name: nbytes * byte_s for name, byte_s in ways_lines})
        if index:
            way = ways.way(members[index - 1].node, member.node)
            carried.update({name: received * byte_s for name, byte_s in way.lines})
            coming = max(coming, received * way.byte_s + (received > 0) * way.hop_s)
        if sent_on and index + 1 < len(members):
            way = ways.way(member.node, members[index + 1].node)
            carried.update({name: stages.sent[at] * byte_s for name, byte_s in way.lines})
        leaving = results * back.byte_s + (results > 0) * back.hop_s
        if sent_on and index + 1 < len(members):
            leaving = 0.0  # while the next stage works
        cost = {
            "pace": max(stages.cycle_seconds(member.cost)[at], *carried.values(), 0.0),
            "sum": stages.through_seconds(member.cost)[at] + coming + leaving,
            "memory": stages.memory[at],
        }[goal]
        total += cost
        worst = max(worst, cost)
    return float(total if goal == "sum" else worst)


@given(
    st.sampled_from(MODELS),
    st.lists(st.floats(1e-4, 1e-2), min_size=8, max_size=8),
    st.lists(SPEEDS, min_size=4, max_size=4),
    st.lists(st.sampled_from([1e5, 1e6, 1e9]), min_size=10, max_size=10),
    st.sampled_from(["pace", "sum", "memory"]),
    st.sampled_from([inf, 6000.0]),
    st.booleans(),
)
@settings(max_examples=40, derandomize=True, deadline=None)
def test_no_order_and_no_cut_is_better(
    model: Model, seconds: list[float], speeds: list[float], rates: list[float], goal: Goal, room: float, plain: bool
) -> None:
    nodes = node_ids(4)
    pairs = combinations((WORKSTATION, *nodes), 2)
    links = UNKNOWN if plain else Links({pair: Link(1e-3, rate) for pair, rate in zip(pairs, rates, strict=True)})
    ways, stages = Ways(links, nodes, {}), made(model, seconds)
    members = [Member(node, NodeCost(speed), room) for node, speed in zip(nodes, speeds, strict=True)]
    best = inf
    places = [int(place) for place in stages.positions[1:-1]]
    for count in (2, 3, 4):
        for order in permutations(members, count):
            every = list(combinations(places, count - 1))
            least = min((value(stages, list(order), ways, goal, cuts, True) for cuts in every), default=inf)
            assert best_cuts(CostTables(stages, ways, goal), order).value == pytest.approx(least)
            best = min([best, *(value(stages, list(order), ways, goal, cuts, False) for cuts in every)])
    found = best_lines(CostTables(stages, ways, goal), members, ways, lambda: None, most=4)
    assert min((line.value for line in found), default=inf) == pytest.approx(best)
    for line in found:
        used = [next(member for member in members if member.node == node) for node in line.nodes]
        assert value(stages, used, ways, goal, line.cuts, False) == pytest.approx(line.value)


def test_equal_nodes_are_not_told_apart() -> None:
    nodes = node_ids(16)
    equal = [Member(node, NodeCost(1.0), inf) for node in nodes]
    assert transitions(equal, Ways(UNKNOWN, nodes, {})) == 17
    uneven = [Member(node, NodeCost(1.0 + index / 10), inf) for index, node in enumerate(nodes)]
    assert transitions(uneven, Ways(UNKNOWN, nodes, {})) < 3000
    stages = made(chain(8), [0.01] * 16)
    plain = Ways(UNKNOWN, nodes, {})
    found = best_lines(CostTables(stages, plain, "pace"), equal, plain, lambda: None, most=16)
    assert [line.nodes for line in found if len(line.nodes) == 3] == [nodes[:3]]
    assert len({len(line.nodes) for line in found}) == len(found)


def test_little_room_is_told_by_how_much() -> None:
    stages, nodes = made(chain(4), [0.01] * 8), node_ids(2)
    members = [Member(node, NodeCost(1.0), 1000.0) for node in nodes]
    ways = Ways(UNKNOWN, nodes, {})
    assert best_cuts(CostTables(stages, ways, "pace"), members).value == inf
    excess = best_cuts(CostTables(stages, ways, "excess"), members)
    least = best_cuts(CostTables(stages, ways, "memory"), [Member(node, NodeCost(1.0), inf) for node in nodes])
    assert excess.value == pytest.approx(least.value - 1000)
