"""A line across a page that says something a person should know."""

from __future__ import annotations

from typing import Final

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QBoxLayout, QFrame, QLabel, QSizePolicy

from gui.theme import XS, L, M
from gui.widgets.basics import IconLabel, Kind, column, label, row, set_look

LONG: Final = 96
"""Letters of title and text; where there are more, the text stands below the title."""


class Banner(QFrame):
    """Hidden while there is nothing to say."""

    def __init__(self, kind: Kind = "info", *, slim: bool = False) -> None:
        """``slim``: title and text in one line, unless the text is long: for what is no surprise."""
        super().__init__()
        self.setProperty("role", "banner")
        self.setProperty("kind", kind)
        self._icon = IconLabel("info", 20)
        self._title = label("", "heading", wrap=not slim)
        self._text = label("", "", wrap=True, selectable=True)
        self._code = QLabel()
        self._code.setProperty("role", "code")
        self._code.setTextFormat(Qt.TextFormat.PlainText)
        self._code.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self._slim = slim
        self._column = row(self._title, spacing=M) if slim else column(self._title, spacing=2)
        self._column.addWidget(self._text, 1 if slim else 0)
        self.tools = row()
        outer = row(self._icon, spacing=M, margins=(M, XS, M, XS) if slim else (L, M, L, M))
        outer.addLayout(column(self._column, self._code, spacing=XS), 1)
        outer.addLayout(self.tools)
        if not slim:
            outer.setAlignment(self._icon, Qt.AlignmentFlag.AlignTop)
        self.setLayout(outer)
        self.hide()

    def say(self, title: str, text: str, kind: Kind = "info", code: str = "") -> None:
        """``code``: lines of a file that the text is about, shown below it in letters of one width."""
        set_look(self, "kind", kind)
        if self._slim:
            ways, long = QBoxLayout.Direction, len(title) + len(text) > LONG
            self._column.setDirection(ways.TopToBottom if long else ways.LeftToRight)
            self._column.setSpacing(2 if long else M)
        self._icon.set(
            {"bad": "warning", "warn": "warning", "good": "check"}.get(kind, "info"),
            kind if kind in {"bad", "warn", "good"} else "accent",
        )
        self._title.setText(title)
        self._title.setVisible(bool(title))
        self._text.setText(text)
        self._text.setVisible(bool(text))
        self._code.setText(code)
        self._code.setVisible(bool(code))
        self.setAccessibleName(f"{title} {text}".strip())
        self.show()

    def clear(self) -> None:
        self.hide()

    def says(self, message: str) -> bool:
        """Whether it is shown and its text contains ``message``."""
        return not self.isHidden() and message in self._text.text()
