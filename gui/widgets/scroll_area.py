"""What is higher than its room: scrolls, also to what the Tab key goes to."""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QApplication, QFrame, QScrollArea, QWidget

from gui.theme import M


class ScrollArea(QScrollArea):
    """Takes the focus itself, for its keys, only where there is a ``name``: where nothing inside takes it."""

    def __init__(self, inside: QWidget, name: str = "", *, sideways: bool = False) -> None:
        """``sideways``: too wide is possible, too."""
        super().__init__()
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        if not sideways:
            self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setWidget(inside)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus if name else Qt.FocusPolicy.NoFocus)
        self.setAccessibleName(name)
        if name:
            self.setProperty("role", "reading")
        application = QApplication.instance()
        assert isinstance(application, QApplication), "there are widgets"
        application.focusChanged.connect(self._follow)

    def _follow(self, _before: QWidget | None, now: QWidget | None) -> None:
        """Only to what is not to be seen at all: nothing may move under a mouse that clicks."""
        if now is not None and self.isAncestorOf(now) and now.visibleRegion().isEmpty():
            self.ensureWidgetVisible(now, 0, M)
