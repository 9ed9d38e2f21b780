"""--strategy auto, as scripts use it, on agents of this machine."""

from __future__ import annotations

import io
import threading

import pytest
from msgspec.structs import replace

from core.cluster.node import Node, NodeState
from core.commands.output import Progress
from core.commands.planning import Costs, choose, predicted, question_of
from core.cost.balance import estimated_profile
from core.cost.links import WORKSTATION, Link, Links
from core.cost.types import Machine
from core.errors import Cancelled, DoesNotFitError
from core.model.graph import Model
from core.model.library import open_entry
from core.plan.form import NodeId, PlanRequest
from core.wire.messages import NodeInfo
from tests.cli.test_commands import MODEL, run, run_json


@pytest.mark.parametrize("objective", ["throughput", "latency", "memory"])
def test_a_plan_says_why(capsys: pytest.CaptureFixture[str], objective: str) -> None:
    made = run_json(capsys, "plan", MODEL, "--local", "2", "--objective", objective)
    assert made["why"].endswith(".")
    assert made["why"].startswith(("One node alone is best, local-", "All 2 nodes, "))
    assert made["predicted"]["throughput"] > 0
    asked_for = run_json(capsys, "plan", MODEL, "--local", "2", "--strategy", made["strategy"])
    assert asked_for["why"] == ""


def test_a_run_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "run", MODEL, "--local", "2", "--strategy", "auto", "--input", "random:40", "--verify")
    assert code == 0, err
    assert "note: One node alone is best" in err or "note: All 2 nodes, " in err
    code, out, err = run(capsys, "plan", MODEL, "--local", "1")
    assert code == 0, err
    assert "why: local-1 is the only node." in out


NODES = [
    Node(
        id=NodeId(letter * 40),
        name=f"pi-{letter}",
        host=f"10.0.0.{place}",
        control_port=1,
        state=NodeState.READY,
        info=NodeInfo(NodeId(letter * 40), f"pi-{letter}", "0", "h", "s", "c", 4, 1, 1 << 30, 1 << 30, 1.0, 0, 2, "e"),
    )
    for place, letter in enumerate("abc")
]
IDS = [node.id for node in NODES]
SLOW = Link(3e-4, 2e6)


@pytest.fixture(scope="module")
def model() -> Model:
    return open_entry("lstm")


def costs(model: Model, links: Links) -> Costs:
    machines = {node.id: Machine(node.host, 4) for node in NODES}
    return Costs(estimated_profile(model, 8), dict.fromkeys(IDS, 1.0), machines, links)


def test_a_node_behind_a_slow_link_is_not_used(model: Model) -> None:
    fast = Link(1e-4, 1e9)
    pairs = [(WORKSTATION, IDS[0]), (WORKSTATION, IDS[1]), (IDS[0], IDS[1])]
    slow = Link(0.2, 1e5)
    links = Links(dict.fromkeys(pairs, fast) | {(other, IDS[2]): slow for other in (WORKSTATION, *IDS[:2])})
    known = costs(model, links)
    found = choose(question_of(model, 8, NODES, known, "throughput"), known)
    assert IDS[2] not in found.compiled.plan.request.nodes
    assert "pi-c" in found.why or "One node alone" in found.why


def test_nothing_fits(model: Model) -> None:
    known = costs(model, Links())
    small = [
        Node(
            id=node.id, name=node.name, host=node.host, control_port=1, state=NodeState.READY,
            info=NodeInfo(node.id, node.name, "0", "h", "s", "c", 4, 1, 1 << 30, 1 << 20, 1.0, 0, 2, "e"),
        )
        for node in NODES
    ]  # fmt: skip
    with pytest.raises(DoesNotFitError, match=r"lstm.* fits in no way\. Nearest to it comes .* on . of 3 nodes: pi-"):
        choose(question_of(model, 8, small, known, "throughput"), known)


def test_timing_shards_is_told_and_ends_when_it_is_stopped(model: Model) -> None:
    known, said = costs(model, Links()), io.StringIO()
    request = PlanRequest("pipeline", tuple(IDS[:2]), 8)
    found = predicted(model, request, known, progress=Progress(said))
    assert found.prediction.timed
    assert said.getvalue() == "Timing the shards of the plan ...\n"
    stop = threading.Event()
    stop.set()
    with pytest.raises(Cancelled, match="Timing the shards was stopped"):
        predicted(model, replace(request, micro_batch=9), known, stop=stop)
    with pytest.raises(Cancelled):
        choose(question_of(model, 8, NODES, known, "throughput"), known, stop=stop)


def test_the_best_plan_is_told_by_what_its_shards_take(model: Model) -> None:
    known, said = costs(model, Links()), io.StringIO()
    found = choose(question_of(model, 8, NODES, known, "latency"), known, progress=Progress(said))
    assert found.prediction.timed
    assert "Timing the likeliest plans ...\nTiming the shards of the plan ...\n" in said.getvalue()
    elsewhere = replace(known, profile=replace(known.profile, node=IDS[0]))
    assert not choose(question_of(model, 8, NODES, elsewhere, "latency"), elsewhere).prediction.timed


def test_open_cuts_mind_the_links() -> None:
    model = open_entry("digits-cnn")
    known = costs(model, Links({(IDS[0], IDS[1]): SLOW}))
    asked = PlanRequest("pipeline", tuple(IDS[:2]), 8)
    with_links = predicted(model, asked, known)
    without = predicted(model, asked, costs(model, Links()))
    there = predicted(model, without.compiled.plan.request, known)
    assert with_links.prediction.throughput > 4 * there.prediction.throughput
