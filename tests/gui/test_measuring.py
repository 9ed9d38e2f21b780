"""Measuring nodes and links from the Nodes page: with real agents, cancelled, and what is said of stale figures."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pytestqt.qtbot import QtBot

from core.cluster.events import MeasurementsChanged, NodeChanged, TelemetryArrived
from core.cluster.measured import Measurements
from core.plan.form import NodeId
from gui.bridge import Bridge
from gui.main_window import MainWindow
from gui.pages.nodes import NodesPage
from gui.widgets.node_table import LINK, REASON, RTT, SPEED
from tests.benchmarks import GIB, benchmark
from tests.gui.pages import node_of, report_nodes
from tests.run.test_observing import telemetry

Wait = Callable[..., None]

BENCHMARK = benchmark(engine="onnxruntime", free_memory=4 * GIB)
"""Of a node as these tests report them."""


def test_a_measurement_is_cancelled_then_done_and_shown(window: MainWindow, wait_for: Wait) -> None:
    bridge, page = window.bridge, window.pages["nodes"]
    assert isinstance(page, NodesPage)
    bridge.start(local=2, measure=False)
    wait_for(lambda: len(bridge.speeds) == 2)
    ended: list[object] = []
    bridge.measureEnded.connect(ended.append)
    page._measure_button.click()
    assert bridge.measuring
    assert not page._measured.isHidden()
    assert not page._measure_button.isEnabled()
    page._measured.cancel.click()
    wait_for(lambda: ended)
    assert ended == [None]
    assert not bridge.measuring

    bridge.measureNodes()
    wait_for(lambda: len(ended) == 2, 90)
    assert ended[1] is not None
    said = page._measured.accessibleName()
    disturbed = "other programs" in said  # by what else runs here: what messages cost is not told then
    assert page._measured.isHidden() or disturbed, said
    assert (bridge.costs.messages is None) == disturbed
    own = [node for node in bridge.nodes if bridge.is_local(node.id)]  # others may be seen on this network
    model = page._table.model()
    for row in (page._table.nodes.row_of(node.id) for node in own):
        texts = {column: model.data(model.index(row, column)) for column in (SPEED, RTT, LINK)}
        assert texts[LINK].endswith("bit/s"), texts
        assert texts[RTT].endswith("s"), texts
    page._choose(own[0].id)
    names = [name for name, _ in page._describe(own[0]).rows]
    assert "Matrix products" in names
    assert "This workstation" in names
    assert own[1].name in names, "the link to the other node"
    words = [link.text for link in page._topology.scene.links(page._topology.size())]
    assert sum("bit/s" in text for text in words) == 3, words


@pytest.fixture
def page(qtbot: QtBot, bridge: Bridge) -> NodesPage:
    made = NodesPage(bridge)
    qtbot.addWidget(made)
    made.show()
    return made


def test_a_node_that_became_slower_is_told_and_offered_to_be_measured(page: NodesPage, bridge: Bridge) -> None:
    one, other = report_nodes(bridge, "workshop", "fast-one")
    known = Measurements({NodeId(""): BENCHMARK, one: BENCHMARK, other: BENCHMARK})
    bridge._on_event(MeasurementsChanged(known, {}))
    assert page._measured.isHidden()
    assert bridge.speeds[one] == pytest.approx(1.0), "as its benchmark says"
    bridge._on_event(MeasurementsChanged(known, {other: ("became slower: it computes at 60 % of what was measured",)}))
    banner = page._measured
    assert not banner.isHidden()
    assert "fast-one became slower" in banner.accessibleName()
    assert not banner.again.isHidden()
    model = page._table.model()
    assert "became slower" in model.data(model.index(1, REASON))
    banner.dismiss.click()
    assert banner.isHidden()
    bridge._on_event(MeasurementsChanged(known, {one: ("became slower",), other: ("became slower",)}))
    assert "workshop" in banner.accessibleName(), "another one is told all the same"
    assert "fast-one" not in banner.accessibleName()


def test_a_node_that_lost_memory_is_told(page: NodesPage, bridge: Bridge) -> None:
    (node,) = report_nodes(bridge, "workshop")
    bridge._on_event(MeasurementsChanged(Measurements({NodeId(""): BENCHMARK, node: BENCHMARK}), {}))
    bridge._on_event(TelemetryArrived(node, telemetry(1.0, deployment="")))  # almost all of it is in use
    bridge._look_for_stale()
    assert "workshop lost memory" in page._measured.accessibleName()
    assert bridge.stale[node]


def test_links_and_speeds_follow_the_measurements(bridge: Bridge) -> None:
    node, limited = node_of("workshop"), node_of("fast-one")
    changed: list[None] = []
    bridge.speedsChanged.connect(lambda: changed.append(None))
    for one in (node, limited):
        bridge._on_event(NodeChanged(one))
    assert bridge.speed_of(limited.id) == pytest.approx(1.4), "the quick way, until there is a benchmark"
    known = Measurements({NodeId(""): BENCHMARK, limited.id: BENCHMARK})
    bridge._on_event(MeasurementsChanged(known, {}))
    assert bridge.speed_of(limited.id) == pytest.approx(1.0)
    assert bridge.speed_of(node.id) == pytest.approx(1.0)
    assert len(changed) >= 2
    assert bridge.link_between("", node.id) is None
