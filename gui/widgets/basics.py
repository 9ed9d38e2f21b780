"""The small parts every page is built from, so that all pages look and space alike.

Looks come from the style sheet by the dynamic property ``role`` (and ``kind``): see :mod:`gui.stylesheet`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from PySide6.QtCore import QEvent, QSize, Qt, Signal
from PySide6.QtGui import QColor, QPainter, QPaintEvent
from PySide6.QtWidgets import (
    QFrame,
    QHBoxLayout,
    QLabel,
    QLayout,
    QPushButton,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from gui.theme import XL, XS, L, M, S, Theme
from gui.widgets.scroll_area import ScrollArea

Kind = Literal["", "info", "good", "warn", "bad"]


def set_look(widget: QWidget, name: str, value: object) -> None:
    """Set a dynamic property that the style sheet looks at, and restyle the widget when it changed."""
    if widget.property(name) == value:
        return
    widget.setProperty(name, value)
    widget.style().unpolish(widget)
    widget.style().polish(widget)


def label(text: str = "", role: str = "", *, wrap: bool = False, selectable: bool = False) -> QLabel:
    """A label with a role: title, heading, caption, small, figure, stressed, overline, good, warn, bad or plain."""
    made = QLabel(text)
    made.setTextFormat(Qt.TextFormat.PlainText)
    if role:
        made.setProperty("role", role)
    made.setWordWrap(wrap)
    if wrap:
        made.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Minimum)
    if selectable:
        made.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    return made


class ElidedLabel(QLabel):
    """One line that ends in "…" where there is no room for it; its tool tip then says all of it."""

    def __init__(self, role: str = "") -> None:
        super().__init__()
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setProperty("role", role)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)

    def _shown(self) -> str:
        return self.fontMetrics().elidedText(self.text(), Qt.TextElideMode.ElideRight, self.contentsRect().width())

    def event(self, event: QEvent) -> bool:
        if event.type() == QEvent.Type.ToolTip:
            self.setToolTip(self.text() if self._shown() != self.text() else "")
        return super().event(event)

    def paintEvent(self, _event: QPaintEvent) -> None:
        painter = QPainter(self)
        place = int(self.alignment())
        role = self.foregroundRole()
        self.style().drawItemText(
            painter, self.contentsRect(), place, self.palette(), self.isEnabled(), self._shown(), role
        )


def button(
    text: str,
    clicked: Callable[[], object] | None = None,
    *,
    role: str = "",
    icon: str = "",
    tip: str = "",
) -> QPushButton:
    """A push button; role is "", primary, danger or flat; icon is a name in resources/icons."""
    made = QPushButton(text)
    if role:
        made.setProperty("role", role)
    if icon:
        keep_icon(made, icon, {"primary": "on_accent", "danger": "bad", "flat": "accent"}.get(role, "text"))
    if tip:
        made.setToolTip(tip)
    if clicked is not None:
        made.clicked.connect(lambda _checked=False: clicked())
    return made


def keep_icon(target: QPushButton | QToolButton, name: str, ink: str = "muted", size: int = 16) -> None:
    """Give a button an icon that follows the theme."""
    theme = Theme.of()
    target.setIconSize(QSize(size, size))
    target.setIcon(theme.icon(name, ink))
    follow = _IconFollower(target, name, ink)
    theme.changed.connect(follow.apply)


class _IconFollower(QWidget):
    """Child of a button: repaints its icon when the theme changes, and goes when the button goes."""

    def __init__(self, target: QPushButton | QToolButton, name: str, ink: str) -> None:
        super().__init__(target)
        self.hide()
        self._target, self._name, self._ink = target, name, ink

    def apply(self) -> None:
        self._target.setIcon(Theme.of().icon(self._name, self._ink))


class IconLabel(QWidget):
    """A line icon that follows the theme."""

    def __init__(self, name: str, size: int = 20, ink: str = "muted") -> None:
        super().__init__()
        self._name, self._ink = name, ink
        self.setFixedSize(size, size)
        Theme.of().changed.connect(self.update)

    def set(self, name: str, ink: str) -> None:
        self._name, self._ink = name, ink
        self.update()

    def paintEvent(self, _event: QPaintEvent) -> None:
        painter = QPainter(self)
        ratio = self.devicePixelRatioF()
        painter.drawPixmap(0, 0, Theme.of().pixmap(self._name, self.width(), self._ink, ratio))


class Dot(QWidget):
    """A filled circle in a node's colour."""

    def __init__(self, colour: QColor | None = None, size: int = 10) -> None:
        super().__init__()
        self._colour = colour or QColor(0, 0, 0, 0)
        self.setFixedSize(size, size)

    def set_colour(self, colour: QColor) -> None:
        self._colour = colour
        self.update()

    def paintEvent(self, _event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(self._colour)
        painter.drawEllipse(self.rect())


class Pill(QLabel):
    """A short state in a rounded box."""

    def __init__(self, text: str = "", kind: Kind = "") -> None:
        super().__init__(text)
        self.setProperty("role", "pill")
        self.setProperty("kind", kind)
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setSizePolicy(QSizePolicy.Policy.Maximum, QSizePolicy.Policy.Fixed)

    def set(self, text: str, kind: Kind) -> None:
        if self.text() != text:
            self.setText(text)
        set_look(self, "kind", kind)


def row(
    *parts: QWidget | QLayout | None, spacing: int = S, margins: tuple[int, int, int, int] = (0, 0, 0, 0)
) -> QHBoxLayout:
    """Parts side by side; None is a stretch."""
    made = QHBoxLayout()
    _fill(made, parts, spacing, margins)
    return made


def column(
    *parts: QWidget | QLayout | None, spacing: int = S, margins: tuple[int, int, int, int] = (0, 0, 0, 0)
) -> QVBoxLayout:
    """Parts below one another; None is a stretch."""
    made = QVBoxLayout()
    _fill(made, parts, spacing, margins)
    return made


def _fill(
    layout: QHBoxLayout | QVBoxLayout,
    parts: Sequence[QWidget | QLayout | None],
    spacing: int,
    margins: tuple[int, int, int, int],
) -> None:
    layout.setSpacing(spacing)
    layout.setContentsMargins(*margins)
    for part in parts:
        if part is None:
            layout.addStretch(1)
        elif isinstance(part, QWidget):
            layout.addWidget(part)
        else:
            layout.addLayout(part)


def line() -> QFrame:
    """A thin horizontal rule."""
    made = QFrame()
    made.setProperty("role", "line")
    return made


class Card(QFrame):
    """A titled box; put content in ``body`` (a QVBoxLayout), buttons beside the title in ``tools``."""

    def __init__(self, title: str = "", hint: str = "", *, margin: int = L) -> None:
        super().__init__()
        self.setProperty("role", "card")
        self.heading = label(title, "heading")
        self.hint = ElidedLabel("small")
        self.hint.setText(hint)
        self.hint.setSizePolicy(QSizePolicy.Policy.Maximum, QSizePolicy.Policy.Preferred)
        self.hint.setMinimumWidth(1)
        self.tools = row()
        self.body = QVBoxLayout()
        self.body.setSpacing(S)
        outer = column(spacing=min(M, margin - XS), margins=(margin, margin, margin, margin))
        if title:
            outer.addLayout(row(self.heading, self.hint, None, self.tools, spacing=M))
            self.setAccessibleName(title)
        outer.addLayout(self.body, 1)
        self.setLayout(outer)


class Tile(QFrame):
    """One figure with its name and, below, a line that explains it."""

    def __init__(self, name: str, tip: str = "") -> None:
        super().__init__()
        self.setProperty("role", "card")
        self._name, self._value, self._note = ElidedLabel("overline"), ElidedLabel("figure"), ElidedLabel("small")
        self._name.setText(name)
        self._value.setText("–")
        self.setLayout(column(self._name, self._value, self._note, spacing=XS, margins=(L, M, L, M)))
        self.setAccessibleName(name)
        if tip:
            self.setToolTip(tip)

    def set(self, value: str, note: str = "", kind: Kind = "") -> None:
        if self._value.text() != value:
            self._value.setText(value)
        if self._note.text() != note:
            self._note.setText(note)
        set_look(self._note, "role", kind if kind in {"good", "warn", "bad"} else "small")
        self.setAccessibleDescription(f"{value} {note}".strip())


class EmptyState(QWidget):
    """What a page or a part of it shows when there is nothing yet: an icon, what is missing, what to do."""

    def __init__(
        self, icon: str, title: str, text: str, actions: Sequence[QPushButton] = (), *, width: int = 440
    ) -> None:
        super().__init__()
        mark = IconLabel(icon, 40, "faint")
        self._title = label(title, "heading")
        self._text = label(text, "caption", wrap=True)
        self._text.setAlignment(Qt.AlignmentFlag.AlignHCenter | Qt.AlignmentFlag.AlignTop)
        self._text.setFixedWidth(width)
        inner = column(None, spacing=M)
        inner.addWidget(mark, 0, Qt.AlignmentFlag.AlignHCenter)
        inner.addWidget(self._title, 0, Qt.AlignmentFlag.AlignHCenter)
        inner.addLayout(row(None, self._text, None))
        if actions:
            inner.addSpacing(XS)
            inner.addLayout(row(None, *actions, None))
        inner.addStretch(1)
        self.setLayout(inner)

    def say(self, title: str, text: str) -> None:
        self._title.setText(title)
        self._text.setText(text)


class _Inside(QWidget):
    """What a page scrolls: as high as its lines need once they are wrapped, so that nothing is squeezed instead."""

    def event(self, event: QEvent) -> bool:
        done = super().event(event)
        if event.type() in {QEvent.Type.LayoutRequest, QEvent.Type.Resize}:
            layout = self.layout()
            wraps = layout is not None and layout.hasHeightForWidth()
            wanted = max(0, layout.totalMinimumHeightForWidth(self.width())) if layout is not None and wraps else 0
            if wanted != self.minimumHeight():
                self.setMinimumHeight(wanted)
        return done


class Page(QWidget):
    """A page: title, a line of explanation, tools on the right, a body below; ``inspected`` feeds the inspector."""

    inspected = Signal(object)
    wanted = Signal(str)
    """Name of another page that a person asked for from here."""

    def __init__(self, *, scroll: bool = False) -> None:
        super().__init__()
        self.setProperty("role", "page")
        self._title = label("", "title")
        self.tools = row()
        self.body = QVBoxLayout()
        self.body.setSpacing(L)
        self.body.setContentsMargins(0, 0, 0, 0)
        self.subtitle = ElidedLabel("caption")
        above = row(spacing=M)
        above.addWidget(self._title, 1)
        above.addLayout(self.tools)
        head = column(above, self.subtitle, spacing=2)
        outer = column(head, spacing=L, margins=(XL, XL - XS, XL, XL - XS))
        if scroll:
            inside = _Inside()
            inside.setProperty("role", "page")
            inside.setLayout(self.body)
            area = ScrollArea(inside, sideways=True)
            outer.addWidget(area, 1)
        else:
            outer.addLayout(self.body, 1)
        self.frame = outer
        """Head and body."""
        self.setLayout(outer)

    def shows(self, message: str) -> bool:  # noqa: ARG002 - for pages that do
        """Whether the page itself says this error already, so that the window need not."""
        return False

    def set_head(self, title: str, text: str) -> None:
        """The page's title and the line below it."""
        self._title.setText(title)
        self.subtitle.setText(text)
        self.setAccessibleName(title)
