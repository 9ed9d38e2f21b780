"""Text that never takes more room than it was given: labels of so many lines or of shorter words, narrow buttons."""

from __future__ import annotations

from math import ceil

from PySide6.QtCore import QEvent, QRectF, QSize, Qt
from PySide6.QtGui import QFontMetricsF, QPainter, QPaintEvent, QTextLayout, QTextOption
from PySide6.QtWidgets import QLabel, QPushButton, QSizePolicy, QStyle, QStyleOptionButton, QStylePainter

from gui.widgets.basics import ElidedLabel


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


class EitherLabel(ElidedLabel):
    """One line; where it has no room, a shorter one in its place, and its tool tip says the longer."""

    def __init__(self, role: str = "") -> None:
        super().__init__(role)
        self._short = ""

    def set_either(self, text: str, short: str) -> None:
        self._short = short
        self.setText(text)

    def _shown(self) -> str:
        room = self.contentsRect().width()
        if self.fontMetrics().horizontalAdvance(self.text()) <= room:
            return self.text()
        return self.fontMetrics().elidedText(self._short or self.text(), Qt.TextElideMode.ElideRight, room)


def _wrapping() -> QTextOption:
    option = QTextOption()
    option.setWrapMode(QTextOption.WrapMode.WrapAtWordBoundaryOrAnywhere)
    return option


class ElidedButton(QPushButton):
    """A push button that may be narrower than its text, which then ends in "…"."""

    def __init__(self, text: str = "", *, least: int = 90) -> None:
        """``least``: pixels that it is not made narrower than."""
        super().__init__(text)
        self._least = least
        self.setSizePolicy(QSizePolicy.Policy.Maximum, QSizePolicy.Policy.Fixed)

    def minimumSizeHint(self) -> QSize:
        hint = self.sizeHint()
        return QSize(min(self._least, hint.width()), hint.height())

    def paintEvent(self, _event: QPaintEvent) -> None:
        option = QStyleOptionButton()
        self.initStyleOption(option)
        inside = self.style().subElementRect(QStyle.SubElement.SE_PushButtonContents, option, self)
        room = inside.width() - (option.iconSize.width() + 4 if not option.icon.isNull() else 0)
        text = self.fontMetrics().elidedText(self.text(), Qt.TextElideMode.ElideMiddle, room)
        option.text = text
        QStylePainter(self).drawControl(QStyle.ControlElement.CE_PushButton, option)
