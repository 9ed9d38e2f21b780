"""One row for each node: whether it takes part, what it runs, and what that costs it against what it has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import Struct
from PySide6.QtCore import QRectF, QSize, Qt, Signal
from PySide6.QtGui import QColor, QPainter, QPaintEvent
from PySide6.QtWidgets import (
    QCheckBox,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QLayout,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from gui.shares import LEAST, WHOLE
from gui.theme import XS, M, S, Theme
from gui.widgets.basics import ElidedLabel, Kind, Pill, column, keep_icon, label, line, row
from gui.widgets.clamped_label import ClampedLabel, EitherLabel
from gui.widgets.cycle_bar import Cycle, CycleBar, CycleLegend, MeasuredCycle
from gui.widgets.fields import spin_box
from gui.widgets.node_name import NodeName
from gui.widgets.units import DASH

BAR_WIDTH: Final = 136
COLUMNS: Final = 7
ARROW: Final = QSize(30, 20)
RUNS: Final = 2
"""The column of what a node runs, and of its share."""
RUNS_WIDTH: Final = 76
LEAST_HEIGHT: Final = 42
"""Of a row, whatever it says, so that rows stay where they are."""
SHARE_WIDTH: Final = 72


class NodeBudgetRow(Struct, frozen=True):
    """What a row says. Shares are 0..1 and may exceed 1 for memory that does not fit; negative: no bar."""

    id: str
    name: str
    colour: QColor
    chosen: bool
    usable: bool
    note: str
    """Under the name: its speed, or why it is not usable."""
    runs: str = ""
    share: int = -1
    """Per cent of its group's work, to be set; negative: the strategy gives no shares."""
    time: str = DASH
    short_time: str = ""
    """In its place where there is no room."""
    cycle: Cycle | None = None
    """How it spends the time of one micro-batch."""
    sends: str = DASH
    memory: str = DASH
    memory_share: float = -1.0
    badge: str = ""
    badge_kind: Kind = ""
    movable: bool = False


class MeasuredRow(Struct, frozen=True):
    """What the run that goes on, or the last one, showed of a node."""

    cycle: MeasuredCycle
    memory: str


class ShareBar(QWidget):
    """A thin bar; past its end it turns to the colour of an error."""

    def __init__(self) -> None:
        super().__init__()
        self._share, self._colour = -1.0, QColor()
        self.setFixedHeight(6)
        self.setMinimumWidth(BAR_WIDTH)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def show_share(self, share: float, colour: QColor) -> None:
        if (share, colour) != (self._share, self._colour):
            self._share, self._colour = share, colour
            self.update()

    def sizeHint(self) -> QSize:
        return QSize(BAR_WIDTH, 6)

    def paintEvent(self, _event: QPaintEvent) -> None:
        theme = Theme.of()
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(theme.colour("border"))
        whole = QRectF(self.rect())
        painter.drawRoundedRect(whole, 3, 3)
        if self._share > 0:
            painter.setBrush(theme.colour("bad") if self._share > 1 else self._colour)
            width = max(6.0, whole.width() * min(1.0, self._share))
            painter.drawRoundedRect(QRectF(0, 0, width, whole.height()), 3, 3)
        painter.end()


class _Cells:
    """The widgets of one row of the grid."""

    def __init__(self, owner: NodeBudget, node: NodeBudgetRow) -> None:
        self.use = QCheckBox()
        self.use.setAccessibleName(owner.tr("Use {0}").format(node.name))
        self.name = NodeName(node.id)
        self.runs = ClampedLabel("", 2)
        self.runs.setAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
        self.runs.setMinimumWidth(RUNS_WIDTH)
        self.share = spin_box(LEAST, WHOLE, LEAST, owner.tr("Share of {0}, in per cent").format(node.name))
        self.share.setSuffix(" %")
        self.share.setFixedWidth(SHARE_WIDTH)
        self.share.setToolTip(owner.tr("Part of the work of its group; the others share out what is left"))
        self.time = EitherLabel()
        self.cycle = CycleBar(owner.tr("Time of {0} for each micro-batch").format(node.name))
        self.sends = label(DASH)
        self.memory, self.memory_bar = ElidedLabel(), ShareBar()
        self.memory.setText(DASH)
        self.memory_bar.setAccessibleName(owner.tr("Memory of {0} against its limit").format(node.name))
        self.measured_memory = ElidedLabel("small")
        self.badge = Pill()
        self.up, self.down = QToolButton(), QToolButton()
        for tool, icon, words in (
            (self.up, "up", owner.tr("Move {0} to an earlier stage").format(node.name)),
            (self.down, "down", owner.tr("Move {0} to a later stage").format(node.name)),
        ):
            keep_icon(tool, icon)
            tool.setToolTip(words)
            tool.setAccessibleName(words)
            tool.setProperty("role", "arrow")
            tool.setFixedSize(ARROW)
        self.use.clicked.connect(lambda _on: owner.toggled.emit(node.id))
        self.share.valueChanged.connect(lambda percent: owner.shareSet.emit(node.id, percent))
        self.up.clicked.connect(lambda: owner.moved.emit(node.id, -1))
        self.down.clicked.connect(lambda: owner.moved.emit(node.id, 1))

    def widgets(self) -> tuple[QWidget | QVBoxLayout | QHBoxLayout, ...]:
        return (
            self.use,
            self.name,
            column(None, self._runs_and_share(), None, spacing=2),
            column(None, self._time_and_badge(), self.cycle, None, spacing=XS),
            self.sends,
            column(None, self.memory, self.memory_bar, self.measured_memory, None, spacing=XS),
            column(None, self.up, self.down, None, spacing=0),
        )

    def _time_and_badge(self) -> QHBoxLayout:
        both = row(spacing=XS)
        both.addWidget(self.time, 1)
        both.addWidget(self.badge)
        self.badge.ensurePolished()
        both.addStrut(self.badge.sizeHint().height())
        return both

    def _runs_and_share(self) -> QHBoxLayout:
        both = row(spacing=S)
        both.addWidget(self.runs, 1)
        both.addWidget(self.share)
        return both

    def fill(self, shown: NodeBudgetRow, scale: float, measured: MeasuredRow | None) -> None:
        """``scale``: seconds of a time bar's whole width."""
        self.use.setChecked(shown.chosen)
        self.use.setEnabled(shown.usable)
        self.name.dot.set_colour(shown.colour if shown.usable else Theme.of().colour("faint"))
        self.name.name.setText(shown.name)
        self.name.note.setText(shown.note)
        self.runs.setText(shown.runs)
        self.share.setVisible(shown.share >= 0)
        self.share.blockSignals(True)
        self.share.setValue(shown.share)
        self.share.blockSignals(False)
        self.time.set_either(shown.time, shown.short_time)
        self.cycle.show_cycle(shown.cycle, shown.colour, scale, measured.cycle if measured is not None else None)
        self.cycle.setVisible(shown.cycle is not None)
        self.sends.setText(shown.sends)
        self.memory.setText(shown.memory)
        self.memory_bar.show_share(shown.memory_share, shown.colour)
        self.memory_bar.setVisible(shown.memory_share >= 0)
        self.memory_bar.setToolTip(shown.memory)
        self.memory_bar.setAccessibleDescription(shown.memory)
        self.measured_memory.setText(measured.memory if measured is not None else "")
        self.measured_memory.setVisible(measured is not None)
        self.badge.set(shown.badge, shown.badge_kind)
        self.badge.setVisible(bool(shown.badge))
        for tool in (self.up, self.down):
            tool.setVisible(shown.movable)
        for part in (self.name, self.runs, self.time, self.sends, self.memory):
            part.setEnabled(shown.chosen and shown.usable)


class NodeBudget(QWidget):
    """The rows under their headings."""

    toggled = Signal(str)
    moved = Signal(str, int)
    """Node id, steps: -1 up, 1 down."""
    shareSet = Signal(str, int)
    """Node id, per cent."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._grid = QGridLayout()
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setHorizontalSpacing(M)
        self._grid.setVerticalSpacing(S)
        for place, stretch in ((1, 2), (2, 2), (3, 8), (4, 1), (5, 2)):
            self._grid.setColumnStretch(place, stretch)
        self.legend = CycleLegend()
        self.legend.hide()
        self.hint = ElidedLabel("small")
        self.hint.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        below = row(self.legend, spacing=M)
        below.addWidget(self.hint, 1)
        self.setLayout(column(self._grid, below, spacing=S))
        self._ids: tuple[str, ...] = ()
        self._rows: tuple[NodeBudgetRow, ...] = ()
        self._measured: dict[str, MeasuredRow] = {}
        self._cells: dict[str, _Cells] = {}
        self._runs_heading: QLabel | None = None

    def set_dense(self, dense: bool) -> None:
        self._grid.setVerticalSpacing(XS if dense else S)
        self._grid.setHorizontalSpacing(S if dense else M)

    def fields(self) -> tuple[QWidget, ...]:
        """Everything that takes input, row by row."""
        rows = (self._cells[node] for node in self._ids)
        return tuple(field for cells in rows for field in (cells.use, cells.share, cells.up, cells.down))

    def show_rows(self, rows: Sequence[NodeBudgetRow]) -> None:
        """Fill in place; rows are laid out anew only when other nodes come or their order changes."""
        ids = tuple(shown.id for shown in rows)
        if ids != self._ids:
            self._lay_out(rows)
            self._ids = ids
        self._rows = tuple(rows)
        self._fill()
        if self._runs_heading is not None:
            shares = any(shown.share >= 0 for shown in rows)
            self._runs_heading.setText(self.tr("Runs, and its share") if shares else self.tr("Runs"))

    def show_measured(self, measured: Mapping[str, MeasuredRow]) -> None:
        """Beside what is predicted, from now on; by node id."""
        self._measured = dict(measured)
        self._fill()

    def _fill(self) -> None:
        """All bars of time have one scale."""
        measured = {shown.id: self._measured[shown.id] for shown in self._rows if shown.id in self._measured}
        totals = [shown.cycle.total for shown in self._rows if shown.cycle is not None]
        scale = max([*totals, *(one.cycle.total for one in measured.values())], default=0.0)
        for shown in self._rows:
            self._cells[shown.id].fill(shown, scale, measured.get(shown.id))
        self.legend.setVisible(bool(totals))
        self.legend.show_measured(bool(measured))

    def cells(self, node_id: str) -> _Cells:
        """The widgets of a node's row."""
        return self._cells[node_id]

    def _lay_out(self, rows: Sequence[NodeBudgetRow]) -> None:
        focused = self._focused()
        clear_layout(self._grid)
        headings = (
            "",
            self.tr("Node"),
            self.tr("Runs"),
            self.tr("Time of a micro-batch"),
            self.tr("Sends"),
            self.tr("Memory"),
        )
        for place, text in enumerate(headings):
            if text:
                made = ElidedLabel("overline")
                made.setText(text)
                self._grid.addWidget(made, 0, place)
                if place == RUNS:
                    self._runs_heading = made
        self._cells = {}
        for number, shown in enumerate(rows):
            self._grid.addWidget(line(), 2 * number + 1, 0, 1, COLUMNS)
            cells = self._cells[shown.id] = _Cells(self, shown)
            self._grid.setRowMinimumHeight(2 * number + 2, LEAST_HEIGHT)
            for place, part in enumerate(cells.widgets()):
                if isinstance(part, QWidget):
                    self._grid.addWidget(part, 2 * number + 2, place)
                else:
                    self._grid.addLayout(part, 2 * number + 2, place)
        self._focus_again(*focused)

    def _focused(self) -> tuple[str, str]:
        """Which control of which row has the focus, so that moving a row by key can go on."""
        for node_id, cells in self._cells.items():
            for name in ("use", "share", "up", "down"):
                if getattr(cells, name).hasFocus():
                    return node_id, name
        return "", ""

    def _focus_again(self, node_id: str, name: str) -> None:
        if node_id in self._cells:
            getattr(self._cells[node_id], name).setFocus()


def clear_layout(layout: QLayout) -> None:
    """Take everything out of a layout and delete it."""
    while (item := layout.takeAt(0)) is not None:
        widget, inner = item.widget(), item.layout()
        if widget is not None:
            widget.hide()
            widget.deleteLater()
        elif inner is not None:
            clear_layout(inner)
