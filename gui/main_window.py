"""The window: rail on the left, a stack of pages, the inspector on the right, the status line below."""

from __future__ import annotations

from itertools import pairwise
from typing import Final, NamedTuple

from PySide6.QtCore import QByteArray, QSettings, Qt, QTimer
from PySide6.QtGui import QAction, QCloseEvent, QKeySequence, QResizeEvent, QShortcut
from PySide6.QtWidgets import (
    QButtonGroup,
    QFrame,
    QHBoxLayout,
    QLabel,
    QMainWindow,
    QMenu,
    QSizePolicy,
    QStackedWidget,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from core.cluster.node import NodeState
from gui.bridge import Bridge, Phase
from gui.inspector import Inspector
from gui.overview import overview
from gui.pages.history import HistoryPage
from gui.pages.model import ModelPage
from gui.pages.monitor import MonitorPage
from gui.pages.nodes import NodesPage
from gui.pages.partition import PartitionPage
from gui.pages.run import RunPage
from gui.theme import APP_ICON, XL, XS, L, M, Mode, S, Theme
from gui.widgets import units
from gui.widgets.banner import Banner
from gui.widgets.basics import IconLabel, Page, button, column, keep_icon, label, row, set_look
from gui.widgets.progress_bar import ProgressBar

ROOM_FOR_INSPECTOR: Final = 1280
WIDE: Final = 1440
INSPECTOR_WIDTH: Final = 300
NARROW_INSPECTOR: Final = 264
OVERVIEW_MS: Final = 1000
PAGE_NAMES: Final = ("nodes", "model", "partition", "run", "monitor", "history")


class PageEntry(NamedTuple):
    name: str
    title: str
    page: Page


class MainWindow(QMainWindow):
    """Owns the pages; closing it closes the bridge."""

    def __init__(self, bridge: Bridge, *, restore: bool = True) -> None:
        """``restore``: take up size and place of the last time."""
        super().__init__()
        self.bridge = bridge
        self.setWindowTitle("Shardboard")
        self.setMinimumSize(1024, 680)
        self.resize(1440, 900)
        self._stack = QStackedWidget()
        self._inspector = Inspector()
        self._rail = Rail()
        self._problem = Banner("bad")
        dismiss = button(self.tr("Dismiss"), self._problem.clear, role="flat")
        self._problem.tools.addWidget(dismiss)
        self.pages: dict[str, Page] = {}
        self._inspections: dict[str, object] = {}
        for entry in self._entries():
            self._add_page(entry)
        self._build()
        self._connect()
        self._restore(geometry=restore)
        self.show_page("nodes")
        self._stack.setFocus()

    def _entries(self) -> tuple[PageEntry, ...]:
        b = self.bridge
        return (
            PageEntry("nodes", self.tr("Nodes"), NodesPage(b)),
            PageEntry("model", self.tr("Model"), ModelPage(b)),
            PageEntry("partition", self.tr("Partition"), PartitionPage(b)),
            PageEntry("run", self.tr("Run"), RunPage(b)),
            PageEntry("monitor", self.tr("Monitor"), MonitorPage(b)),
            PageEntry("history", self.tr("History"), HistoryPage(b)),
        )

    def _add_page(self, entry: PageEntry) -> None:
        index = self._stack.addWidget(entry.page)
        self.pages[entry.name] = entry.page
        self._rail.add(entry.name, entry.title, index)
        entry.page.wanted.connect(self.show_page)
        entry.page.inspected.connect(lambda shown, name=entry.name: self._inspect(name, shown))
        entry.page.wanted.connect(self.show_page)
        shortcut = QShortcut(QKeySequence(f"Ctrl+{index + 1}"), self)
        shortcut.activated.connect(lambda name=entry.name: self.show_page(name))

    def _build(self) -> None:
        middle = column(spacing=0)
        problem = QWidget()
        problem.setLayout(column(self._problem, margins=(XL, L, XL, 0)))
        self._problem_frame = problem
        problem.hide()
        middle.addWidget(problem)
        middle.addWidget(self._stack, 1)
        upper = QHBoxLayout()
        upper.setContentsMargins(0, 0, 0, 0)
        upper.setSpacing(0)
        upper.addWidget(self._rail)
        upper.addLayout(middle, 1)
        upper.addWidget(self._inspector)
        self._status = StatusLine(self.bridge)
        body = QVBoxLayout()
        body.setContentsMargins(0, 0, 0, 0)
        body.setSpacing(0)
        body.addLayout(upper, 1)
        body.addWidget(self._status)
        centre = QWidget()
        centre.setLayout(body)
        self.setCentralWidget(centre)

    def _connect(self) -> None:
        self._rail.chosen.triggered.connect(lambda: self.show_page(str(self._rail.chosen.data())))
        self._rail.inspector.toggled.connect(self._show_inspector)
        self.bridge.errorRaised.connect(self._show_error)
        self.bridge.rerunRequested.connect(lambda _report: self.show_page("run"))
        self._problem_watch()
        bridge = self.bridge
        for changed in (bridge.nodesChanged, bridge.speedsChanged, bridge.requestChanged, bridge.released):
            changed.connect(self._refresh_overview)
        for told in (bridge.predictionChanged, bridge.profileReady, bridge.phaseChanged, bridge.runFinished):
            told.connect(lambda _what: self._refresh_overview())
        self._overview_timer = QTimer(self)
        self._overview_timer.setInterval(OVERVIEW_MS)
        self._overview_timer.timeout.connect(self._refresh_overview)
        self._overview_timer.start()
        QShortcut(QKeySequence("Ctrl+I"), self).activated.connect(self._rail.inspector.toggle)
        QShortcut(QKeySequence.StandardKey.Quit, self).activated.connect(self.close)

    def _problem_watch(self) -> None:
        for clear in self._problem.findChildren(QWidget):
            if clear.metaObject().className() == "QPushButton":
                clear.clicked.connect(self._problem_frame.hide)  # type: ignore[attr-defined]

    def _restore(self, *, geometry: bool) -> None:
        settings = QSettings()
        saved = settings.value("window/geometry", QByteArray(), type=QByteArray)
        if geometry and isinstance(saved, QByteArray) and not saved.isEmpty():
            self.restoreGeometry(saved)
        shown = bool(settings.value("window/inspector", True, type=bool))
        self._rail.inspector.setChecked(shown)

    # ------------------------------------------------------------ pages and inspector

    def show_page(self, name: str) -> None:
        """Bring the page ``name`` (one of PAGE_NAMES) to the front."""
        self._stack.setCurrentWidget(self.pages[name])
        self._rail.mark(name)
        self._refresh_inspector()

    def current_page(self) -> str:
        current = self._stack.currentWidget()
        return next(name for name, page in self.pages.items() if page is current)

    def _inspect(self, name: str, shown: object) -> None:
        self._inspections[name] = shown
        if self.pages[name] is self._stack.currentWidget():
            self._refresh_inspector()

    def _refresh_inspector(self) -> None:
        """What the page in front has selected, or the overview while it has nothing."""
        if self._inspector.isVisibleTo(self):
            shown = self._inspections.get(self.current_page())
            self._inspector.show_inspection(shown if shown is not None else overview(self.bridge))  # type: ignore[arg-type]

    def _refresh_overview(self) -> None:
        if self._inspections.get(self.current_page()) is None:
            self._refresh_inspector()

    def _show_inspector(self, shown: bool) -> None:
        QSettings().setValue("window/inspector", shown)
        self._fit_inspector()

    def _fit_inspector(self) -> None:
        """In a narrow window the page needs the room more."""
        self._inspector.setFixedWidth(INSPECTOR_WIDTH if self.width() >= WIDE else NARROW_INSPECTOR)
        self._inspector.setVisible(self._rail.inspector.isChecked() and self.width() >= ROOM_FOR_INSPECTOR)
        self._refresh_inspector()

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._fit_inspector()

    def _show_error(self, title: str, message: str, hint: str) -> None:
        if self.pages[self.current_page()].shows(message):
            return
        self._problem.say(title, f"{message} {hint}".strip(), "bad")
        self._problem_frame.show()

    def closeEvent(self, event: QCloseEvent) -> None:
        QSettings().setValue("window/geometry", self.saveGeometry())
        self.hide()
        self.bridge.close()
        event.accept()


class Rail(QFrame):
    """The way through the work. ``chosen`` is triggered with the page's name as its data."""

    def __init__(self) -> None:
        super().__init__()
        self.setProperty("role", "rail")
        self.setFixedWidth(176)
        self.chosen = QAction(self)
        self._buttons: dict[str, QToolButton] = {}
        self._group = QButtonGroup(self)
        self._group.setExclusive(True)
        brand = row(IconLabel(APP_ICON, 24), label("Shardboard", "heading"), None, spacing=S)
        brand.setContentsMargins(M, S, 0, L)
        self._list = column(spacing=XS)
        self.inspector = self._tool("inspect", self.tr("Inspector"), self.tr("Show or hide the inspector (Ctrl+I)"))
        self.inspector.setCheckable(True)
        self._theme = self._tool("theme", self.tr("Appearance"), self.tr("Dark, light, or as the system"))
        self._theme.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        self._theme.setMenu(self._theme_menu())
        self.setLayout(column(brand, self._list, None, self.inspector, self._theme, spacing=XS, margins=(S, M, S, M)))

    def add(self, name: str, title: str, index: int) -> None:
        made = self._tool(name, title, self.tr("{0} (Ctrl+{1})").format(title, index + 1))
        made.setCheckable(True)
        made.clicked.connect(lambda: self._choose(name))
        self._group.addButton(made)
        made.setParent(self)
        for before, after in pairwise([*self._buttons.values(), made, self.inspector, self._theme]):
            QWidget.setTabOrder(before, after)
        self._buttons[name] = made
        self._list.addWidget(made)

    def mark(self, name: str) -> None:
        self._buttons[name].setChecked(True)

    def _choose(self, name: str) -> None:
        self.chosen.setData(name)
        self.chosen.trigger()

    def _tool(self, icon: str, text: str, tip: str) -> QToolButton:
        made = QToolButton()
        made.setProperty("role", "nav")
        made.setText("  " + text)
        made.setAccessibleName(text)
        made.setToolTip(tip)
        made.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        made.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        made.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        keep_icon(made, icon, "muted", 20)
        return made

    def _theme_menu(self) -> QMenu:
        menu = QMenu(self)
        names = {
            Mode.SYSTEM: self.tr("As the system"),
            Mode.DARK: self.tr("Dark"),
            Mode.LIGHT: self.tr("Light"),
        }
        for mode, text in names.items():
            menu.addAction(text).triggered.connect(lambda _checked=False, m=mode: Theme.of().set_mode(m))
        return menu


class StatusLine(QFrame):
    """Nodes, plan, throughput and predicted-versus-measured error, always; and what goes on in the background."""

    def __init__(self, bridge: Bridge) -> None:
        super().__init__()
        self.setProperty("role", "statusline")
        self.setFixedHeight(34)
        self.setAccessibleName(self.tr("Status"))
        self._bridge = bridge
        self._nodes = self._field(self.tr("Nodes"))
        self._plan = self._field(self.tr("Plan"))
        self._rate = self._field(self.tr("Throughput"))
        self._error = self._field(self.tr("Against prediction"))
        self._doing = label("", "small")
        self._bar = ProgressBar(self.tr("Progress"), 120)
        self._bar.hide()
        self._stop = QToolButton()
        self._stop.setText(self.tr("Stop"))
        self._stop.setAutoRaise(True)
        self._stop.setToolTip(self.tr("Stop measuring this machine; typical figures count until nodes are measured"))
        self._stop.clicked.connect(bridge.costs.give_up)
        self._stop.hide()
        line = row(spacing=S, margins=(L, 0, L, 0))
        for name, value in (self._nodes, self._plan, self._rate, self._error):
            line.addWidget(name)
            line.addWidget(value)
            line.addSpacing(L)
        line.addStretch(1)
        line.addWidget(self._doing)
        line.addWidget(self._bar)
        line.addWidget(self._stop)
        self.setLayout(line)
        for signal in (bridge.nodesChanged, bridge.requestChanged, bridge.released, bridge.runStarted):
            signal.connect(self.refresh)
        for signal in (bridge.phaseChanged, bridge.runProgress, bridge.runFinished, bridge.predictionChanged):
            signal.connect(self._refresh_with)
        bridge.modelOpened.connect(self._refresh_with)
        bridge.truth.changed.connect(self.refresh)
        bridge.activityChanged.connect(self._show_activity)
        self.refresh()

    def _field(self, name: str) -> tuple[QLabel, QLabel]:
        caption = label(name, "small")
        value = label("–")
        value.setAccessibleName(name)
        return caption, value

    def _refresh_with(self, *_args: object) -> None:
        self.refresh()

    def refresh(self) -> None:
        _put(self._nodes[1], self._node_words())
        lost = any(n.state is NodeState.LOST for n in self._bridge.nodes)
        set_look(self._nodes[1], "role", "bad" if lost else "")
        _put(self._plan[1], self._plan_words())
        rate = self._bridge.measured_throughput()
        _put(self._rate[1], self.tr("{0} items/s").format(units.quantity(rate)) if rate is not None else "–")
        error = self._bridge.prediction_error()
        _put(self._error[1], units.signed_percent(error) if error is not None else "–")
        self._error[1].setToolTip(self._error_words())
        set_look(self._error[1], "role", "" if error is None else "good" if abs(error) <= 0.15 else "warn")

    def _error_words(self) -> str:
        """Every figure of the plan that runs, measured against predicted."""
        comparison = self._bridge.truth.comparison
        if comparison is None:
            return ""
        lines = [
            self.tr("Throughput {0}").format(units.signed_percent(comparison.throughput.error)),
            self.tr("Latency under load {0}").format(units.signed_percent(comparison.latency_s.error)),
        ]
        lines += [
            self.tr("{0}: compute {1}, memory {2}").format(
                self._bridge.name_of(node.node),
                units.signed_percent(node.compute_s.error),
                units.signed_percent(node.memory_bytes.error),
            )
            for node in comparison.nodes
        ]
        return "\n".join(lines)

    def _node_words(self) -> str:
        nodes, ready = self._bridge.nodes, {node.id for node in self._bridge.ready_nodes()}
        busy = sum(node.state is NodeState.BUSY and node.id not in ready for node in nodes)
        lost = sum(node.state is NodeState.LOST for node in nodes)
        words = self.tr("{0} of {1} ready").format(len(ready), len(nodes)) if nodes else self.tr("none")
        if busy:
            words = self.tr("{0}, {1} busy").format(words, busy)
        return self.tr("{0}, {1} lost").format(words, lost) if lost else words

    def _plan_words(self) -> str:
        bridge = self._bridge
        if bridge.model is None:
            return self.tr("no model")
        request = bridge.deployment.plan.request if bridge.deployment else bridge.request
        if request is None:
            return bridge.model.name
        state = {
            Phase.DEPLOYING: self.tr("deploying"),
            Phase.DEPLOYED: self.tr("deployed"),
            Phase.RUNNING: self.tr("running"),
            Phase.STOPPING: self.tr("stopping"),
        }.get(bridge.phase, self.tr("not deployed"))
        return self.tr("{0} · {1} × {2} · {3}").format(bridge.model.name, request.strategy, len(request.nodes), state)

    def _show_activity(self, text: str, share: float) -> None:
        _put(self._doing, text)
        self._bar.setVisible(bool(text) and share >= 0)
        self._bar.show_share(share)
        self._stop.setVisible(self._bridge.costs.busy)


def _put(target: QLabel, text: str) -> None:
    if target.text() != text:
        target.setText(text)
