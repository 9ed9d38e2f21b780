"""A plan that breaks one rule of the form is found out, whichever rule it is."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from core.plan.compile import compile_plan
from core.plan.form import CLIENT, NodeId, Plan, Port, Route, Sha256, ShardId, Slice
from core.plan.rules import broken_rules, validate_plan
from tests.plan.models import request, skipping

replace = msgspec.structs.replace


def good(strategy: str = "pipeline") -> Plan:
    cuts = (2, 3) if strategy == "pipeline" else None
    return compile_plan(skipping(), request(strategy, 3, cuts=cuts)).plan


def with_shard(plan: Plan, index: int, **changes: object) -> Plan:
    shards = list(plan.shards)
    shards[index] = replace(shards[index], **changes)
    return replace(plan, shards=tuple(shards))


def without_route(plan: Plan, target: str, consumer: int) -> Plan:
    kept = tuple(route for route in plan.routes if (route.target, route.consumer) != (target, consumer))
    assert len(kept) == len(plan.routes) - 1
    return replace(plan, routes=kept)


def more_routes(plan: Plan, *routes: Route) -> Plan:
    return replace(plan, routes=(*plan.routes, *routes))


def test_compiled_plans_keep_the_rules() -> None:
    validate_plan(good())
    validate_plan(good("replicate"))


@pytest.mark.parametrize(
    ("breaks", "words"),
    [
        (lambda p: replace(p, shards=(), routes=()), "there is no shard"),
        (lambda p: with_shard(p, 1, id=ShardId(0)), "not unique"),
        (lambda p: with_shard(p, 1, node=NodeId("stranger")), "not asked for"),
        (lambda p: with_shard(p, 1, graph=Sha256("graph")), "something else than a SHA-256"),
        (lambda p: with_shard(p, 1, node=p.shards[0].node), "has no shard"),
        (lambda p: without_route(p, "b", 1), "is fed by 0 routes"),
        (lambda p: more_routes(p, p.routes[0]), "is fed by 2 routes"),
        (lambda p: more_routes(p, Route(ShardId(7), "a", ShardId(0), "x")), "unknown shard"),
        (lambda p: more_routes(p, Route(CLIENT, "x", CLIENT, "y")), "from the client to the client"),
        (lambda p: more_routes(p, Route(ShardId(0), "ghost", ShardId(1), "b")), "no output 'ghost'"),
        (lambda p: more_routes(p, Route(ShardId(0), "a", ShardId(1), "ghost")), "no input 'ghost'"),
        (lambda p: with_shard(p, 0, outputs=(*p.shards[0].outputs, Port("idle", "int8", ()))), "nobody reads"),
        (lambda p: with_shard(p, 0, inputs=()), "nothing would ever start it"),
        (lambda p: without_route(p, "y", CLIENT), "reaches the client"),
        (lambda p: with_shard(p, 1, inputs=(Port("b", "int64", (None, 20)),)), "does not fit"),
        (lambda p: with_shard(p, 1, inputs=(Port("b", "float32", (None, 21)),)), "does not fit"),
        (lambda p: with_shard(p, 1, replica=1), "joins replicas"),
        (lambda p: with_shard(p, 0, outputs=2 * p.shards[0].outputs), "2 ports called"),
        (lambda p: more_routes(p, Route(ShardId(2), "y", ShardId(0), "x")), "wait for one another"),
        (lambda p: more_routes(p, Route(ShardId(2), "y", CLIENT, "y")), "exactly once"),
    ],
)
def test_each_rule(breaks: Callable[[Plan], Plan], words: str) -> None:
    broken = list(broken_rules(breaks(good())))
    assert any(words in sentence for sentence in broken), broken
    with pytest.raises(ValueError, match="breaks its own rules"):
        validate_plan(breaks(good()))


def in_pieces(plan: Plan, *pieces: tuple[tuple[Slice, ...], tuple[Slice, ...]]) -> Plan:
    """Output "y", which is 20 wide, in pieces (slices, at) instead."""
    (whole,) = (route for route in plan.routes if route.target == "y")
    others = tuple(route for route in plan.routes if route is not whole)
    return replace(plan, routes=(*others, *(replace(whole, slices=cut, at=at) for cut, at in pieces)))


def part(start: int, stop: int, axis: int = 1) -> tuple[Slice, ...]:
    return (Slice(axis, start, stop),)


def test_pieces_that_cover_an_output() -> None:
    validate_plan(in_pieces(good(), (part(0, 8), part(0, 8)), (part(8, 20), part(8, 20))))
    validate_plan(in_pieces(good(), (part(0, 10), part(10, 20)), (part(10, 20), part(0, 10))))


@pytest.mark.parametrize(
    ("pieces", "words"),
    [
        (((part(0, 8), part(0, 8)), (part(9, 20), part(9, 20))), "exactly once"),
        (((part(0, 9), part(0, 9)), (part(8, 20), part(8, 20))), "exactly once"),
        (((part(0, 8), part(0, 8)), ((), ())), "exactly once"),
        (((part(0, 8), part(0, 8)), (part(8, 20, 0), part(8, 20, 0))), "exactly once"),
        (((part(0, 21), ()),), "cuts 0-21 out of axis 1"),
        (((part(5, 5), ()),), "cuts 5-5"),
        (((part(0, 2, 0), ()),), "cuts 0-2 out of axis 0"),
        (((part(0, 2, 2), ()),), "cuts axis 2"),
        (((part(0, 8), part(0, 9)), (part(8, 20), part(9, 20))), "puts"),
        (((part(0, 8) + part(0, 20, 0), ()),), "increasing order"),
    ],
)
def test_pieces_that_do_not(pieces: tuple[tuple[tuple[Slice, ...], tuple[Slice, ...]], ...], words: str) -> None:
    broken = list(broken_rules(in_pieces(good(), *pieces)))
    assert any(words in sentence for sentence in broken), broken


def as_terms(plan: Plan, *terms: tuple[int | None, tuple[Slice, ...]]) -> Plan:
    """Output "y", which is 20 wide, as terms of a sum, or pieces of terms, instead."""
    (whole,) = (route for route in plan.routes if route.target == "y")
    others = tuple(route for route in plan.routes if route is not whole)
    return replace(plan, routes=(*others, *(replace(whole, term=term, slices=at, at=at) for term, at in terms)))


def test_terms_of_a_sum() -> None:
    validate_plan(as_terms(good(), (0, ()), (1, ())))
    validate_plan(as_terms(good(), (1, ()), (0, part(0, 8)), (0, part(8, 20))))


@pytest.mark.parametrize(
    "terms",
    [
        [(1, ())],
        [(0, ()), (2, ())],
        [(0, ()), (0, ())],
        [(None, ()), (0, ())],
        [(0, part(0, 8)), (1, part(8, 20))],
    ],
)
def test_terms_that_are_none(terms: list[tuple[int | None, tuple[Slice, ...]]]) -> None:
    assert any("exactly once" in sentence for sentence in broken_rules(as_terms(good(), *terms)))


def test_slices_between_shards() -> None:
    plan = good()
    inner = next(index for index, route in enumerate(plan.routes) if CLIENT not in (route.producer, route.consumer))

    def changed(**changes: object) -> list[str]:
        routes = list(plan.routes)
        routes[inner] = replace(routes[inner], **changes)
        return list(broken_rules(replace(plan, routes=tuple(routes))))

    assert changed(slices=part(0, 20)) == []
    assert any("does not fit" in sentence for sentence in changed(slices=part(0, 10)))
    assert any("only the client" in sentence for sentence in changed(at=part(0, 20)))
    assert any("only the client adds up" in sentence for sentence in changed(term=0))


def test_replicas_are_numbered_from_nought() -> None:
    plan = good("replicate")
    assert any("replicas are numbered" in sentence for sentence in broken_rules(with_shard(plan, 0, replica=5)))
