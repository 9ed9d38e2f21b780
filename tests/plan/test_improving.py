"""The best single change of a plan: what it promises is predicted for it, it fits, and nothing simple is better."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from core.cost.dataflow import predict_outline
from core.cost.links import UNKNOWN, WORKSTATION, Link, Links
from core.cost.predict import is_predicted, predict
from core.cost.types import Machine, Prediction, Profile
from core.errors import Cancelled, PlanError
from core.model.graph import Model
from core.model.library import open_entry
from core.plan.auto_types import Candidate, Objective, Question
from core.plan.change_words import layer_words
from core.plan.compile import outline_plan
from core.plan.form import NodeId, PlanRequest, ShardId
from core.plan.improving import Timed, best_change, best_changes, bottleneck_words, sent_by
from core.plan.outline import Outline

IDS = tuple(NodeId(letter * 40) for letter in "ABCD")
NAMES = dict(zip(IDS, ("pi-1", "pi-2", "pi-3", "pi-4"), strict=True))
EQUAL = dict.fromkeys(IDS, 1.0)
SLOW = Link(3e-4, 1e6)


@pytest.fixture(scope="module")
def model() -> Model:
    return open_entry("digits-cnn")


@pytest.fixture(scope="module")
def profile(model: Model) -> Profile:
    """Every layer takes 10 ms, so that messages over loopback matter little."""
    return Profile(model.sha256, 4, 1, (0.01,) * 12, 0.12, 60 << 20)


def ask(
    model: Model,
    profile: Profile,
    *,
    nodes: Sequence[NodeId] = IDS,
    speeds: Mapping[NodeId, float] = EQUAL,
    links: Links = UNKNOWN,
    machines: Mapping[NodeId, Machine] | None = None,
    limits: Mapping[NodeId, int] | None = None,
    objective: Objective = "throughput",
    bound: float | None = None,
) -> Question:
    return Question(
        model=model,
        profile=profile,
        nodes=tuple(nodes),
        speeds=speeds,
        machines=machines or {},
        links=links,
        limits=limits or {},
        objective=objective,
        latency_bound_s=bound,
        batch=4,
        names=NAMES,
    )


def foretold(question: Question, request: PlanRequest) -> Prediction:
    q = question
    if is_predicted(request.strategy):
        return predict(q.profile, q.model, request, q.speeds, q.machines, q.links)
    known = {"profile": q.profile, "speeds": q.speeds, "machines": q.machines, "links": q.links}
    return predict_outline(
        q.profile,
        outline_plan(q.model, request, **known),
        q.model,
        q.speeds,
        q.machines,
        q.links,  # type: ignore[arg-type]
    )


def pipeline(*cuts: int, nodes: Sequence[NodeId] = IDS, **said: Any) -> PlanRequest:
    return PlanRequest("pipeline", tuple(nodes[: len(cuts) + 1]), 4, cuts, **said)


def test_a_cut_is_moved_to_a_named_layer(model: Model, profile: Profile) -> None:
    question = ask(model, profile, nodes=IDS[:2])
    change = best_change(question, pipeline(2))
    assert change is not None
    assert change.request == pipeline(6)
    assert change.gain == pytest.approx(10 / 6 - 1, abs=0.02)
    assert change.words == f"Move the cut to {model.layers(4)[6].name}: + {100 * change.gain:.0f} %"
    assert change.prediction == foretold(question, change.request)


def test_of_several_cuts_the_one_to_move_is_named(model: Model, profile: Profile) -> None:
    change = best_change(ask(model, profile, nodes=IDS[:3]), pipeline(4, 5))
    assert change is not None
    assert change.request.cuts == (4, 8)
    assert change.words.startswith(f"Move the cut between pi-2 and pi-3 to {model.layers(4)[8].name}: + 7")


@given(
    cuts=st.sets(st.integers(1, 11), min_size=1, max_size=3),
    speeds=st.lists(st.sampled_from((0.3, 0.5, 1.0, 1.7)), min_size=4, max_size=4),
    slow=st.booleans(),
)
@settings(max_examples=12, deadline=None)
def test_no_single_cut_moved_is_better(
    model: Model, profile: Profile, cuts: set[int], speeds: list[float], slow: bool
) -> None:
    request = pipeline(*sorted(cuts))
    question = ask(
        model,
        profile,
        nodes=request.nodes,
        speeds=dict(zip(IDS, speeds, strict=True)),
        links=Links(default=SLOW) if slow else UNKNOWN,
    )
    now = foretold(question, request)
    best = now.throughput
    for index in range(len(cuts)):
        for place in range(1, 12):
            moved = [*(request.cuts or ())]
            moved[index] = place
            try:
                best = max(best, foretold(question, replace(request, cuts=tuple(moved))).throughput)
            except PlanError:
                continue
    changes = best_changes(question, request)
    reached = max((change.prediction.throughput for change in changes), default=now.throughput)
    assert reached >= 0.96 * best  # of changes about as good the smallest one is taken


@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_what_is_promised_is_predicted_and_fits(model: Model, profile: Profile, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(1, 11), max_size=3)))
    request = pipeline(*cuts) if cuts else PlanRequest("replicate", IDS[: data.draw(st.integers(1, 4))], 4)
    smallest = min(use.memory_bytes for use in predict(profile, model, request, EQUAL).nodes)
    question = ask(
        model,
        profile,
        speeds=dict(zip(IDS, data.draw(st.permutations((0.3, 0.6, 1.0, 1.5))), strict=True)),
        limits={node: smallest + data.draw(st.integers(-20_000, 300_000)) for node in IDS},
        objective=data.draw(st.sampled_from(("throughput", "latency", "memory"))),
        bound=data.draw(st.sampled_from((None, 0.05, 0.2))),
    )
    now = foretold(question, request)
    fits = keeps(question, now)
    for change in best_changes(question, request):
        assert change.prediction == foretold(question, change.request)
        assert keeps(question, change.prediction)
        assert change.gain >= 0.01 or not fits
        before, after = worth(question, now), worth(question, change.prediction)
        assert change.gain == pytest.approx((before - after) / abs(before))


def keeps(question: Question, told: Prediction) -> bool:
    bound = question.latency_bound_s
    room = all(use.memory_bytes <= question.limits.get(use.node, use.memory_bytes) for use in told.nodes)
    return room and (bound is None or told.latency_s <= bound)


def worth(question: Question, told: Prediction) -> float:
    match question.objective:
        case "throughput":
            return -told.throughput
        case "latency":
            return told.latency_s
        case _:
            return max(use.memory_bytes for use in told.nodes)


def test_nodes_are_swapped_where_a_link_is_slow(model: Model, profile: Profile) -> None:
    """pi-1 and pi-2 are far from each other, pi-3 is near to both."""
    ends = (WORKSTATION, *IDS[:3])
    links = Links({pair: Link(3e-4, 1e8) for pair in combinations(ends, 2)} | {(IDS[0], IDS[1]): Link(3e-4, 1e3)})
    question = ask(model, profile, nodes=IDS[:3], links=links)
    change = best_change(question, pipeline(4, 8))
    assert change is not None
    assert change.words.startswith("Swap ")
    assert (IDS[0], IDS[1]) not in (change.request.nodes[:2], change.request.nodes[1:])


def test_a_node_is_left_out_that_holds_the_others_up(model: Model, profile: Profile) -> None:
    speeds = EQUAL | {IDS[2]: 0.05}
    machines = {node: Machine("box", 2) for node in IDS[:3]}
    question = ask(model, profile, nodes=IDS[:3], speeds=speeds, machines=machines)
    change = best_change(question, pipeline(4, 8))
    assert change is not None
    assert IDS[2] not in change.request.nodes
    assert change.words.startswith("Leave out pi-3: ")
    far = Links({(WORKSTATION, IDS[2]): Link(1.0, 1e4)})
    slower = best_changes(
        ask(model, profile, nodes=IDS[:3], links=far, objective="latency"), PlanRequest("replicate", IDS[:3], 4)
    )
    assert [change.words.partition(":")[0] for change in slower] == ["Leave out pi-3"]
    assert slower[0].words.endswith("% latency")


def test_a_node_that_is_not_used_takes_a_place(model: Model, profile: Profile) -> None:
    speeds = EQUAL | {IDS[1]: 0.2}
    change = best_change(ask(model, profile, nodes=IDS[:3], speeds=speeds), pipeline(6))
    assert change is not None
    assert IDS[2] in change.request.nodes
    assert change.words.startswith(("Use pi-3 instead of pi-2: ", "Add pi-3: "))


def test_work_is_shifted_between_ranks(model: Model, profile: Profile) -> None:
    for strategy, nodes in (("tensor", IDS[:2]), ("replicate(2) > tensor(2)", IDS)):
        request = PlanRequest(strategy, nodes, 4, shares=(0.9, 0.1) * (len(nodes) // 2))
        question = ask(model, profile, nodes=nodes)
        change = best_change(question, request)
        assert change is not None
        assert change.words.startswith("Shift work from pi-")
        assert change.request.shares is not None
        assert change.request.shares[0] < 0.7
        assert sum(change.request.shares[:2]) == pytest.approx(1, abs=1e-9)
        assert change.prediction.throughput == pytest.approx(foretold(question, change.request).throughput)
        assert change.gain > 0.2


def test_a_cut_of_a_pipeline_of_groups_is_moved(model: Model, profile: Profile) -> None:
    request = PlanRequest("pipeline(2) > tensor(2)", IDS, 4, (2,))
    change = best_change(ask(model, profile), request)
    assert change is not None
    assert change.words.startswith("Move the cut to ")
    assert 4 <= (change.request.cuts or (0,))[0] <= 8


def test_another_strategy_is_told_beside_a_smaller_change(model: Model, profile: Profile) -> None:
    links = Links(default=SLOW)
    within, beyond = best_changes(ask(model, profile, nodes=IDS[:2], links=links), pipeline(2))
    assert within.request.strategy == "pipeline"
    assert beyond.request.strategy != "pipeline"
    assert beyond.gain > within.gain >= 0.05


def test_plans_that_were_weighed_already_are_considered(model: Model, profile: Profile) -> None:
    question = ask(model, profile, nodes=IDS[:2], objective="latency")
    request = PlanRequest("tensor", IDS[:2], 4)
    other = Candidate(request, foretold(question, request))
    (change,) = best_changes(question, PlanRequest("single", IDS[:1], 4), others=[other])
    assert change.request == request
    assert change.words.startswith("Use tensor on all 2 nodes: − ")


def test_a_plan_that_does_not_fit_gets_one_that_does(model: Model, profile: Profile) -> None:
    single = PlanRequest("single", IDS[:1], 4)
    whole = predict(profile, model, single, EQUAL).nodes[0].memory_bytes
    question = ask(model, profile, nodes=IDS[:2], limits=dict.fromkeys(IDS, whole - 20_000))
    (change,) = best_changes(question, single)
    assert ": fits, with " in change.words
    assert keeps(question, change.prediction)
    nothing = ask(model, profile, nodes=IDS[:2], limits=dict.fromkeys(IDS, 1 << 20))
    assert best_changes(nothing, single) == ()


def test_a_plan_that_answers_too_late_gets_one_that_is_in_time(model: Model, profile: Profile) -> None:
    question = ask(model, profile, nodes=IDS[:2], speeds=EQUAL | {IDS[1]: 2.0}, bound=0.07)
    change = best_change(question, PlanRequest("single", IDS[:1], 4))
    assert change is not None
    assert change.words.endswith("ms, within the bound")
    assert change.prediction.latency_s <= 0.07


def test_pins_are_kept(model: Model, profile: Profile) -> None:
    question = ask(model, profile, nodes=IDS[:2])
    for change in best_changes(question, pipeline(2, pins=((3, IDS[1]),))):
        assert change.request.strategy == "pipeline"
        assert (change.request.cuts or (12,))[0] <= 3
        assert change.request.pins == ((3, IDS[1]),)


def test_nothing_is_proposed_where_nothing_is_better(model: Model, profile: Profile) -> None:
    assert best_change(ask(model, profile, nodes=IDS[:1]), PlanRequest("single", IDS[:1], 4)) is None
    memory = ask(model, profile, nodes=IDS[:1], objective="memory")
    assert best_change(memory, PlanRequest("single", IDS[:1], 1)) is None


def test_it_can_be_stopped(model: Model, profile: Profile) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(Cancelled):
        best_change(ask(model, profile), pipeline(2), cancel=stop)


def test_words_name_modules_where_that_is_clear(model: Model) -> None:
    layers = model.layers(1)
    flat = [layer_words(layers, place) for place in range(1, len(layers))]
    assert flat == [layer.name for layer in layers[1:]]
    named = [
        replace(layer, group=group)
        for layer, group in zip(layers, ["a/a.0", "a/a.0", "a/a.1/mlp", "b/b.0/mlp", "b/b.0/mlp"], strict=False)
    ]
    assert [layer_words(named, place) for place in range(1, 5)] == [layers[1].name, "a.1", "b", layers[4].name]


# ---------------------------------------------------------------- shards that were timed


def taking(seconds: Callable[[int], float], asked: list[int] | None = None) -> Timed:
    """Shards take ``seconds``, by the number of their layers."""

    def timed(found: Outline) -> dict[ShardId, float]:
        if asked is not None:
            asked.append(len(found.parts))
        return {part.id: seconds(len(part.work)) for part in found.parts}

    return timed


def test_both_sides_are_told_by_what_their_shards_take(model: Model, profile: Profile) -> None:
    question, request = ask(model, profile, nodes=IDS[:2]), pipeline(2)
    promised = best_change(question, request)
    assert promised is not None
    change = best_change(question, request, timed=taking(lambda layers: 0.1 + 0.01 * layers))
    assert change is not None
    assert change.request == promised.request
    assert change.gain == pytest.approx(0.2 / 0.16 - 1, abs=0.02)
    assert change.words.endswith(f": + {100 * change.gain:.0f} %")
    found = outline_plan(model, change.request)
    told = predict_outline(
        profile, found, model, EQUAL, shard_seconds={part.id: 0.1 + 0.01 * len(part.work) for part in found.parts}
    )
    assert change.prediction == told


def test_a_promise_that_timed_shards_do_not_keep_is_not_made(model: Model, profile: Profile) -> None:
    question = ask(model, profile, nodes=IDS[:2])
    asked: list[int] = []
    assert (
        best_changes(question, pipeline(2), timed=taking(lambda layers: 0.05, asked))[0].request.strategy != "pipeline"
    )
    assert 2 <= len(asked) <= 8


def test_where_shards_cannot_be_timed_the_profile_tells_both_sides(model: Model, profile: Profile) -> None:
    question = ask(model, profile, nodes=IDS[:2])
    assert best_changes(question, pipeline(2), timed=lambda _: {}) == best_changes(question, pipeline(2))


# ---------------------------------------------------------------- the bottleneck


def held_back(question: Question, request: PlanRequest, *, outlined: bool = True) -> str:
    known = {"profile": question.profile, "speeds": question.speeds, "machines": question.machines}
    found = outline_plan(question.model, request, **known)  # type: ignore[arg-type]
    return bottleneck_words(
        foretold(question, found.request),
        NAMES,
        found.request,
        question.model.layers(4),
        sent=sent_by(found) if outlined else None,
        links=question.links,
        machines=question.machines,
    )


def test_a_nodes_computing_holds_a_plan_back(model: Model, profile: Profile) -> None:
    question = ask(model, profile)
    for outlined in (True, False):
        words = held_back(question, pipeline(2), outlined=outlined)
        assert words.startswith("pi-2's computing (layers 3-12): 100 of 10")
        assert words.endswith(" ms per micro-batch")
    assert held_back(question, PlanRequest("single", IDS[:1], 4)).startswith("pi-1's computing: 120 of 12")
    assert "'s computing: " in held_back(question, PlanRequest("tensor", IDS[:2], 4, shares=(0.9, 0.1)))


def test_a_link_holds_a_plan_back(model: Model, profile: Profile) -> None:
    slow = Link(3e-4, 12.5e4)
    question = ask(model, profile, links=Links({(IDS[0], IDS[1]): slow}))
    for outlined in (True, False):
        words = held_back(question, pipeline(4), outlined=outlined)
        assert words.startswith("pi-1's 1.00 Mbit/s link to pi-2: ")
    out = Links({(WORKSTATION, node): Link(3e-4, 12.5e2) for node in IDS})
    words = held_back(ask(model, profile, links=out), PlanRequest("replicate", IDS[:2], 4))
    assert words.startswith("the workstation's 10.0 kbit/s link to pi-1 and pi-2: ")


def test_a_machines_cores_hold_a_plan_back(model: Model, profile: Profile) -> None:
    machines = {node: Machine("box", 2) for node in IDS}
    words = held_back(ask(model, profile, machines=machines), PlanRequest("replicate", IDS, 4))
    assert words == "the 2 cores of box, which pi-1, pi-2, pi-3 and 1 more share"


def test_the_workstation_holds_a_plan_back(model: Model, profile: Profile) -> None:
    quick = replace(profile, layer_seconds=(1e-7,) * 12, total_seconds=12e-7)
    words = held_back(ask(model, quick), PlanRequest("replicate", IDS, 4))
    assert words == "the workstation feeds the nodes no faster: its messages take all its time"


def test_waiting_holds_a_plan_back(model: Model, profile: Profile) -> None:
    far = Links(default=Link(0.5, 1e9))
    words = held_back(ask(model, profile, links=far), PlanRequest("tensor", IDS[:2], 4))
    assert words.startswith("waiting for messages: pi-")
    assert words.endswith(" % of the time")
