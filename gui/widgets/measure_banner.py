"""Says how measuring nodes and links goes on, what came of it, and which nodes are not what they were."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gui.bridge import Bridge
from gui.widgets.banner import Banner
from gui.widgets.basics import button
from gui.widgets.progress_bar import ProgressBar

if TYPE_CHECKING:
    from core.cluster.measuring import Outcome


class MeasureBanner(Banner):
    """Hidden while there is nothing to say."""

    def __init__(self, bridge: Bridge) -> None:
        super().__init__("info", slim=True)
        self._bridge = bridge
        self._ended: tuple[str, str] | None = None
        """(title, text) of what the last measurement left undone."""
        self._dismissed: dict[str, int] = {}
        """How much was said of each stale node when a person waved it off."""
        self._bar = ProgressBar(self.tr("Progress of measuring"), 160)
        self.cancel = button(self.tr("Cancel"), bridge.cancelMeasuring)
        self.again = button(self.tr("Measure again"), self._again, role="primary")
        self.dismiss = button(self.tr("Dismiss"), self._dismiss, role="flat")
        for tool in (self._bar, self.cancel, self.again, self.dismiss):
            self.tools.addWidget(tool)
        bridge.measureProgress.connect(self._progress)
        bridge.measureEnded.connect(self._measured)
        bridge.measurementsChanged.connect(self._refresh)
        bridge.nodesChanged.connect(self._refresh)
        self._refresh()

    def _progress(self, share: float, words: str) -> None:
        self._bar.show_share(share)
        self._ended = None
        self._show_tools(going=True, stale=False)
        self.say(self.tr("Measuring nodes and links"), words[:1].upper() + words[1:], "info")

    def _measured(self, outcome: Outcome | None) -> None:
        problems = (*outcome.refused.values(), *outcome.problems) if outcome is not None else ()
        self._ended = (self.tr("Not everything was measured"), " ".join(problems)) if problems else None
        self._dismissed.clear()
        self._refresh()

    def _again(self) -> None:
        self._bridge.measureNodes(tuple(self._bridge.stale))

    def _dismiss(self) -> None:
        if self._ended is not None:
            self._ended = None
        else:
            self._dismissed = {str(node): len(reasons) for node, reasons in self._bridge.stale.items()}
        self._refresh()

    def _refresh(self) -> None:
        if self._bridge.measuring:
            return
        stale = {
            node: reasons
            for node, reasons in self._bridge.stale.items()
            if len(reasons) > self._dismissed.get(str(node), 0)
        }
        self._show_tools(going=False, stale=bool(stale) and self._ended is None)
        if self._ended is not None:
            self.say(*self._ended, "warn")
        elif stale:
            words = [
                self.tr("{0} {1}.").format(self._bridge.name_of(node), "; ".join(reasons))
                for node, reasons in stale.items()
            ]
            self.again.setEnabled(set(stale) <= set(self._bridge.measurable()))
            self.say(self.tr("Predictions rest on measurements that no longer hold"), " ".join(words), "warn")
        else:
            self.clear()

    def _show_tools(self, *, going: bool, stale: bool) -> None:
        self._bar.setVisible(going)
        self.cancel.setVisible(going)
        self.again.setVisible(stale)
        self.dismiss.setVisible(not going)
