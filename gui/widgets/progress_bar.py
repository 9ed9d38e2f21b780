"""How much of something is done, as a bar."""

from __future__ import annotations

from typing import Final

from PySide6.QtWidgets import QProgressBar

STEPS: Final = 1000


class ProgressBar(QProgressBar):
    """Empty at first. ``name`` is what a screen reader says; ``width``: pixels, 0: as wide as there is room."""

    def __init__(self, name: str, width: int = 0) -> None:
        super().__init__()
        self.setRange(0, STEPS)
        self.setTextVisible(False)
        self.setAccessibleName(name)
        if width:
            self.setFixedWidth(width)

    def show_share(self, share: float) -> None:
        """``share``: of the whole, 0 to 1."""
        self.setRange(0, STEPS)
        self.setValue(round(STEPS * min(1.0, max(0.0, share))))

    def show_busy(self) -> None:
        """It goes on, nobody knows for how long."""
        self.setRange(0, 0)
