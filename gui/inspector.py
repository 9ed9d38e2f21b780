"""The panel on the right that says everything about what is selected."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from PySide6.QtCore import Qt
from PySide6.QtGui import QColor
from PySide6.QtWidgets import QFrame, QGridLayout, QLabel, QStackedLayout, QWidget

from gui.theme import L, M, S
from gui.widgets.basics import Dot, EmptyState, column, label, line, row
from gui.widgets.scroll_area import ScrollArea

LONG_WORD: Final = re.compile(r"[^\s\u200b]{18,}")
PIECE: Final = re.compile(r"[A-Z]?[^A-Z/_.\-]{1,16}[/_.\-]?|[A-Z]+(?![a-z])|.")
ZERO_WIDTH_SPACE: Final = "\u200b"


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
        self._labels: list[tuple[str, bool]] = []
        self._rows = QGridLayout()
        self._rows.setContentsMargins(0, 0, 0, 0)
        self._rows.setHorizontalSpacing(M)
        self._rows.setVerticalSpacing(S)
        self._rows.setColumnStretch(1, 1)
        head = row(self._dot, spacing=S)
        head.addWidget(self._title, 1)
        inside = QWidget()
        inside.setProperty("role", "page")
        inside.setLayout(column(head, self._subtitle, line(), self._rows, None, spacing=M, margins=(L, L, L, L)))
        area = ScrollArea(inside, self.tr("What is selected"))
        empty = EmptyState(
            "inspect",
            self.tr("Nothing selected"),
            self.tr("Select a node, a layer, a stage or a run to see its details here."),
            width=230,
        )
        self._empty = QWidget()
        self._empty.setLayout(column(empty, margins=(L, L, L, L)))
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
        _put(self._title, breakable(inspection.title))
        _put(self._subtitle, inspection.subtitle)
        self._subtitle.setVisible(bool(inspection.subtitle))
        self._dot.setVisible(inspection.colour is not None)
        if inspection.colour is not None:
            self._dot.set_colour(inspection.colour)
        names = [(name, value is None) for name, value in inspection.rows]
        if names != self._labels:
            self._rebuild(inspection.rows)
            self._labels = names
        for value, (_, text) in zip(self._values, inspection.rows, strict=True):
            if text is not None:
                _put(value, breakable(text))
        self._stack.setCurrentIndex(1)

    def _rebuild(self, rows: Sequence[tuple[str, str | None]]) -> None:
        while (item := self._rows.takeAt(0)) is not None:
            widget = item.widget()
            if widget is not None:
                widget.hide()
                widget.deleteLater()
        self._values = []
        for at, (name, value) in enumerate(rows):
            if value is None:
                heading = label(name, "overline")
                heading.setContentsMargins(0, S, 0, 0)
                self._rows.addWidget(heading, at, 0, 1, 2)
                self._values.append(heading)
                continue
            caption = label(name, "caption")
            caption.setAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignTop)
            made = label(breakable(value), "", wrap=True, selectable=True)
            made.setAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignTop)
            made.setMinimumWidth(1)
            made.setAccessibleName(name)
            self._rows.addWidget(caption, at, 0)
            self._rows.addWidget(made, at, 1)
            self._values.append(made)


def breakable(text: str) -> str:
    """``text`` with places at which very long words may be broken: paths, CPUExecutionProvider, hashes."""
    return " ".join(
        LONG_WORD.sub(lambda word: ZERO_WIDTH_SPACE.join(PIECE.findall(word.group())), w) for w in text.split(" ")
    )


def _put(target: QLabel, text: str) -> None:
    if target.text() != text:
        target.setText(text)
