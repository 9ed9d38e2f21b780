"""The panel on the right that says everything about what is selected."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from PySide6.QtCore import Qt
from PySide6.QtGui import QColor
from PySide6.QtWidgets import QFormLayout, QFrame, QLabel, QScrollArea, QSizePolicy, QStackedLayout, QWidget

from gui.theme import L, M, S
from gui.widgets.basics import Dot, EmptyState, column, label, line, row


class Inspection(NamedTuple):
    """What the inspector shows. A row whose value is None is a heading between the rows."""

    title: str
    rows: Sequence[tuple[str, str | None]]
    subtitle: str = ""
    colour: QColor | None = None


class Inspector(QFrame):
    """Shows one :class:`Inspection`; None clears it."""

    def __init__(self) -> None:
        super().__init__()
        self.setProperty("role", "inspector")
        self.setFixedWidth(300)
        self.setAccessibleName(self.tr("Inspector"))
        self._title = label("", "heading", wrap=True)
        self._subtitle = label("", "caption", wrap=True)
        self._dot = Dot(size=12)
        self._values: list[QLabel] = []
        self._labels: list[str] = []
        self._rows = QFormLayout()
        self._rows.setContentsMargins(0, 0, 0, 0)
        self._rows.setHorizontalSpacing(M)
        self._rows.setVerticalSpacing(S)
        self._rows.setRowWrapPolicy(QFormLayout.RowWrapPolicy.DontWrapRows)
        self._rows.setLabelAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignTop)
        self._rows.setFormAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignTop)
        head = row(self._dot, spacing=S)
        head.addWidget(self._title, 1)
        inside = QWidget()
        inside.setProperty("role", "page")
        inside.setLayout(column(head, self._subtitle, line(), self._rows, None, spacing=M, margins=(L, L, L, L)))
        area = QScrollArea()
        area.setWidgetResizable(True)
        area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        area.setWidget(inside)
        empty = EmptyState(
            "inspect",
            self.tr("Nothing selected"),
            self.tr("Select a node, a layer, a stage or a run to see its details here."),
        )
        self._empty = QWidget()
        self._empty.setLayout(column(empty, margins=(L, L, L, L)))
        for child in empty.findChildren(QLabel):
            child.setMinimumWidth(0)
            child.setMaximumWidth(240)
        self._stack = QStackedLayout()
        self._stack.addWidget(self._empty)
        self._stack.addWidget(area)
        self.setLayout(self._stack)

    def show_inspection(self, shown: Inspection | tuple[str, Sequence[tuple[str, str | None]]] | None) -> None:
        """Show it in place: when only values changed, labels stay and nothing flickers."""
        if shown is None:
            self._stack.setCurrentIndex(0)
            return
        inspection = shown if isinstance(shown, Inspection) else Inspection(*shown)
        _put(self._title, inspection.title)
        _put(self._subtitle, inspection.subtitle)
        self._subtitle.setVisible(bool(inspection.subtitle))
        self._dot.setVisible(inspection.colour is not None)
        if inspection.colour is not None:
            self._dot.set_colour(inspection.colour)
        names = [name for name, _ in inspection.rows]
        if names != self._labels:
            self._rebuild(inspection.rows)
            self._labels = names
        for value, (_, text) in zip(self._values, inspection.rows, strict=True):
            if text is not None:
                _put(value, text)
        self._stack.setCurrentIndex(1)

    def _rebuild(self, rows: Sequence[tuple[str, str | None]]) -> None:
        while self._rows.rowCount():
            self._rows.removeRow(0)
        self._values = []
        for name, value in rows:
            if value is None:
                heading = label(name, "overline")
                heading.setContentsMargins(0, S, 0, 0)
                self._rows.addRow(heading)
                self._values.append(heading)
                continue
            made = label(value, "", wrap=True, selectable=True)
            made.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Minimum)
            made.setMinimumWidth(1)
            caption = label(name, "caption")
            made.setAccessibleName(name)
            self._rows.addRow(caption, made)
            self._values.append(made)


def _put(target: QLabel, text: str) -> None:
    if target.text() != text:
        target.setText(text)
