"""The menu of a ribbon: what can be done with a layer, its node, a cut, or the edge between two shares."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from PySide6.QtWidgets import QMenu, QWidget

from core.plan.form import NodeId
from gui.bridge import Bridge
from gui.partition_state import PIPELINE, SINGLE
from gui.widgets.node_ribbon import Spot

if TYPE_CHECKING:
    from gui.partition_ribbon import RibbonEdits


class RibbonMenu(QMenu):
    """What cannot be done now is there too, greyed, with the reason. GUI thread."""

    def __init__(self, bridge: Bridge, edits: RibbonEdits, parent: QWidget) -> None:
        super().__init__(parent)
        self._bridge, self._edits = bridge, edits
        self._parts: list[QMenu] = []
        self.setToolTipsVisible(True)

    def fill(self, spot: Spot) -> None:
        """Offer what can be done at ``spot``."""
        self.clear()
        for part in self._parts:
            part.deleteLater()
        self._parts = []
        if spot.cut >= 0:
            self._offer(self.tr("Let the planner place this cut"), lambda: self._edits.place(spot.cut))
        elif spot.edge is not None:
            self._offer(self.tr("Share by speed"), lambda: self._share_by_speed(spot))
        elif spot.layer >= 0:
            self._fill_layer(spot)

    def _fill_layer(self, spot: Spot) -> None:
        edits = self._edits
        self._offer(self.tr("Show this layer"), lambda: edits.layerPicked.emit(spot.layer))
        self.addSeparator()
        self._fill_pins(spot)
        if not spot.node:
            return
        self.addSeparator()
        name = self._bridge.name_of(spot.node)
        why = edits.why_not_left_out()
        self._offer(self.tr("Leave {0} out").format(name) + "\tDel", lambda: edits.leave_out(spot.node), why)
        request = edits.asked()
        others = [node for node in request.nodes if node != spot.node] if request is not None else []
        if others and edits.state.strategy != SINGLE:
            swap = self._part(self.tr("{0} changes places with").format(name))
            for node in others:
                self._offer(self._bridge.name_of(node), self._put(spot.node, node), menu=swap)

    def _fill_pins(self, spot: Spot) -> None:
        edits, request = self._edits, self._edits.asked()
        if request is None:
            return
        if request.strategy != PIPELINE:
            why = self.tr("Only a pipeline keeps a layer on one node: here every node runs it, or a part of it.")
            if edits.state.strategy == SINGLE:
                why = self.tr("Only a pipeline keeps a layer on a node: here one node runs all of them.")
            self._offer(self.tr("Keep this layer on a node"), lambda: None, why)
            return
        kept = dict(request.pins).get(spot.layer)
        if spot.node and kept is None:
            self._offer(self.tr("Keep on {0}").format(self._bridge.name_of(spot.node)), self._pin(spot, spot.node))
        if kept is not None:
            self._offer(self.tr("Unpin from {0}").format(self._bridge.name_of(kept)), self._pin(spot, None))
        others = [node for node in request.nodes if node not in (spot.node, kept)]
        if others:
            part = self._part(self.tr("Keep on another node"))
            for node in others:
                self._offer(self._bridge.name_of(node), self._pin(spot, node), menu=part)

    def _pin(self, spot: Spot, node: str | None) -> Callable[[], None]:
        return lambda: self._edits.pin(spot.layer, None if node is None else NodeId(node))

    def _put(self, node: str, onto: str) -> Callable[[], None]:
        return lambda: self._edits.put(node, onto)

    def _share_by_speed(self, spot: Spot) -> None:
        request = self._edits.asked()
        if request is not None and spot.edge is not None:
            self._edits.share_by_speed(self._edits.group_of(spot.edge[0]))

    def _part(self, text: str) -> QMenu:
        made = QMenu(text, self)
        made.setToolTipsVisible(True)
        self._parts.append(made)
        self.addMenu(made)
        return made

    def _offer(self, text: str, act: Callable[[], None], why_not: str = "", menu: QMenu | None = None) -> None:
        action = (menu or self).addAction(text)
        action.triggered.connect(act)
        action.setEnabled(not why_not)
        action.setToolTip(why_not or text.partition("\t")[0])
