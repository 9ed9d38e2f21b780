"""The Monitor page: what every node does, live, and the means to disturb it."""

from __future__ import annotations

import math
import time
from functools import partial

from PySide6.QtCore import QTimer
from PySide6.QtGui import QColor
from PySide6.QtWidgets import QGridLayout, QStackedWidget, QWidget

from core.cluster.node import NodeState
from core.run.report import RunProgress, RunReport
from core.wire.messages import Telemetry
from gui.bridge import Bridge, Phase
from gui.inspector import Inspection
from gui.shard_words import items_per_s, shards_words
from gui.theme import M, Theme
from gui.widgets import units
from gui.widgets.adversity import AdversityPanel
from gui.widgets.basics import Card, EmptyState, Page, Tile, button, column, row
from gui.widgets.imbalance import busy_shares, imbalance
from gui.widgets.scroll_area import ScrollArea
from gui.widgets.series import binary_ceiling, bit_ceiling
from gui.widgets.stage_timeline import StageTimeline
from gui.widgets.time_plot import SAMPLE_MS, TimePlot

STALE_SECONDS = 1.5


class MonitorPage(Page):
    """Samples the newest telemetry five times a second into ring buffers; draws only while it is in front."""

    def __init__(self, bridge: Bridge) -> None:
        super().__init__()
        self.set_head(self.tr("Monitor"), self.tr("The last minute of every node, and of the run."))
        self._bridge = bridge
        self._heard: dict[str, float] = {}
        self._build()
        self._connect()
        self._nodes_changed()
        self._sampler = QTimer(self)
        self._sampler.setInterval(SAMPLE_MS)
        self._sampler.timeout.connect(self._sample)
        self._sampler.start()
        self._inspect_soon = QTimer(self)
        self._inspect_soon.setInterval(1000)
        self._inspect_soon.timeout.connect(self._inspect)
        self._frames = QTimer(self)
        self._frames.setInterval(100)
        self._frames.timeout.connect(lambda: self._timeline.draw(time.time()))

    def _build(self) -> None:
        tr = self.tr
        self._rate_tile = Tile(tr("Throughput"), tr("Items per second of the run, against the prediction"))
        self._latency_tile = Tile(tr("Latency"), tr("From sending a micro-batch to its last result"))
        self._done_tile = Tile(tr("Items"), tr("Finished in this run"))
        self._balance_tile = Tile(tr("Imbalance"), tr("How much less than the busiest node the others do on average"))
        tiles = row(self._rate_tile, self._latency_tile, self._done_tile, self._balance_tile, spacing=M)
        for index in range(4):
            tiles.setStretch(index, 1)
        self._rate = TimePlot(tr("Throughput, items/s"), units.compact, floor=10.0)
        self._latency = TimePlot(tr("Latency"), lambda ms: units.seconds(ms / 1e3) if ms else "0", floor=1.0)
        self._queue = TimePlot(tr("Queue, micro-batches"), units.compact, floor=4.0)
        self._cpu = TimePlot(tr("CPU of the agent, cores"), units.compact, floor=1.0)
        self._memory = TimePlot(tr("Memory of the agent"), units.nbytes, floor=64 * 2.0**20, ceiling=binary_ceiling)
        self._network = TimePlot(
            tr("Tensors in and out, bit/s"), lambda rate: units.compact(rate * 8), floor=1e5 / 8, ceiling=bit_ceiling
        )
        self._node_plots = (self._cpu, self._memory, self._network, self._queue)
        self._rate.curve("measured", partial(_token, "accent"))
        self._rate.curve("predicted", partial(_token, "faint"))
        for key, token in (("p50", "accent"), ("p95", "warn"), ("p99", "bad")):
            self._latency.curve(key, partial(_token, token))
        plots = QGridLayout()
        plots.setSpacing(M)
        for index, plot in enumerate((self._rate, self._latency, self._queue, self._cpu, self._memory, self._network)):
            plots.addWidget(plot, index // 3, index % 3)
            plots.setColumnStretch(index % 3, 1)
        self._timeline = StageTimeline(self._bridge)
        stages = Card(tr("Stage time line"), tr("each block is a step of one micro-batch"), margin=M)
        stages.body.addWidget(self._timeline, 1)
        adversity = Card(tr("Adversity"), margin=M)
        adversity.body.addWidget(ScrollArea(AdversityPanel(self._bridge)), 1)
        lower = row(spacing=M)
        lower.addWidget(stages, 2)
        lower.addWidget(adversity, 1)
        live = QWidget()
        content = column(tiles, spacing=M)
        content.addLayout(plots, 5)
        content.addLayout(lower, 4)
        live.setLayout(content)
        empty = EmptyState(
            "monitor",
            tr("Nothing to watch yet"),
            tr("When nodes are there, their processors, memory, network and queues are plotted here."),
            [button(tr("Start local agents"), lambda: self._bridge.startLocalAgents(3), role="primary")],
        )
        self._stack = QStackedWidget()
        self._stack.addWidget(empty)
        self._stack.addWidget(live)
        self.body.addWidget(self._stack, 1)

    def _connect(self) -> None:
        bridge = self._bridge
        bridge.nodesChanged.connect(self._nodes_changed)
        bridge.telemetryArrived.connect(self._telemetry)
        bridge.runStarted.connect(self._run_started)
        bridge.runProgress.connect(self._show_progress)
        bridge.runFinished.connect(self._show_report)
        bridge.predictionChanged.connect(lambda _prediction: self._show_rate())

    # ------------------------------------------------------------ samples

    def _nodes_changed(self) -> None:
        nodes = [n for n in self._bridge.nodes if n.info is not None]
        self._stack.setCurrentIndex(1 if nodes else 0)
        present = {n.id for n in nodes}
        for plot in self._node_plots:
            for key in plot.curves():
                if key.split("/")[0] not in present:
                    plot.drop(key)
            for node in nodes:
                keys = [f"{node.id}/in", f"{node.id}/out"] if plot is self._network else [node.id]
                for key in keys:
                    plot.curve(key, partial(self._bridge.colour, node.id))

    def _telemetry(self, node_id: str, telemetry: Telemetry) -> None:
        self._heard[node_id] = time.monotonic()
        self._timeline.take(node_id, telemetry, time.time())

    def _sample(self) -> None:
        now = time.monotonic()
        for node in self._bridge.nodes:
            if node.info is None:
                continue
            telemetry = self._bridge.telemetry.get(node.id)
            fresh = telemetry is not None and now - self._heard.get(node.id, 0.0) < STALE_SECONDS
            self._sample_node(node.id, telemetry if fresh else None)
        self._sample_run()
        if self.isVisible():
            self._draw()

    def _sample_node(self, node_id: str, telemetry: Telemetry | None) -> None:
        traffic = self._bridge.traffic.get(node_id)  # type: ignore[call-overload]
        known = telemetry is not None
        self._cpu.add(node_id, telemetry.process_cpu if telemetry else math.nan)
        self._memory.add(node_id, float(telemetry.process_memory) if telemetry else math.nan)
        self._queue.add(node_id, float(telemetry.queue) if telemetry else math.nan)
        self._network.add(f"{node_id}/in", traffic.received if traffic and known else math.nan)
        self._network.add(f"{node_id}/out", traffic.sent if traffic and known else math.nan)

    def _sample_run(self) -> None:
        going = self._bridge.phase in {Phase.RUNNING, Phase.STOPPING}
        progress = self._bridge.progress if going else None
        prediction = self._bridge.truth.prediction if going else None
        self._rate.add("measured", progress.throughput if progress else math.nan)
        self._rate.add("predicted", prediction.throughput if prediction else math.nan)
        self._latency.add("p50", progress.latency_p50_ms if progress else math.nan)
        self._latency.add("p95", progress.latency_p95_ms if progress else math.nan)
        self._latency.add("p99", progress.latency_p99_ms if progress else math.nan)

    def _draw(self) -> None:
        telemetry = [t for n, t in self._bridge.telemetry.items() if self._is_fresh(n)]
        traffic = [self._bridge.traffic[n] for n in self._bridge.traffic if self._is_fresh(n)]
        progress = self._bridge.progress if self._bridge.phase is Phase.RUNNING else None
        self._cpu.draw(units.quantity(sum(t.process_cpu for t in telemetry)))
        self._memory.draw(units.nbytes(sum(t.process_memory for t in telemetry)))
        self._queue.draw(str(sum(t.queue for t in telemetry)))
        self._network.draw(units.bits_per_s(sum(t.sent for t in traffic)))
        self._rate.draw(units.quantity(progress.throughput) if progress else "")
        self._latency.draw(self.tr("p50 {0}").format(units.seconds(progress.latency_p50_ms / 1e3)) if progress else "")
        self._show_balance()

    def _is_fresh(self, node_id: str) -> bool:
        return time.monotonic() - self._heard.get(node_id, 0.0) < STALE_SECONDS

    # ------------------------------------------------------------ tiles

    def _run_started(self) -> None:
        self._rate.clear()
        self._latency.clear()

    def _show_progress(self, progress: RunProgress) -> None:
        if not self.isVisible():
            return
        self._show_rate()
        self._latency_tile.set(
            units.seconds(progress.latency_p50_ms / 1e3),
            self.tr("p95 {0}, p99 {1}").format(
                units.seconds(progress.latency_p95_ms / 1e3), units.seconds(progress.latency_p99_ms / 1e3)
            ),
        )
        total = self.tr("of {0}, {1} in flight").format(units.quantity(progress.items_total), progress.in_flight)
        in_flight = self.tr("{0} micro-batches in flight").format(progress.in_flight)
        self._done_tile.set(units.quantity(progress.items_done), total if progress.items_total else in_flight)

    def _show_report(self, report: RunReport) -> None:
        self._show_rate()
        latency = report.latency_ms
        self._latency_tile.set(
            units.seconds(latency.p50 / 1e3),
            self.tr("p95 {0}, p99 {1}").format(units.seconds(latency.p95 / 1e3), units.seconds(latency.p99 / 1e3)),
        )
        self._done_tile.set(units.quantity(report.items), self.tr("in {0}").format(units.seconds(report.seconds)))

    def _show_rate(self) -> None:
        rate = self._bridge.measured_throughput()
        prediction = self._bridge.truth.prediction or self._bridge.prediction
        note = self.tr("predicted {0}").format(units.quantity(prediction.throughput)) if prediction else ""
        if rate is None:
            self._rate_tile.set(units.DASH, note or self.tr("no run yet"))
            return
        error = self._bridge.prediction_error()
        if error is not None:
            note = self.tr("{0} ({1})").format(note, units.signed_percent(error))
        self._rate_tile.set(self.tr("{0} items/s").format(units.quantity(rate)), note)

    def _show_balance(self) -> None:
        shares = busy_shares(
            {n.id: self._bridge.telemetry[n.id] for n in self._bridge.nodes if n.id in self._bridge.telemetry},
            [n.id for n in self._bridge.nodes if n.state is NodeState.BUSY],
        )
        found = imbalance(shares)
        if found is None:
            self._balance_tile.set(units.DASH, self.tr("no work on the nodes"))
            return
        share, busiest = found
        words = self.tr("{0} is busiest: {1}").format(self._bridge.name_of(busiest), units.percent(shares[busiest]))
        self._balance_tile.set(units.percent(share), words)

    # ------------------------------------------------------------ inspector

    def _inspect(self) -> None:
        deployment = self._bridge.deployment
        if deployment is None:
            self.inspected.emit(None)
            return
        plan, tr = deployment.plan, self.tr
        rows: list[tuple[str, str | None]] = [
            (tr("Strategy"), plan.request.strategy),
            (tr("Micro-batch"), tr("%n item(s)", "", plan.request.micro_batch)),
        ]
        prediction = self._bridge.deployed_prediction
        expected = {p.node: p for p in prediction.nodes} if prediction else {}
        for node_id in deployment.nodes:
            telemetry = self._bridge.telemetry.get(node_id) if self._is_fresh(node_id) else None
            rows.append((self._bridge.name_of(node_id), None))
            rows.append((tr("Runs"), shards_words(plan.on_node(node_id))))
            busy = sum(load.busy for load in telemetry.shards) if telemetry else None
            if node_id in expected:
                share = units.percent(expected[node_id].share)
                rows.append((tr("Busy"), tr("{0}, predicted {1}").format(units.percent(busy), share)))
            else:
                rows.append((tr("Busy"), units.percent(busy)))
            items = items_per_s(telemetry.shards) if telemetry else None
            rows.append((tr("Items/s"), units.quantity(items)))
            rows.append((tr("Memory"), units.nbytes(telemetry.process_memory if telemetry else None)))
        going = self._bridge.phase in {Phase.RUNNING, Phase.STOPPING}
        self.inspected.emit(Inspection(plan.model_name, rows, tr("running") if going else tr("deployed")))

    # ------------------------------------------------------------ visibility

    def showEvent(self, event: object) -> None:
        self._frames.start()
        self._inspect_soon.start()
        self._inspect()
        self._show_rate()
        self._draw()
        super().showEvent(event)  # type: ignore[arg-type]

    def hideEvent(self, event: object) -> None:
        self._frames.stop()
        self._inspect_soon.stop()
        super().hideEvent(event)  # type: ignore[arg-type]


def _token(name: str) -> QColor:
    return Theme.of().colour(name)
