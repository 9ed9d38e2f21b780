"""The dataflow as a state machine: every order of arrival, every duplicate, every lie, without a socket."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import dataflow
from agent.dataflow import (
    ClientAttached,
    Dataflow,
    Drop,
    Fail,
    JobCancelled,
    PeerFailed,
    Refuse,
    Run,
    Send,
    ShardRaised,
    ShardRan,
    TensorsArrived,
)
from core.errors import ProtocolError
from core.plan.form import CLIENT, NodeId, Port, Route, Sha256, Shard, ShardId, Slice
from core.wire.frames import decode_header, tensor_frames
from core.wire.messages import ShardFailed, TensorMeta, Tensors

HERE, THERE, OWNER = NodeId("here"), NodeId("there"), "owner"
ADD, NEXT, FAR = ShardId(0), ShardId(1), ShardId(2)


def shard(number: ShardId, inputs: tuple[str, ...], outputs: tuple[str, ...], node: NodeId = HERE) -> Shard:
    ports = [tuple(Port(name, "float32", (None, 2)) for name in names) for names in (inputs, outputs)]
    return Shard(number, node, f"shard {number}", 0, 0, 0, Sha256("0" * 64), 0, (), ports[0], ports[1], 0)


# ADD takes one input from the client and one from FAR on another node; NEXT takes both outputs of ADD on this node.
SHARDS = (shard(ADD, ("a", "b"), ("s", "d")), shard(NEXT, ("s1", "d1"), ("y",)))
ROUTES = (
    Route(CLIENT, "x", ADD, "a"),
    Route(FAR, "f", ADD, "b"),
    Route(ADD, "s", NEXT, "s1"),
    Route(ADD, "d", NEXT, "d1"),
    Route(ADD, "d", FAR, "back"),
    Route(NEXT, "y", CLIENT, "out"),
)
PLACEMENT = {0: HERE, 1: HERE, 2: THERE}


def make(budget: int = 1 << 20) -> Dataflow:
    return Dataflow(HERE, OWNER, "d", 1, SHARDS, ROUTES, PLACEMENT, budget)


def arrive(flow: Dataflow, name: str, seq: int, *, job: int = 1, rows: int = 1, **changes: object) -> list[object]:
    producer, user = (CLIENT, OWNER) if name == "a" else (FAR, THERE)
    array = np.full((rows, 2), seq, np.float32)
    header, *raw = tensor_frames("d", 1, job, seq, producer, ADD, [(name, array, "raw")])
    decoded = decode_header(header)
    assert isinstance(decoded, Tensors)
    frames = [memoryview(np.asarray(r)).cast("B") for r in raw]
    return list(flow.handle(TensorsArrived(decoded, str(changes.get("user", user)), frames)))


def finish(flow: Dataflow, run: Run) -> list[object]:
    """What the shard would give: sum and difference, or the sum."""
    feed = list(run.feed.values())
    outputs = [feed[0] + feed[1], feed[0] - feed[1]] if run.shard == ADD else [feed[0] + feed[1]]
    return list(flow.handle(ShardRan(run, outputs, 0.001)))


def test_a_shard_runs_when_its_last_input_comes_and_feeds_what_follows() -> None:
    flow = make()
    assert arrive(flow, "a", 3) == []
    (run,) = arrive(flow, "b", 3)
    assert isinstance(run, Run)
    assert (run.shard, run.job, run.seq, sorted(run.feed)) == (ADD, 1, 3, ["a", "b"])
    assert run.received == 2 * 2 * 4
    assert flow.wants(run)
    assert flow.running == 1
    send, after = finish(flow, run)
    assert isinstance(send, Send)
    assert (send.node, send.consumer, [name for name, _, _ in send.arrays]) == (THERE, FAR, ["back"])
    assert isinstance(after, Run)
    assert (after.shard, sorted(after.feed)) == (NEXT, ["d1", "s1"])
    assert after.received == 0, "nothing of this came from elsewhere"
    assert not flow.wants(run)
    (result,) = finish(flow, after)
    assert isinstance(result, Send)
    assert (result.node, result.consumer, result.arrays[0][0]) == (None, CLIENT, "out")
    assert (flow.running, flow.held) == (0, 0)


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 5)), max_size=60))
def test_each_micro_batch_runs_exactly_once_in_any_order(arrivals: list[tuple[str, int]]) -> None:
    flow = make()
    ran: list[int] = []
    for name, seq in arrivals:
        for effect in arrive(flow, name, seq):
            assert isinstance(effect, Run)
            ran.append(effect.seq)
            if seq % 2:  # some end at once, some stay running while duplicates come
                finish(flow, effect)
    both = {s for n, s in arrivals if n == "a"} & {s for n, s in arrivals if n == "b"}
    assert sorted(ran) == sorted(both)


def test_strangers_and_wrong_routes_are_refused_without_a_trace() -> None:
    flow = make()
    for user in (THERE, "stranger", HERE):
        (effect,) = arrive(flow, "a", 1, user=user)
        assert isinstance(effect, Refuse)
        assert "do not come from this sender" in effect.failed.message
    header = Tensors("d", 1, 1, 1, CLIENT, ADD, ())
    (effect,) = flow.handle(TensorsArrived(header, OWNER, []))
    assert isinstance(effect, Refuse)
    assert "empty" in effect.failed.message
    lying = tensor_frames("d", 1, 1, 1, CLIENT, ADD, [("b", np.zeros((1, 2), np.float32), "raw")])
    decoded = decode_header(lying[0])
    assert isinstance(decoded, Tensors)
    (effect,) = flow.handle(TensorsArrived(decoded, OWNER, [memoryview(bytes(8))]))
    assert isinstance(effect, Refuse)
    assert "'b'" in effect.failed.message
    assert flow.held == 0


NUMBERS = st.integers(-(2**63), 2**64 - 1) | st.integers(-2, 4)
METAS = st.builds(
    TensorMeta,
    st.sampled_from(["a", "b", "s1", "d1", "", "x"]),
    st.sampled_from(["float32", "float64", "object"]),
    st.lists(st.integers(-1, 3) | NUMBERS, max_size=3).map(tuple),
    st.sampled_from(["raw", "zip"]),
)
HEADERS = st.builds(
    Tensors,
    st.sampled_from(["d", "", "e"]),
    st.just(1) | NUMBERS,
    NUMBERS,
    NUMBERS,
    NUMBERS.map(ShardId),
    NUMBERS.map(ShardId),
    st.lists(METAS, max_size=3).map(tuple),
)


@given(st.lists(st.tuples(HEADERS, st.sampled_from([OWNER, THERE, "x"]), st.lists(st.binary(max_size=24))), max_size=8))
def test_no_header_whatever_upsets_it(messages: list[tuple[Tensors, str, list[bytes]]]) -> None:
    flow = make()
    for header, user, frames in messages:
        for effect in flow.handle(TensorsArrived(header, user, [memoryview(f) for f in frames])):
            assert isinstance(effect, Refuse | Run)
    (run,) = arrive(flow, "a", 77, job=99) + arrive(flow, "b", 77, job=99)
    assert isinstance(run, Run)


def test_what_is_held_is_bounded_by_number_and_by_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataflow, "MOST_BATCHES", 3)
    flow = make()
    for seq in range(3):
        assert arrive(flow, "a", seq) == []
    (refusal,) = arrive(flow, "a", 3)
    assert isinstance(refusal, Refuse)
    assert (refusal.failed.code, refusal.failed.seq) == ("busy", 3)
    assert isinstance(arrive(flow, "b", 0)[0], Run)
    small = make(budget=1000)
    assert arrive(small, "a", 0, rows=200) == []
    (refusal,) = arrive(small, "a", 1)
    assert isinstance(refusal, Refuse)
    assert "1.56 KiB" in refusal.failed.message


def test_a_failure_is_told_once_and_may_be_told_again_after_another_try() -> None:
    flow = make()
    arrive(flow, "a", 0)
    (run,) = arrive(flow, "b", 0)
    assert isinstance(run, Run)
    (effect,) = flow.handle(ShardRaised(run, "shard", "it broke", 0.1))
    assert effect == Fail(ShardFailed("d", 1, 1, 0, ADD, "shard", "it broke"))
    assert flow.handle(PeerFailed(effect.failed)) == []
    for seq in range(1, 3):
        arrive(flow, "a", seq)
    news = ShardFailed("d", 1, 1, 1, FAR, "shard", "broke there")
    drop, fail = flow.handle(PeerFailed(news))
    assert (drop, fail) == (Drop(frozenset({(ADD, 1, 1)})), Fail(news))
    assert flow.handle(PeerFailed(news)) == []
    assert flow.held == 1
    arrive(flow, "a", 1)
    assert Fail(news) in flow.handle(PeerFailed(news))
    assert flow.handle(PeerFailed(ShardFailed("d", 0, 1, 2, FAR, "shard", "old epoch"))) == []


def test_cancelling_and_attaching_anew_forget() -> None:
    flow = make()
    arrive(flow, "a", 0, job=1)
    arrive(flow, "a", 0, job=2)
    (run,) = arrive(flow, "b", 0, job=2)
    assert isinstance(run, Run)
    assert flow.handle(JobCancelled(1)) == [Drop(frozenset({(ADD, 1, 0)}))]
    assert flow.handle(ClientAttached()) == [Drop(frozenset({(ADD, 2, 0)}))]
    assert (flow.running, flow.held) == (0, 0)
    assert finish(flow, run) == []
    arrive(flow, "a", 0, job=2)
    assert isinstance(arrive(flow, "b", 0, job=2)[0], Run)


@pytest.mark.parametrize(
    ("shards", "routes", "placement", "words"),
    [
        ((*SHARDS, SHARDS[0]), ROUTES, PLACEMENT, "twice"),
        ((shard(ADD, ("a",), ("s",), THERE),), (), PLACEMENT, "another node"),
        ((shard(ADD, (), ("s",)),), (), PLACEMENT, "no inputs"),
        (SHARDS, ROUTES[1:], PLACEMENT, "exactly once: a"),
        (SHARDS, (*ROUTES, Route(CLIENT, "x", ADD, "a")), PLACEMENT, "twice"),
        (SHARDS, (*ROUTES, Route(ADD, "nothing", CLIENT, "z")), PLACEMENT, "does not make"),
        (SHARDS, ROUTES, {0: HERE, 1: HERE}, "placement does not say where shard 2"),
    ],
)
def test_a_plan_that_makes_no_sense(
    shards: tuple[Shard, ...], routes: tuple[Route, ...], placement: dict[int, NodeId], words: str
) -> None:
    with pytest.raises(ProtocolError, match=words):
        Dataflow(HERE, OWNER, "d", 1, shards, routes, placement, 1000)


CUT_ROUTES = (
    Route(CLIENT, "x", ADD, "a"),
    Route(FAR, "f", ADD, "b"),
    Route(ADD, "s", NEXT, "s1", slices=(Slice(1, 1, 2),)),
    Route(ADD, "d", NEXT, "d1"),
    Route(ADD, "s", FAR, "low", slices=(Slice(0, 0, 2), Slice(1, 0, 1))),
    Route(ADD, "s", FAR, "high", slices=(Slice(0, 1, 3),)),
    Route(ADD, "d", CLIENT, "out", slices=(Slice(1, 0, 1),), at=(Slice(1, 4, 5),)),
    Route(ADD, "d", CLIENT, "out", slices=(Slice(1, 1, 2),), at=(Slice(1, 8, 9),)),
    Route(NEXT, "y", CLIENT, "other"),
)


def test_what_is_sent_is_cut_out_first() -> None:
    flow = Dataflow(HERE, OWNER, "d", 1, SHARDS, CUT_ROUTES, PLACEMENT, 1 << 20)
    arrive(flow, "a", 3, rows=3)
    (run,) = arrive(flow, "b", 3, rows=3)
    outputs = [np.arange(6, dtype=np.float32).reshape(3, 2), -np.arange(6, dtype=np.float32).reshape(3, 2)]
    *sends, after = flow.handle(ShardRan(run, outputs, 0.001))
    sent = {(send.node, name): array for send in sends for name, array, _ in send.arrays}
    assert {key: array.tolist() for key, array in sent.items()} == {
        (THERE, "low"): [[0], [2]],
        (THERE, "high"): [[2, 3], [4, 5]],
        (None, "out[1=4:5]"): [[0], [-2], [-4]],
        (None, "out[1=8:9]"): [[-1], [-3], [-5]],
    }
    assert isinstance(after, Run)
    assert after.feed["s1"].tolist() == [[1], [3], [5]]
    assert after.feed["d1"] is outputs[1]


def test_an_output_that_is_too_small_to_be_cut_fails_its_micro_batch_only() -> None:
    flow = Dataflow(HERE, OWNER, "d", 1, SHARDS, CUT_ROUTES, PLACEMENT, 1 << 20)
    for seq, rows in ((0, 2), (1, 3)):
        arrive(flow, "a", seq, rows=rows)
        (run,) = arrive(flow, "b", seq, rows=rows)
        effects = flow.handle(ShardRan(run, [np.ones((rows, 2), np.float32)] * 2, 0.001))
        if rows == 2:
            (fail,) = (effect for effect in effects if isinstance(effect, Fail))
            assert "has no part 1 to 3 of axis 0" in fail.failed.message
            assert not any(isinstance(effect, Send | Run) for effect in effects)
            assert flow.held == 0
        else:
            assert any(isinstance(effect, Run) for effect in effects)


@pytest.mark.parametrize(
    ("route", "words"),
    [
        (Route(ADD, "s", FAR, "z", slices=(Slice(2, 0, 1),)), "Field slices of 's', .* axis 2 of a tensor with 2 axes"),
        (Route(ADD, "s", FAR, "z", slices=(Slice(1, 1, 1),)), "Field slices of 's', .* goes from 1 to 1 on axis 1"),
        (Route(ADD, "s", FAR, "z", slices=(Slice(1, 0, 3),)), "Field slices of 's', .* goes to 3 on axis 1"),
        (Route(ADD, "s", NEXT, "s1", slices=(Slice(1, 0, 3),)), "Field slices of 's', .* goes to 3 on axis 1"),
        (Route(ADD, "s", FAR, "z", at=(Slice(0, 0, 3),)), "Field at of 's' is for the client"),
        (Route(ADD, "s", CLIENT, "z", at=(Slice(0, 3, 3),)), "Field at of 's', .* goes from 3 to 3"),
        (Route(ADD, "s", FAR, "z", term=0), "Field term of 's' is 0"),
        (Route(ADD, "s", CLIENT, "z", term=-1), "Field term of 's' is -1"),
        (Route(ADD, "s", CLIENT, "z", term=1), None),
        (Route(ADD, "s", CLIENT, "other"), None),
        (Route(ADD, "d", CLIENT, "out", at=(Slice(1, 4, 5),)), "to -1 twice"),
    ],
)
def test_slices_that_make_no_sense(route: Route, words: str | None) -> None:
    routes = tuple(r for r in CUT_ROUTES if r.target != route.target or r.consumer == CLIENT)
    if words is None:
        Dataflow(HERE, OWNER, "d", 1, SHARDS, (*routes, route), PLACEMENT, 1000)
        return
    with pytest.raises(ProtocolError, match=words):
        Dataflow(HERE, OWNER, "d", 1, SHARDS, (*routes, route), PLACEMENT, 1000)
