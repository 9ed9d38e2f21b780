"""Says that the layers are being timed, or that this was interrupted, and what can be done about it."""

from __future__ import annotations

import os
from typing import Final

from PySide6.QtCore import QDateTime, QTimer

from core.cost.profile_marks import ProfileMark
from gui.bridge import Bridge
from gui.widgets.banner import Banner
from gui.widgets.basics import button
from gui.widgets.progress_bar import ProgressBar
from gui.widgets.units import percent

LONG_MS: Final = 1500
"""Timing that takes less is not worth a line."""


class ProfileBanner(Banner):
    """Hidden while there is nothing to say."""

    def __init__(self, bridge: Bridge) -> None:
        super().__init__("info", slim=True)
        self._bridge = bridge
        self._bar = ProgressBar(self.tr("Progress of timing the layers"), 140)
        self.cancel = button(self.tr("Cancel"), bridge.cancelProfile)
        self.again = button(self.tr("Measure again"), bridge.measureProfile, role="primary")
        for tool in (self._bar, self.cancel, self.again):
            self.tools.addWidget(tool)
        self._long = QTimer(self)
        self._long.setSingleShot(True)
        self._long.setInterval(LONG_MS)
        self._long.timeout.connect(self._refresh)
        bridge.profileProgress.connect(self._progress)
        for changed in (bridge.profileReady, bridge.profileFailed, bridge.profileInterrupted, bridge.modelOpened):
            changed.connect(self._refresh)
        self._refresh()

    def _progress(self, share: float) -> None:
        self._bar.show_share(share)
        if self.isHidden() and not self._long.isActive():
            self._long.start()

    def _refresh(self, *_news: object) -> None:
        bridge, mark = self._bridge, self._bridge.profile_mark
        going = bridge.profiling
        self._bar.setVisible(going)
        self.cancel.setVisible(going)
        self.again.setVisible(not going)
        if mark is not None:
            title = self.tr("Timing the layers was interrupted")
            self.say(title, self._words(mark, going=going), "info" if going else "warn")
        elif going:
            self.say("", self.tr("Timing the layers on this machine; predictions come when that is done."), "info")
        else:
            self._long.stop()
            self.clear()

    def _words(self, mark: ProfileMark, *, going: bool) -> str:
        when = QDateTime.fromSecsSinceEpoch(int(mark.when)).toString("yyyy-MM-dd HH:mm")
        done = percent(mark.share)
        if going:
            return self.tr("The model was closed when {0} was done. It is measured again now.").format(done)
        if mark.process == os.getpid():
            return self.tr("It was stopped when {0} was done. Without it nothing can be predicted.").format(done)
        return self.tr(
            "The panel was closed, or ended, while it timed this model ({0}, {1} done). "
            "Without it nothing can be predicted."
        ).format(when, done)
