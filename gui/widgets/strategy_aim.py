"""What a person wants of a plan, a button that finds it, and why it is the best: a line above the strategies."""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace
from PySide6.QtCore import QSettings, QSignalBlocker, Qt, Signal
from PySide6.QtWidgets import QWidget

from gui.aims import BOUNDED, KINDS, LATENCY, MEMORY, THROUGHPUT, Aim
from gui.theme import M, S
from gui.widgets.basics import Kind, button, label, row, set_look
from gui.widgets.clamped_label import ClampedLabel
from gui.widgets.fields import spin_box
from gui.widgets.progress_bar import ProgressBar
from gui.widgets.strategy_options import PatientComboBox

MOST_MS: Final = 600_000
BAR_WIDTH: Final = 120
KIND_KEY, BOUND_KEY = "partition/aim", "partition/bound"


class AimBar(QWidget):
    """GUI thread."""

    changed = Signal()
    """Another aim was chosen."""
    wanted = Signal()
    """The best plan is to be found and taken."""
    stopped = Signal()
    """The search is not to go on."""

    def __init__(self) -> None:
        super().__init__()
        tr = self.tr
        self.kind = PatientComboBox()
        self.kind.setAccessibleName(tr("What the plan is for"))
        self.kind.setToolTip(tr("What strategies are ordered by, and what the automatic plan is the best for"))
        names = {
            THROUGHPUT: tr("Throughput"),
            LATENCY: tr("Low latency"),
            MEMORY: tr("Least memory per node"),
            BOUNDED: tr("Throughput within a latency"),
        }
        for kind in KINDS:
            self.kind.addItem(names[kind], kind)
        self.bound = spin_box(1, MOST_MS, Aim().bound_ms, tr("Longest latency of a micro-batch, in milliseconds"))
        self.bound.setSuffix(tr(" ms"))
        self.bound.setToolTip(tr("No micro-batch may take longer through an idle cluster"))
        self.automatic = button(tr("Automatic"), self.wanted.emit, icon="balance")
        self.automatic.setToolTip(tr("Find the best plan over all strategies, nodes and orders, and take it (Ctrl+B)"))
        self.automatic.setShortcut("Ctrl+B")
        self.progress = ProgressBar(tr("Search for the best plan"), BAR_WIDTH)
        self.cancel = button(tr("Cancel"), self.stopped.emit, role="flat")
        self.words = ClampedLabel("small", 2)  # always as high, so that the cards stay where they are
        self.words.setAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
        fields = QWidget()
        fields.setLayout(row(label(tr("Aim for"), "small"), self.kind, self.bound, self.automatic, spacing=S))
        line = row(fields, spacing=M)
        line.setAlignment(fields, Qt.AlignmentFlag.AlignTop)
        line.addWidget(self.words, 1)
        line.addWidget(self.progress)
        line.addWidget(self.cancel)
        self.setLayout(line)
        self._remembered()
        self.show_search(busy=False)
        self.kind.activated.connect(lambda _index: self._tell())
        self.bound.valueChanged.connect(lambda _value: self._tell())

    @property
    def aim(self) -> Aim:
        return Aim(self.kind.currentData(), self.bound.value())

    def set_aim(self, aim: Aim) -> None:
        """Says nothing."""
        with QSignalBlocker(self.bound):
            self.kind.setCurrentIndex(max(0, self.kind.findData(aim.kind)))
            self.bound.setValue(aim.bound_ms)
        self.bound.setVisible(aim.kind == BOUNDED)

    def show_search(self, *, busy: bool) -> None:
        self.progress.setVisible(busy)
        self.cancel.setVisible(busy)
        if not busy:
            self.progress.show_share(0.0)

    def show_share(self, share: float) -> None:
        """Part of the search that is done."""
        self.progress.show_share(share)

    def show_words(self, words: str, kind: Kind = "") -> None:
        """Why the plan is the best, or why there is none."""
        self.words.setText(words)
        set_look(self.words, "role", kind or "small")

    def _tell(self) -> None:
        aim = self.aim
        self.bound.setVisible(aim.kind == BOUNDED)
        QSettings().setValue(KIND_KEY, aim.kind)
        QSettings().setValue(BOUND_KEY, aim.bound_ms)
        self.changed.emit()

    def _remembered(self) -> None:
        settings, usual = QSettings(), Aim()
        kind = str(settings.value(KIND_KEY, usual.kind, type=str))
        bound = settings.value(BOUND_KEY, usual.bound_ms, type=int)
        known = replace(usual, kind=kind) if kind in KINDS else usual
        self.set_aim(replace(known, bound_ms=bound) if isinstance(bound, int) and bound > 0 else known)
