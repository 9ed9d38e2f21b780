"""What a report says that each node did, from telemetry as it comes."""

from __future__ import annotations

import threading

import pytest
from msgspec.structs import replace

from core.cluster.events import TelemetryArrived
from core.cluster.node import Node
from core.plan.form import NodeId
from core.run.node_use import NodeUseCollector
from core.run.report import NodeUse
from core.wire.messages import Telemetry
from tests.run.test_observing import A, B, at

NAMES = {A: "one", B: "two"}


def begun(before: Telemetry | None = None) -> NodeUseCollector:
    collector = NodeUseCollector([A], "d")
    collector.start([Node(A, "one", "127.0.0.1", 1, telemetry=before), Node(B, "two", "127.0.0.1", 1)])
    return collector


def heard(collector: NodeUseCollector, *samples: Telemetry, node: NodeId = A) -> None:
    for sample in samples:
        collector.take(TelemetryArrived(node, sample))


def use_of(collector: NodeUseCollector, seconds: float) -> NodeUse:
    (use,) = collector.uses([A, B], NAMES, seconds)
    assert (use.name, use.id) == ("one", A)
    return use


def test_bytes_are_counted_and_time_is_that_within_the_run() -> None:
    collector = begun(replace(at(0.0, 1, busy=0.0), data_sent=100, data_received=1000))
    heard(collector, at(0.2, 3, busy=0.1), at(1.2, 30, busy=0.8), at(2.2, 60, busy=0.6), at(3.2, 61, busy=0.1))
    heard(collector, at(9.9, 99), node=B)  # takes no part
    heard(collector, replace(at(4.2, 61, busy=0.0), data_sent=600, data_received=4000))
    collector.credit([A], 4)
    collector.credit([A], 3)
    use = use_of(collector, 2.2)
    assert (use.items, use.sent_bytes, use.received_bytes) == (7, 500, 3000)
    assert use.busy == pytest.approx(0.7), "the first interval began before the run, the last ended after it"
    assert use.cpu == pytest.approx(0.5)


def test_a_run_shorter_than_an_interval_is_as_busy_as_its_runs_were_long() -> None:
    collector = begun(at(0.0, 5, busy=0.0))
    heard(collector, at(0.2, 8, busy=0.3), at(0.4, 8, busy=0.0))
    assert use_of(collector, 0.12).busy == pytest.approx(3 * 0.030 / 0.12)
    assert use_of(collector, 0.01).busy == 1.0
    assert use_of(collector, 0.0).busy == 0.0
    fresh = begun(at(0.0, 500, deployment="before"))
    heard(fresh, at(0.2, 2, busy=0.3))
    assert use_of(fresh, 0.12).busy == pytest.approx(2 * 0.030 / 0.12), "shards of another deployment do not count"
    assert use_of(begun(), 1.0) == NodeUse("one", A, 0, 0.0, 0.0, 0, 0), "a node that said nothing"


def test_a_report_waits_until_all_that_was_done_is_counted() -> None:
    collector = begun(at(0.0, 5))
    for _ in range(3):
        collector.credit([A], 1)
    told = threading.Event()

    def wait() -> None:
        collector.wait_for_last_samples([A, B], 60)
        told.set()

    waiting = threading.Thread(target=wait)
    waiting.start()
    heard(collector, at(0.2, 7))
    assert not told.wait(0.1), "the last micro-batch is missing in it"
    while not told.wait(0.01):  # whenever it began to wait
        heard(collector, at(0.4, 8))
    waiting.join()
    collector.credit([A], 1)
    collector.wait_for_last_samples([A], 0.01)  # a node that says nothing more is not waited for
