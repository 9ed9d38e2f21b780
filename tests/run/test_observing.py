"""What nodes are seen to do, beside what was predicted, and what that makes of their speeds."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from core.cluster.node import Node
from core.commands.stale import calibrated_words
from core.cost.types import Machine, NodePrediction, Prediction
from core.plan.form import NodeId, Plan, PlanRequest, Sha256, Shard, ShardId
from core.run.calibration import Calibration, changes_of, factors_for, message_factor
from core.run.calibrations import CalibrationStore
from core.run.comparing import Beside, compare
from core.run.observing import Observation, Observer
from core.wire.messages import ShardLoad, Telemetry

A, B = NodeId("a"), NodeId("b")
MODEL = Sha256("m" * 64)


def plan_of(shards: dict[NodeId, int]) -> Plan:
    """So many shards on each node, one after another."""
    nodes = [node for node, count in shards.items() for _ in range(count)]
    made = [Shard(ShardId(at), node, str(at), 0, 0, 0, MODEL, 1, (), (), (), 0) for at, node in enumerate(nodes)]
    return Plan(MODEL, "model", PlanRequest("pipeline", tuple(shards), 4), tuple(made), ())


def load(shard: int, runs: int, each: float, *, busy: float, sent: int = 0, received: int = 0) -> ShardLoad:
    """A shard that did so many runs of ``each`` seconds and bytes."""
    return ShardLoad(ShardId(shard), "", busy, 0.0, runs, runs, runs * each, runs * sent, runs * received)


def telemetry(when: float, *loads: ShardLoad, cores: float = 1.0, deployment: str = "d") -> Telemetry:
    return Telemetry(
        time=when,
        cpu=0.5,
        cpu_per_core=(0.5,),
        process_cpu=cores,
        memory_used=0,
        memory_total=1,
        process_memory=int(1000 + when),
        net_sent_per_s=0,
        net_received_per_s=0,
        data_sent=0,
        data_received=0,
        temperature=None,
        power=None,
        queue=1,
        shards=loads,
        executions=(),
        deployment=deployment,
        owner="",
    )


def at(when: float, runs: int, *, busy: float = 0.6, cores: float = 1.0, deployment: str = "d") -> Telemetry:
    """Of shards 0 and 1, which run for 10 and 20 ms."""
    first = load(0, runs, 0.010, busy=busy / 3, received=300)
    return telemetry(when, first, load(1, runs, 0.020, busy=busy * 2 / 3, sent=500), cores=cores, deployment=deployment)


def watched(observer: Observer, node: NodeId = A, *, cores: float = 1.0) -> None:
    """Two seconds in which shards 0 and 1 run 20 times a second: 60 % busy. They had run 7 times before."""
    observer.take(node, at(0.0, 7, busy=0.0))
    for step in range(1, 11):
        observer.take(node, at(0.2 * step, 7 + 4 * step, cores=cores))


def test_what_a_node_does_for_each_micro_batch() -> None:
    observer = Observer(plan_of({A: 2, B: 1}), "d", {A: Machine("x", 4)})
    watched(observer)
    found = observer.observations()
    assert set(found) == {A}, "nothing is said of a node that was not heard"
    seen = found[A]
    assert seen.compute_s == pytest.approx(0.030)
    assert seen.share == pytest.approx(0.6)
    assert seen.wait == pytest.approx(0.4)
    assert seen.cycle_s == pytest.approx(0.05)
    assert (seen.sent_bytes, seen.received_bytes) == (500, 300)
    assert seen.memory_bytes == 1002
    assert seen.held == 1.0


def test_what_is_counted_is_exact_however_telemetry_comes() -> None:
    """Late, in bursts, more micro-batches than a telemetry tells one by one, shards that are not equally far."""
    observer = Observer(plan_of({A: 2}), "d", {})
    observer.take(A, telemetry(0.0, load(0, 3, 0.01, busy=1.0, received=7), load(1, 1, 0.02, busy=0.0, sent=9)))
    for when, first, second in ((0.1, 5, 4), (1.7, 900, 880), (1.75, 900, 890), (4.0, 1203, 1201), (4.1, 1204, 1202)):
        loads = load(0, first, 0.01, busy=0.4, received=7), load(1, second, 0.02, busy=0.1, sent=9)
        observer.take(A, telemetry(when, *loads))
    seen = observer.observations()[A]
    assert (seen.sent_bytes, seen.received_bytes) == (9, 7)
    assert seen.compute_s == pytest.approx(0.03)
    assert seen.share == pytest.approx(0.5)


def test_the_rest_of_a_cpu_limit_belongs_to_computing() -> None:
    observer = Observer(plan_of({A: 2}), "d", {A: Machine("x", 4, cpu_limit=0.8)})
    watched(observer)
    seen = observer.observations()[A]
    assert seen.compute_s == pytest.approx(0.030 / 0.8)
    assert seen.share == pytest.approx(0.6 / 0.8)


def test_cores_that_others_took_are_seen() -> None:
    observer = Observer(plan_of({A: 2}), "d", {A: Machine("x", 2, threads=2)})
    watched(observer, cores=0.9)
    assert observer.observations()[A].held == pytest.approx(0.9 / (0.6 * 2))


def test_only_time_that_surely_lies_within_the_run_counts_for_shares() -> None:
    observer = Observer(plan_of({A: 2}), "d", {})
    for when, runs, busy in (
        (0.0, 0, 0.0),
        (1.0, 2, 0.1),  # it began somewhere in here
        (2.0, 10, 0.6),
        (3.0, 10, 0.0),  # a pause
        (4.0, 20, 0.8),
        (5.0, 25, 0.2),  # it ended somewhere in here
        (6.0, 25, 0.0),
        (99.0, 25, 0.0),
    ):
        observer.take(A, at(when, runs, busy=busy))
    seen = observer.observations()[A]
    assert seen.seconds == pytest.approx(3.0)
    assert seen.share == pytest.approx((0.6 + 0.0 + 0.8) / 3)


def test_other_deployments_and_new_starts_do_not_count() -> None:
    observer = Observer(plan_of({A: 2}), "d", {})
    watched(observer)
    before = observer.observations()[A]
    observer.take(A, at(9.0, 10**6, deployment="other"))
    assert observer.observations()[A] == before
    observer.start()
    assert observer.observations() == {}
    for step in range(9):
        observer.take(A, at(30.0 + step, 60 + step // 2))
    assert observer.observations() == {}, "four micro-batches say nothing of a mean"
    observer.take(A, at(40.0, 65))
    assert observer.observations()[A].sent_bytes == 500


def test_a_node_that_began_anew_is_counted_anew() -> None:
    observer = Observer(plan_of({A: 2}), "d", {})
    watched(observer)
    observer.take(A, at(3.0, 2))
    assert observer.observations() == {}
    observer.take(A, telemetry(3.5))
    assert observer.observations() == {}, "its shards are gone"
    for step in range(9):
        observer.take(A, at(4.0 + step, step))
    assert observer.observations()[A].received_bytes == 300


def prediction(*nodes: tuple[NodeId, float, float]) -> Prediction:
    """(node, compute seconds, share)."""
    made = tuple(
        NodePrediction(node, compute, 1, 1, 2000, 400, share, received_bytes=300, period_s=compute / share)
        for node, compute, share in nodes
    )
    return Prediction(100.0, 0.05, made, made[0].node, 0.5, 80.0, made[0].node, loaded_latency_s=0.12, in_flight=4)


def seen_of(node: NodeId, compute: float, *, held: float = 1.0) -> Observation:
    return Observation(node, compute, 0.9, 500, 300, 1500, held, 3.0)


def test_measured_stands_beside_predicted_with_its_error() -> None:
    found = compare(prediction((A, 0.02, 1.0), (B, 0.01, 0.5)), {A: seen_of(A, 0.03)}, 90.0, None)
    assert found.throughput.error == pytest.approx(-0.1)
    assert found.latency_s == Beside(0.12), "that of a run is under load"
    assert found.latency_s.error is None
    first, second = found.nodes
    assert first.compute_s.error == pytest.approx(0.5)
    assert first.sent_bytes.error == pytest.approx(0.25)
    assert first.memory_bytes.error == pytest.approx(-0.25)
    assert first.wait.difference == pytest.approx(0.1)
    assert second.wait.predicted == pytest.approx(0.5)
    assert second.compute_s.measured is None


def test_speeds_follow_what_was_measured() -> None:
    told = prediction((A, 0.02, 1.0), (B, 0.01, 0.5))
    found = changes_of(told, {A: seen_of(A, 0.04), B: seen_of(B, 0.01005)}, {A: 1.2, B: 0.7})
    (change,) = found
    assert (change.node, change.before, change.after) == (A, 1.2, pytest.approx(0.6))


def test_only_foretold_waiting_for_cores_is_taken_off() -> None:
    crowded = prediction((A, 0.02, 0.6), (B, 0.01, 0.3))
    (change,) = changes_of(crowded, {A: seen_of(A, 0.05, held=0.5)}, {A: 1.0})
    assert change.measured_s == pytest.approx(0.03), "as far as it was foretold"
    (change,) = changes_of(crowded, {A: seen_of(A, 0.05, held=0.9)}, {A: 1.0})
    assert change.measured_s == pytest.approx(0.045), "as far as it happened"
    (change,) = changes_of(prediction((A, 0.02, 1.0)), {A: seen_of(A, 0.05, held=0.5)}, {A: 1.0})
    assert change.measured_s == pytest.approx(0.05)


def test_a_measurement_of_something_else_changes_nothing() -> None:
    assert changes_of(prediction((A, 0.02, 1.0)), {A: seen_of(A, 2.0)}, {A: 1.0}) == ()


def test_messages_cost_what_runs_with_these_nodes_have_shown() -> None:
    known = [Calibration(A, MODEL, 0.8, 1.0, 3.0, 2.0), Calibration(B, MODEL, 1.0, 1.0, 3.0, 0.5)]
    assert message_factor(MODEL, known, {A}) == pytest.approx(2.0)
    assert message_factor(MODEL, known, {A, B}) == pytest.approx(1.0), "the mean of what was shown, as a factor"
    assert message_factor(MODEL, known, {NodeId("c")}) == 1.0, "nothing is known of other nodes"
    assert message_factor(Sha256("x" * 64), known, {A, B}) == 1.0


def test_it_is_told_that_predictions_follow_a_run() -> None:
    nodes = [Node(A, "pi", "192.168.1.7", 9000)]
    assert calibrated_words([], nodes) == ()
    (words,) = calibrated_words([Calibration(A, MODEL, 0.8, 1_700_000_000.0, 3.0, 2.0)], nodes)
    assert words.startswith("Predictions follow a run of 2023-11-1")
    assert "pi at 0.80 of its speed, messages at 2.00 of their cost as measured." in words
    assert "shardboard nodes --measure" in words


def test_calibrations_are_kept_and_a_damaged_file_is_empty(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "calibrations.json"
    store = CalibrationStore(path)
    assert store.all() == ()
    kept = Calibration(A, MODEL, 0.8, 1.0, 3.0)
    store.save([kept])
    assert CalibrationStore(path).factors(MODEL) == {A: 0.8}
    assert factors_for(Sha256("x" * 64), store.all()) == {}
    path.write_text('[{"node": "a"')
    with caplog.at_level(logging.WARNING):
        assert store.all() == ()
    assert "calibrations.json" in caplog.text
    store.save([kept])
    assert store.all() == (kept,)
