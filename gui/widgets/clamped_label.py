"""Text that never takes more room than it was given: a label of so many lines, and a button that may become narrow."""

from __future__ import annotations

from math import ceil

from PySide6.QtCore import QEvent, QRectF, QSize, Qt
from PySide6.QtGui import QFontMetricsF, QPainter, QPaintEvent, QTextLayout, QTextOption
from PySide6.QtWidgets import QLabel, QPushButton, QSizePolicy, QStyle, QStyleOptionButton, QStylePainter


class ClampedLabel(QLabel):
    """Always ``lines`` lines high; words that have no room there end in "…", and its tool tip then says all of them."""

    def __init__(self, role: str = "", lines: int = 1) -> None:
        super().__init__()
        self._lines = lines
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setProperty("role", role)
        self.setAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignTop)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)

    def set_lines(self, lines: int) -> None:
        if lines != self._lines:
            self._lines = lines
            self.updateGeometry()

    def sizeHint(self) -> QSize:
        return QSize(QLabel.sizeHint(self).width(), self._height)

    def minimumSizeHint(self) -> QSize:
        return QSize(1, self._height)

    @property
    def _height(self) -> int:
        return ceil(self._lines * self._line)

    @property
    def _line(self) -> float:
        return QFontMetricsF(self.font()).height()

    def shown(self) -> list[str]:
        """What is painted, line by line."""
        text, room = self.text(), float(self.contentsRect().width())
        layout = QTextLayout(text.replace("\n", "\N{LINE SEPARATOR}"), self.font())
        layout.setTextOption(_wrapping())
        found: list[str] = []
        start = end = 0
        layout.beginLayout()
        while text and len(found) < self._lines:
            line = layout.createLine()
            if not line.isValid():
                break
            line.setLineWidth(room)
            start, end = line.textStart(), line.textStart() + line.textLength()
            found.append(text[start:end].strip())
        layout.endLayout()
        if found and end < len(text):
            rest = " ".join(text[start:].split())
            found[-1] = QFontMetricsF(self.font()).elidedText(rest, Qt.TextElideMode.ElideRight, room)
        return found

    def event(self, event: QEvent) -> bool:
        if event.type() == QEvent.Type.ToolTip:
            whole = "".join(self.shown()).replace(" ", "") == "".join(self.text().split())
            self.setToolTip("" if whole else self.text())
        return super().event(event)

    def paintEvent(self, _event: QPaintEvent) -> None:
        painter = QPainter(self)
        area, line, role, shown = QRectF(self.contentsRect()), self._line, self.foregroundRole(), self.shown()
        middle = bool(self.alignment() & Qt.AlignmentFlag.AlignVCenter)
        top = area.top() + ((area.height() - len(shown) * line) / 2 if middle else 0.0)
        for place, text in enumerate(shown):
            box = QRectF(area.left(), top + place * line, area.width(), line).toRect()
            flags = int(self.alignment() & Qt.AlignmentFlag.AlignHorizontal_Mask)
            self.style().drawItemText(painter, box, flags, self.palette(), self.isEnabled(), text, role)
        painter.end()


def _wrapping() -> QTextOption:
    option = QTextOption()
    option.setWrapMode(QTextOption.WrapMode.WrapAtWordBoundaryOrAnywhere)
    return option


class ElidedButton(QPushButton):
    """A push button that may be narrower than its text, which then ends in "…"."""

    LEAST = 90
    """Pixels."""

    def __init__(self, text: str = "") -> None:
        super().__init__(text)
        self.setSizePolicy(QSizePolicy.Policy.Maximum, QSizePolicy.Policy.Fixed)

    def minimumSizeHint(self) -> QSize:
        hint = self.sizeHint()
        return QSize(min(self.LEAST, hint.width()), hint.height())

    def paintEvent(self, _event: QPaintEvent) -> None:
        option = QStyleOptionButton()
        self.initStyleOption(option)
        inside = self.style().subElementRect(QStyle.SubElement.SE_PushButtonContents, option, self)
        room = inside.width() - (option.iconSize.width() + 4 if not option.icon.isNull() else 0)
        text = self.fontMetrics().elidedText(self.text(), Qt.TextElideMode.ElideMiddle, room)
        option.text = text
        QStylePainter(self).drawControl(QStyle.ControlElement.CE_PushButton, option)
