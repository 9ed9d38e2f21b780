"""What was measured is kept on disk; bad files cost a measurement and nothing else."""

from __future__ import annotations

from math import inf
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from core.cluster.interface_measuring import interface_of
from core.cluster.measured import FORMAT, MeasuredInterface, MeasuredLink, Measurements, MeasurementStore, end_of
from core.cluster.node import Node, NodeState
from core.cost.benchmark import Mix
from core.cost.links import WORKSTATION, Line, Link
from core.cost.messages import HOP_SECONDS
from core.plan.form import NodeId
from core.wire.messages import LinkSample
from tests.cost.test_benchmark import FOUR_THREADS, HERE, info

A, B = NodeId("a"), NodeId("b")

LINE = MeasuredLink(
    when=5.0,
    round_trip_s=0.4e-3,
    way_s=0.1e-3,
    samples=(LinkSample(1024, 1e6), LinkSample(1 << 20, 12e6)),
    bytes_per_s=12e6,
    bound="line",
    ends=(("", 0), ("10.0.0.1", 0)),
)
KNOWN = Measurements({WORKSTATION: HERE, A: FOUR_THREADS}, {(WORKSTATION, A): LINE})


def node(node_id: NodeId, host: str, link_limit: int = 0) -> Node:
    told = replace(info(), id=node_id, link_limit=link_limit)
    return Node(id=node_id, name=node_id, host=host, control_port=1, state=NodeState.READY, info=told)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "measurements.json"


def test_measurements_come_back_as_they_were_kept(path: Path) -> None:
    store = MeasurementStore(path)
    assert store.load() == Measurements()
    assert store.problem == ""
    assert store.add(KNOWN) == KNOWN
    assert MeasurementStore(path).load() == KNOWN
    assert [one.name for one in path.parent.iterdir()] == [path.name]  # nothing temporary is left


@pytest.mark.parametrize(
    ("face", "rate"),
    [
        (MeasuredInterface(1.0, 30e6, shared=False), inf),
        (MeasuredInterface(1.0, 60e6, shared=True), 60e6),
        (MeasuredInterface(1.0, 20e6, shared=True), 40e6),  # the fastest of its links tells more
    ],
)
def test_the_workstations_interface_is_a_line_only_where_it_sets_the_pace(
    path: Path, face: MeasuredInterface, rate: float
) -> None:
    links = {(WORKSTATION, A): LINE, (WORKSTATION, B): replace(LINE, bytes_per_s=40e6)}
    MeasurementStore(path).add(Measurements(links=links))
    assert MeasurementStore(path).load().links_of([A, B]).lines == ()
    MeasurementStore(path).add(Measurements(interface=face))
    known = MeasurementStore(path).load()
    assert known == Measurements(links=links, interface=face)
    assert known.links_of([A, B]).lines == (Line((WORKSTATION,), rate),)


@pytest.mark.parametrize(("rate", "shared"), [(24e6, False), (21e6, False), (19e6, True), (12e6, True)])
def test_links_that_are_slower_together_share_an_interface(rate: float, shared: bool) -> None:
    assert interface_of(rate, (LINE, LINE)).shared is shared


def test_the_newer_figure_counts_whoever_wrote_it(path: Path) -> None:
    one, other = MeasurementStore(path), MeasurementStore(path)
    newer, older = replace(FOUR_THREADS, when=9.0, gemm_flops=1.0), replace(FOUR_THREADS, when=0.5, gemm_flops=2.0)
    one.add(KNOWN)
    other.add(Measurements({A: newer, B: FOUR_THREADS}))
    one.add(Measurements({A: older}))
    assert MeasurementStore(path).load() == Measurements({**KNOWN.benchmarks, A: newer, B: FOUR_THREADS}, KNOWN.links)


def damaged(**changes: object) -> bytes:
    """A file of the right shape with other contents of one benchmark."""
    whole = msgspec.json.decode(msgspec.json.encode(replace(FOUR_THREADS)))
    return msgspec.json.encode({"format": FORMAT, "benchmarks": {"a": {**whole, **changes}}, "links": []})


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is damaged"),
        (b'{"format": 1, "bench', "is damaged"),
        (b"\xff\xfe\x00", "is damaged"),
        (b"[]", "is damaged"),
        (b'{"format": 0, "nodes": []}', "written by another version of Shardboard"),
        (b'{"format": 99, "benchmarks": {}, "links": []}', "written by another version of Shardboard"),
        (b'{"format": 1, "benchmarks": {"a": {}}, "links": []}', "is damaged"),
        (damaged(gemm_flops=0), "is damaged"),
        (damaged(convolution_core_flops=-1e9), "is damaged"),
        (damaged(memory_bytes_per_s="fast"), "is damaged"),
        (damaged(threads=0), "is damaged"),
        (damaged(free_memory=None), "is damaged"),
    ],
)
def test_a_bad_file_is_said_and_measured_anew(path: Path, content: bytes, words: str) -> None:
    path.write_bytes(content)
    store = MeasurementStore(path)
    assert store.load() == Measurements()
    assert words in store.problem
    assert str(path) in store.problem
    assert "measured anew" in store.problem
    store.add(KNOWN)
    again = MeasurementStore(path)
    assert again.load() == KNOWN
    assert again.problem == ""


def test_a_link_with_impossible_figures_is_damage(path: Path) -> None:
    MeasurementStore(path).add(Measurements(links={(A, B): replace(LINE, way_s=-1.0)}))
    store = MeasurementStore(path)
    assert store.load() == Measurements()
    assert "is damaged" in store.problem


def test_a_folder_that_cannot_be_written_is_said_and_nothing_is_lost(path: Path) -> None:
    path.mkdir()  # a folder is in the file's place
    store = MeasurementStore(path)
    assert store.add(KNOWN) == KNOWN
    assert "cannot be" in store.problem


def test_a_link_whose_end_moved_or_was_limited_is_not_known() -> None:
    assert KNOWN.now([node(A, "10.0.0.1")]).links == KNOWN.links
    assert KNOWN.now([node(A, "10.0.0.9")]).links == {}
    assert KNOWN.now([node(A, "10.0.0.1", link_limit=10**6)]).links == {}
    assert KNOWN.now([node(B, "10.0.0.1")]) == Measurements({WORKSTATION: HERE})
    assert end_of(None) == ("", 0)


def test_predictions_get_lines_and_no_loopback() -> None:
    loopback = replace(LINE, loopback=True, bound="processors")
    limited = replace(LINE, bound="limit", way_s=0.0)
    known = Measurements(links={(WORKSTATION, A): LINE, (A, WORKSTATION): limited, (A, B): loopback})
    links = known.links_of([A, B])
    assert links.known == {
        (WORKSTATION, A): Link(2 * HOP_SECONDS + 0.1e-3, 12e6),
        (A, WORKSTATION): Link(),  # nothing but what Machine.link_limit says
    }
    assert known.links_of([B]).known == {}


def test_speeds_are_under_the_present_limit() -> None:
    infos = {A: info(cpu_limit=0.5), B: info()}
    assert KNOWN.speeds(infos, Mix(1, 0, 0)) == {A: pytest.approx(2.0)}
    assert Measurements({A: FOUR_THREADS}).speeds(infos) == {}  # nothing to compare with


def test_without_nodes() -> None:
    assert KNOWN.without([A]) == Measurements({WORKSTATION: HERE})


def test_one_thread_of_this_machine_is_as_fast_as_itself() -> None:
    noisy = replace(HERE, gemm_flops=1.06 * HERE.gemm_flops)
    near = replace(LINE, loopback=True)
    known = Measurements({WORKSTATION: HERE, A: noisy, B: noisy}, {(WORKSTATION, A): near, (WORKSTATION, B): LINE})
    infos = {A: info(threads=1, cpu_limit=0.5), B: info(threads=1)}
    assert known.speeds(infos, Mix(1, 0, 0)) == {A: 0.5, B: pytest.approx(1.06)}
