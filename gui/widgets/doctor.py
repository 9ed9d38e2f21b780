"""The doctor: why nodes do not meet, hop by hop, with the mend."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from threading import Event
from typing import TYPE_CHECKING, Final

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QDialog, QVBoxLayout, QWidget

from core.errors import ShardboardError
from gui.bridge import Bridge
from gui.theme import XL, L, M, S
from gui.widgets.basics import IconLabel, button, column, label, row
from gui.widgets.scroll_area import ScrollArea
from gui.work import doctor

if TYPE_CHECKING:
    from core.commands.findings import Finding

LOOKS: Final = {"good": ("check", "good"), "note": ("info", "accent"), "bad": ("warning", "bad")}
"""Icon and colour of a verdict."""


class DoctorDialog(QDialog):
    """Shows findings as they come; the checks run on a worker."""

    def __init__(self, bridge: Bridge, parent: QWidget) -> None:
        super().__init__(parent)
        self._bridge = bridge
        self._run = 0
        self._cancel = Event()
        self.setWindowTitle(self.tr("Doctor"))
        self.resize(680, 520)
        self._state = label("", "caption", wrap=True)
        self._list = QVBoxLayout()
        self._list.setSpacing(M)
        self._list.setContentsMargins(0, 0, M, 0)
        inside = QWidget()
        inside.setProperty("role", "page")
        inside.setLayout(column(self._list, None))
        area = ScrollArea(inside, self.tr("What was found"))
        self._again = button(self.tr("Check again"), self.examine)
        close = button(self.tr("Close"), self.accept, role="primary")
        close.setDefault(True)
        outer = column(label(self.tr("Why nodes do not meet"), "heading"), self._state, spacing=S)
        outer.setContentsMargins(XL, XL, XL, L)
        outer.addWidget(area, 1)
        outer.addLayout(row(None, self._again, close))
        self.setLayout(outer)

    def examine(self) -> None:
        """Begin anew; takes some seconds."""
        while (item := self._list.takeAt(0)) is not None:
            widget = item.widget()
            if widget is not None:
                widget.deleteLater()
        self._run += 1
        self._cancel.set()
        self._cancel = cancel = Event()
        self.finished.connect(lambda _: cancel.set())
        self.destroyed.connect(cancel.set)
        self._again.setEnabled(False)
        self._state.setText(self.tr("Looking at this machine, the network and the nodes…"))
        found = partial(self._bridge.tasks.post_to, self, partial(self._add, self._run))
        self._bridge.tasks.start(
            partial(doctor.examine, found, cancel),
            lambda findings: self._bridge.tasks.post_to(self, self._finish, findings),
            lambda error: self._bridge.tasks.post_to(self, self._failed, error),
        )

    def _add(self, run: int, findings: Sequence[Finding]) -> None:
        if run != self._run:
            return
        for finding in findings:
            icon, ink = LOOKS[finding.verdict.value]
            words = column(label(finding.step, "heading"), label(finding.words, wrap=True, selectable=True), spacing=2)
            if finding.mend:
                words.addWidget(label(finding.mend, "caption", wrap=True, selectable=True))
            line = QWidget()
            layout = row(spacing=M)
            layout.addWidget(IconLabel(icon, 20, ink), 0, Qt.AlignmentFlag.AlignTop)
            layout.addLayout(words, 1)
            line.setLayout(layout)
            self._list.addWidget(line)

    def _finish(self, findings: Sequence[Finding]) -> None:
        bad = [finding for finding in findings if finding.verdict.value == "bad"]
        self._again.setEnabled(True)
        if bad:
            words = self.tr("%n check(s) of {0} failed; begin with the first: {1}.", "", len(bad))
            self._state.setText(words.format(len(findings), bad[0].step))
        else:
            self._state.setText(self.tr("All is well."))

    def _failed(self, error: ShardboardError) -> None:
        self._again.setEnabled(True)
        self._state.setText(str(error))
