"""What is known of links decides what a request leaves open."""

from __future__ import annotations

from core.cost.balance import estimated_profile
from core.cost.dataflow import predict_outline
from core.cost.links import UNKNOWN, WORKSTATION, Link, Links
from core.plan.compile import compile_plan, outline_plan
from core.plan.form import PlanRequest
from tests.plan.models import chain, node_ids

A, B, C, D = NODES = node_ids(4)
FAST, SLOW = Link(1e-4, 1e9), Link(2e-4, 1e6)


def test_open_cuts() -> None:
    """Where nothing is said of links the cut is in the middle; a slow one asks for a narrow place."""
    model = chain(6, width=300)
    profile = estimated_profile(model, 64)
    asked = PlanRequest("pipeline", (A, B), 64)
    links = Links({(A, B): SLOW, (WORKSTATION, A): FAST, (WORKSTATION, B): FAST})
    plain = compile_plan(model, asked, profile=profile).outline
    minded = compile_plan(model, asked, profile=profile, links=links).outline
    there = [predict_outline(profile, one, model, {}, {}, links).throughput for one in (plain, minded)]
    assert there[1] >= there[0]


def test_exchanges_of_a_group() -> None:
    """On slow links a group sends less; and what it reaches there is no worse."""
    model = chain(6, width=64)
    profile = estimated_profile(model, 32)
    asked = PlanRequest("tensor", NODES[:3], 32)
    links = Links(default=SLOW)
    plain, minded = (outline_plan(model, asked, profile=profile, links=one) for one in (UNKNOWN, links))
    assert sum(minded.route_bytes) <= sum(plain.route_bytes)
    there = [predict_outline(profile, one, model, {}, {}, links).throughput for one in (plain, minded)]
    assert there[1] >= there[0] * 0.98


def test_replicas_behind_different_links_are_worked_out_each() -> None:
    model = chain(4, width=64)
    profile = estimated_profile(model, 32)
    asked = PlanRequest("replicate(2) > tensor(2)", NODES, 32)
    near = Links({(A, B): FAST, (C, D): FAST})
    apart = Links({(A, B): FAST, (C, D): SLOW})
    alike, unlike = (outline_plan(model, asked, profile=profile, links=links) for links in (near, apart))
    assert len({id(part.program) for part in alike.parts}) * 2 == len(alike.parts)
    assert len({id(part.program) for part in unlike.parts}) == len(unlike.parts)


def test_stages_of_groups_mind_the_way_between_them() -> None:
    model = chain(8, width=200)
    profile = estimated_profile(model, 64)
    asked = PlanRequest("pipeline(2) > tensor(2)", NODES, 64)
    links = Links(dict.fromkeys([(A, C), (A, D), (B, C), (B, D)], SLOW))
    found = outline_plan(model, asked, profile=profile, links=links)
    assert found.request.cuts is not None
    assert len(found.request.cuts) == 1
