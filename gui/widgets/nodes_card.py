"""The nodes under a plan: what sets the pace and what would be better, and a row for each with what it costs."""

from __future__ import annotations

from PySide6.QtCore import Qt, Signal

from gui.theme import M
from gui.widgets.advice import Advice
from gui.widgets.basics import Card, button, label, row
from gui.widgets.node_budget import NodeBudget


class NodesCard(Card):
    """GUI thread."""

    sharedBySpeed = Signal()

    def __init__(self) -> None:
        super().__init__("", margin=M)
        self.setAccessibleName(self.tr("Nodes"))
        self.advice = Advice()
        self.budget = NodeBudget()
        self.by_speed = button(self.tr("By speed"), self.sharedBySpeed.emit, icon="balance")
        self.by_speed.setAccessibleName(self.tr("Shares by speed"))
        self.by_speed.setToolTip(self.tr("Give each node a part of the work in proportion to its speed"))
        head = row(spacing=M)
        head.addWidget(label(self.tr("Nodes"), "heading"), 0, Qt.AlignmentFlag.AlignTop)
        head.addWidget(self.advice, 1)
        head.addWidget(self.by_speed, 0, Qt.AlignmentFlag.AlignBottom)
        self.body.addLayout(head)
        self.body.addWidget(self.budget)
